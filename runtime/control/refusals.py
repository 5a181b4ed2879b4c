"""What the registry and the stores refuse, as the API says it."""

from __future__ import annotations

from collections.abc import Mapping

from host_bindings.contract import Failure
from runtime.control.envelope import Code, ControlError
from runtime.registry import (
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
)

_ANSWERS: Mapping[type[RegistryError], tuple[int, Code]] = {
    InvalidName: (400, Code.INVALID),
    NamespaceExists: (409, Code.NAMESPACE_CONFLICT),
    NamespaceNotEmpty: (409, Code.NAMESPACE_CONFLICT),
    UnknownNamespace: (404, Code.NAMESPACE_NOT_FOUND),
    UnknownScript: (404, Code.SCRIPT_NOT_FOUND),
    UnknownVersion: (404, Code.VERSION_NOT_FOUND),
    ResourceInUse: (409, Code.IN_USE),
}

_RESOURCE_ANSWERS: Mapping[str, tuple[Code, Code]] = {
    "kv_namespace": (Code.KV_NOT_FOUND, Code.KV_EXISTS),
    "r2_bucket": (Code.R2_BUCKET_NOT_FOUND, Code.R2_BUCKET_EXISTS),
    "d1": (Code.D1_NOT_FOUND, Code.D1_EXISTS),
}
"""By type: there is none, there is one already."""


def refusal(error: RegistryError) -> ControlError | None:
    """None for a fault of the registry's own."""
    message = str(error)
    if isinstance(error, UnknownResource):
        return ControlError(404, _RESOURCE_ANSWERS[error.type][0], message)
    if isinstance(error, ResourceExists):
        return ControlError(409 if error.type == "r2_bucket" else 400, _RESOURCE_ANSWERS[error.type][1], message)
    if type(error) not in _ANSWERS:
        return None
    status, code = _ANSWERS[type(error)]
    return ControlError(status, code, message)


def failed(failure: Failure, code: Code) -> ControlError:
    """`code` is for what is the storage's own fault; a limit or a wrong value has HTTP's status and says why."""
    status = getattr(failure, "status", 400)
    return ControlError(status, code if status >= 500 else Code.INVALID, failure.message)
