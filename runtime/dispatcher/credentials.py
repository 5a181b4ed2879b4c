"""Resolvers for callers who prove who they are: a key of the tenant's, or a signed token that names the tenant.

Both come as `Authorization: Bearer ...`. Every refusal says the same, whatever was wrong with the credential: a caller
learns nothing by trying.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from runtime.dispatcher.errors import Refused
from runtime.dispatcher.resolver import USER_HEADER, RequestHead
from runtime.settings import SettingsError

CREDENTIAL_HEADER = "Authorization"

ALGORITHMS = ("HS256", "RS256", "ES256")

SECRET_BYTES_MIN = 32
"""RFC 7518, section 3.2: a key for HS256 is at least as long as its hash."""

CLOCK_LEEWAY_S = 30
"""How far the clocks of whoever signs and of this machine may be apart."""

VERIFIED_MAX = 4_096
"""Tokens whose signature need not be checked again until they expire."""

TOKEN_CHARACTERS_MAX = 8_000


def bearer(head: RequestHead) -> str:
    """The credential. Raises `Refused` if there is not exactly one."""
    values = head.headers.getall(CREDENTIAL_HEADER, ())
    scheme, _, credential = (values[0] if len(values) == 1 else "").partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential or len(credential) > TOKEN_CHARACTERS_MAX:
        raise unauthorized()
    return credential


def unauthorized() -> Refused:
    return Refused(
        401,
        "unauthorized",
        "A valid credential is needed: Authorization: Bearer ...",
        headers='www-authenticate: Bearer realm="tenants"\n',
    )


class KeyResolver:
    """Takes the tenant from the key (a token with the permission `call`) that was made for it."""

    verified = True
    identity_header = USER_HEADER
    writes_identity = True
    credential_header: str | None = CREDENTIAL_HEADER

    def __init__(self, find: Callable[[str], str | None]) -> None:
        """`find` gives the script that a key is for, in a time that tells nothing of other keys."""
        self._find = find

    def resolve(self, head: RequestHead) -> str:
        script = self._find(bearer(head))
        if script is None:
            raise unauthorized()
        return script


@dataclass(frozen=True)
class JwtRules:
    """What a token must be: signed with one of `keys` by `algorithm`, not expired, and naming a tenant in `claim`."""

    algorithm: str
    keys: Mapping[str | None, Any] = field(repr=False)
    """By key id; None is the key for tokens that name none."""
    claim: str
    audience: str | None
    issuer: str | None


class JwtResolver:
    """Takes the tenant from a claim of a JSON Web Token (RFC 7519)."""

    verified = True
    identity_header = USER_HEADER
    writes_identity = True
    credential_header: str | None = CREDENTIAL_HEADER

    def __init__(self, rules: JwtRules, *, now: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._now = now
        self._verified: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        """By the token's SHA-256: the tenant, and until when the token is good."""

    def resolve(self, head: RequestHead) -> str:
        token = bearer(head)
        name = hashlib.sha256(token.encode()).digest()
        found = self._verified.get(name)
        if found is None:
            found = self._verify(token)
            self._verified[name] = found
            if len(self._verified) > VERIFIED_MAX:
                self._verified.popitem(last=False)
        elif self._now() > found[1]:
            del self._verified[name]
            raise unauthorized()
        return found[0]

    def _verify(self, token: str) -> tuple[str, float]:
        rules = self._rules
        try:
            key = rules.keys.get(jwt.get_unverified_header(token).get("kid"), rules.keys.get(None))
            if key is None:
                raise unauthorized()
            claims = jwt.decode(
                token,
                key,
                algorithms=[rules.algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["exp"], "verify_aud": rules.audience is not None},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            raise unauthorized() from None
        script = claims.get(rules.claim)
        if not isinstance(script, str) or not script:
            raise unauthorized()
        return script, float(claims["exp"]) + CLOCK_LEEWAY_S


def load_jwt_rules(
    algorithm: str, key_file: Path, claim: str, audience: str | None = None, issuer: str | None = None
) -> JwtRules:
    """Reads the key: a secret, a public key in PEM form, or a JWKS document (RFC 7517).

    Raises `SettingsError`, without a word of what is in the file, if it does not suit the algorithm.
    """
    try:
        text = key_file.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"jwt_key_file: {key_file} cannot be read: {error.strerror}") from None
    keys: Mapping[str | None, Any]
    keys = _key_set(text, algorithm) if text.startswith(b"{") else {None: _single_key(text, algorithm)}
    if not keys:
        raise SettingsError(f"jwt_key_file: {key_file} has no key for {algorithm}")
    return JwtRules(algorithm, keys, claim, audience, issuer)


def _single_key(text: bytes, algorithm: str) -> Any:
    if algorithm == "HS256":
        if text.startswith(b"-----BEGIN"):
            raise SettingsError("jwt_key_file: HS256 takes a secret; this is a key of another kind")
        if len(text) < SECRET_BYTES_MIN:
            raise SettingsError(f"jwt_key_file: the secret for HS256 must have at least {SECRET_BYTES_MIN} bytes")
        return text
    if not text.startswith(b"-----BEGIN PUBLIC KEY-----"):
        raise SettingsError(f"jwt_key_file: {algorithm} takes a public key in PEM form (BEGIN PUBLIC KEY), or a JWKS")
    try:
        return _algorithm(algorithm).prepare_key(text)
    except (jwt.PyJWTError, ValueError, TypeError):
        raise SettingsError(f"jwt_key_file: the key is not one for {algorithm}") from None


def _key_set(text: bytes, algorithm: str) -> dict[str | None, Any]:
    try:
        listed: Sequence[Any] = json.loads(text)["keys"]
        found: dict[str | None, Any] = {}
        for entry in listed:
            if entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
                continue
            if entry.get("kty") != {"HS256": "oct", "RS256": "RSA", "ES256": "EC"}[algorithm]:
                continue
            key = _algorithm(algorithm).from_jwk(entry)
            if algorithm == "HS256" and len(key) < SECRET_BYTES_MIN:
                raise SettingsError(f"jwt_key_file: a secret for HS256 must have at least {SECRET_BYTES_MIN} bytes")
            if hasattr(key, "private_numbers"):
                raise SettingsError("jwt_key_file: the JWKS has a private key: only public ones belong here")
            found[entry.get("kid")] = key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError("jwt_key_file: it is neither a key nor a JWKS document") from None
    if len(found) == 1:
        found.setdefault(None, next(iter(found.values())))
    return found


def _algorithm(name: str) -> Any:
    return jwt.get_algorithm_by_name(name)
