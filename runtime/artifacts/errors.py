"""What can go wrong with an artifact.

    ArtifactError
    +-- RejectedUpload        the upload is at fault; nothing has changed
    +-- ArtifactMissing       no artifact with this digest is stored
    +-- ArtifactUnusable      a stored artifact can no longer be made to run here
    +-- CompilerFailed        the compile child could not do its work, whatever the component: a fault of the host

Each has a `message` that is safe to show: it names nothing of the host's.
"""

from __future__ import annotations

INVALID_SCRIPT = 10021
"""Cloudflare's API error code for a script that does not pass validation."""

SCRIPT_TOO_LARGE = 10027
"""Cloudflare's API error code for a script above the size limit."""


class ArtifactError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RejectedUpload(ArtifactError):
    """`status` is an HTTP status (4xx), `code` an error code as Cloudflare's API has them."""

    def __init__(self, message: str, *, status: int = 400, code: int = INVALID_SCRIPT) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ArtifactMissing(ArtifactError):
    pass


class ArtifactUnusable(ArtifactError):
    pass


class CompilerFailed(ArtifactError):
    pass
