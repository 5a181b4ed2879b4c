"""What is to be deployed, whether it is deployed already, and deploying it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.cli.client import AdminClient
from runtime.settings import ServerSettings, SettingsError


@dataclass(frozen=True)
class Deployment:
    """A component and its configuration, in the shapes of the management API's metadata."""

    name: str
    component: Path
    bindings: list[dict[str, Any]] = field(default_factory=list, repr=False)
    limits: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)

    def metadata(self) -> dict[str, Any]:
        return {"bindings": self.bindings, "limits": self.limits, "tags": self.tags}


def deploy_if_changed(client: AdminClient, settings: ServerSettings, deployment: Deployment) -> dict[str, Any] | None:
    """The new version as the API shows it; None if the very same is deployed already."""
    current = client.script(settings.namespace, deployment.name)
    if current is not None and is_same(current, deployment, settings):
        return None
    return deploy_anew(client, settings, deployment)


def deploy_anew(client: AdminClient, settings: ServerSettings, deployment: Deployment) -> dict[str, Any]:
    """The new version as the API shows it."""
    return client.put_script(settings.namespace, deployment.name, deployment.metadata(), deployment.component)


def is_same(script: dict[str, Any], deployment: Deployment, settings: ServerSettings) -> bool:
    """Whether a script, as the API shows it, is what would be deployed. Secrets are not shown: never the same."""
    if any(binding["type"] == "secret_text" for binding in deployment.bindings):
        return False
    return bool(
        _by_name(script["bindings"]) == _by_name(deployment.bindings)
        and script["limits"] == _complete_limits(deployment.limits, settings)
        and script["tags"] == deployment.tags
        and script["etag"] == _digest(deployment.component)
    )


def _by_name(bindings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {binding["name"]: binding for binding in bindings}


def _complete_limits(given: dict[str, Any], settings: ServerSettings) -> dict[str, Any] | None:
    """The limits with the defaults filled in; None if they are not valid, which the server will then say."""
    from runtime.engine.limits import InvalidLimits, LimitPolicy

    try:
        limits = LimitPolicy.of(settings).read(given)
    except (InvalidLimits, SettingsError):
        return None
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
