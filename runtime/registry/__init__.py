"""What is deployed: dispatch namespaces, scripts, their immutable versions, bindings, limits and secrets.

One SQLite file, written here and nowhere else. The dispatcher, the management API and the server may enter. `find`
answers from memory and is the only thing that a request waits for; everything else goes through the database.
"""

from runtime.registry.errors import (
    InvalidName,
    NamespaceExists,
    NamespaceNotEmpty,
    RegistryError,
    UnknownNamespace,
    check_name,
)
from runtime.registry.registry import Registry
from runtime.registry.versions import Namespace, Script, Version

__all__ = [
    "InvalidName",
    "Namespace",
    "NamespaceExists",
    "NamespaceNotEmpty",
    "Registry",
    "RegistryError",
    "Script",
    "UnknownNamespace",
    "Version",
    "check_name",
]
