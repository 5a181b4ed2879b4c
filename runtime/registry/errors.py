"""Why the registry refuses: `RegistryError` and, under it, one class for each reason a caller may tell apart.

RegistryError
    InvalidName          a name outside the rule for names
    UnknownNamespace     there is no such dispatch namespace
    NamespaceExists      there is one already
    NamespaceNotEmpty    it still has scripts
    UnknownScript        there is no such script
    UnknownVersion       there is no such version of the script
    UnknownResource      there is no such KV namespace, bucket or database
    ResourceExists       there is one of that name already
    ResourceInUse        a script binds it
"""

from __future__ import annotations

from runtime.settings import NAME_PATTERN, NAME_RULE

RESOURCE_NAMES = {"kv_namespace": "KV namespace", "r2_bucket": "R2 bucket", "d1": "D1 database"}
"""The types of resources, as people call them."""


class RegistryError(Exception):
    """The message may be shown to whoever manages the platform."""


class InvalidName(RegistryError):
    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"The {kind} name {name[:80]!a} is not valid: a name is {NAME_RULE}.")


class UnknownNamespace(RegistryError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no dispatch namespace {name[:80]!a}.")


class NamespaceExists(RegistryError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The dispatch namespace {name!a} exists already.")


class NamespaceNotEmpty(RegistryError):
    def __init__(self, name: str, scripts: int) -> None:
        super().__init__(
            f"The dispatch namespace {name!a} still has {scripts} script{'s' * (scripts > 1)}; delete them first."
        )


class UnknownScript(RegistryError):
    def __init__(self, namespace: str, name: str) -> None:
        super().__init__(f"There is no script {name[:80]!a} in the namespace {namespace[:80]!a}.")


class UnknownVersion(RegistryError):
    def __init__(self, id: str) -> None:
        super().__init__(f"There is no version {id[:80]!a} of this script, or it is not kept any more.")


class UnknownResource(RegistryError):
    def __init__(self, type: str, id: str) -> None:
        super().__init__(f"There is no {RESOURCE_NAMES[type]} {id[:80]!a}.")
        self.type = type


class ResourceExists(RegistryError):
    def __init__(self, type: str, name: str) -> None:
        super().__init__(f"A {RESOURCE_NAMES[type]} called {name[:80]!a} exists already.")
        self.type = type


class ResourceInUse(RegistryError):
    def __init__(self, type: str, script: str, binding: str) -> None:
        super().__init__(
            f"The {RESOURCE_NAMES[type]} is bound by the script {script!a} as {binding!a}: deploy the script without "
            "that binding first."
        )


def check_name(kind: str, name: str) -> None:
    """Raises `InvalidName` unless a namespace or a script may have this name; `kind` is for the message."""
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidName(kind, name)
