"""Component bytes, from upload to machine code: checked, hoisted, compiled in a child process, stored by content.

Entered by the dispatcher and the management API, through `ArtifactStore`. It knows nothing of tenants or of HTTP.
"""

from runtime.artifacts.errors import ArtifactError, ArtifactMissing, ArtifactUnusable, CompilerFailed, RejectedUpload
from runtime.artifacts.limits import UploadLimits
from runtime.artifacts.store import Artifact, ArtifactStore, CompiledArtifact

__all__ = [
    "Artifact",
    "ArtifactError",
    "ArtifactMissing",
    "ArtifactStore",
    "ArtifactUnusable",
    "CompiledArtifact",
    "CompilerFailed",
    "RejectedUpload",
    "UploadLimits",
]
