"""What is deployed: dispatch namespaces, scripts, versions and deployments, secrets; resources, grants and tokens.

One SQLite file, written here and nowhere else. The dispatcher, the management API and the server may enter. `find` and
`script` answer from memory and are the only thing that a request waits for; everything else goes through the database.
"""

from runtime.registry.errors import (
    RESOURCE_NAMES,
    InvalidName,
    NamespaceExists,
    NamespaceNotEmpty,
    RegistryError,
    ResourceExists,
    ResourceInUse,
    UnknownNamespace,
    UnknownResource,
    UnknownScript,
    UnknownVersion,
    check_name,
)
from runtime.registry.registry import Registry
from runtime.registry.resources import Grant, ResourceRecord, private_id
from runtime.registry.rotation import rotate_key
from runtime.registry.seal import load_seal
from runtime.registry.tokens import Permission, Token
from runtime.registry.versions import (
    Content,
    Deployment,
    Module,
    Namespace,
    Origin,
    Retention,
    Script,
    Share,
    Version,
)

__all__ = [
    "RESOURCE_NAMES",
    "Content",
    "Deployment",
    "Grant",
    "InvalidName",
    "Module",
    "Namespace",
    "NamespaceExists",
    "NamespaceNotEmpty",
    "Origin",
    "Permission",
    "Registry",
    "RegistryError",
    "ResourceExists",
    "ResourceInUse",
    "ResourceRecord",
    "Retention",
    "Script",
    "Share",
    "Token",
    "UnknownNamespace",
    "UnknownResource",
    "UnknownScript",
    "UnknownVersion",
    "Version",
    "check_name",
    "load_seal",
    "private_id",
    "rotate_key",
]
