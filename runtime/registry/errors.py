"""Why the registry refuses: `RegistryError` and, under it, one class for each reason a caller may tell apart.

RegistryError
    InvalidName          a name outside the rule for names
    UnknownNamespace     there is no such dispatch namespace
    NamespaceExists      there is one already
    NamespaceNotEmpty    it still has scripts
"""

from __future__ import annotations

from runtime.settings import NAME_PATTERN, NAME_RULE


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


def check_name(kind: str, name: str) -> None:
    """Raises `InvalidName` unless a namespace or a script may have this name; `kind` is for the message."""
    if not NAME_PATTERN.fullmatch(name):
        raise InvalidName(kind, name)
