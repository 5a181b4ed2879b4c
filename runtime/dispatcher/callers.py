"""Which resolver the settings ask for: who may call, and whom."""

from __future__ import annotations

from datetime import UTC, datetime

from runtime.dispatcher.credentials import JwtResolver, KeyResolver, load_jwt_rules
from runtime.dispatcher.resolver import HeaderResolver, HostResolver, PathResolver, Resolver
from runtime.registry.catalogue import TokenCatalogue
from runtime.settings import ServerSettings


def open_resolver(settings: ServerSettings, tokens: TokenCatalogue) -> Resolver:
    """Raises `SettingsError` if the key that proves tokens cannot be used. Reads a file."""
    match settings.resolver:
        case "host":
            assert settings.tenant_domain is not None
            return HostResolver(settings.tenant_domain)
        case "path":
            return PathResolver()
        case "key":
            return KeyResolver(lambda value: tenant_of_key(tokens, settings.namespace, value))
        case "jwt":
            assert settings.jwt_key_file is not None
            return JwtResolver(
                load_jwt_rules(
                    settings.jwt_algorithm,
                    settings.jwt_key_file,
                    settings.jwt_claim,
                    settings.jwt_audience,
                    settings.jwt_issuer,
                )
            )
        case "header":
            return HeaderResolver(proxies=settings.proxy_networks)


def tenant_of_key(tokens: TokenCatalogue, namespace: str, value: str) -> str | None:
    """The script that the owner of this token may call in the namespace; None if it may call none."""
    token = tokens.find(value)
    if token is None or token.tenant is None or "call" not in token.permissions:
        return None
    if token.tenant.namespace != namespace or token.status(datetime.now(UTC)) != "active":
        return None
    return token.tenant.script
