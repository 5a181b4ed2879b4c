"""Who is asked for when the caller proves it: by a key of the tenant's, or by a signed token."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from runtime.dispatcher.credentials import JwtResolver, KeyResolver, load_jwt_rules
from runtime.dispatcher.errors import Refused
from runtime.settings import SettingsError

NOW = 1_800_000_000.0
LATER = 32_000_000_000
SECRET = b"a secret of at least thirty-two bytes"
OTHER_SECRET = b"another secret of more than thirty-two bytes"


@dataclass
class Head:
    authorization: tuple[str, ...] = ()
    path: str = "/"
    peer: str | None = None
    method: str = "GET"
    headers: CIMultiDictProxy[str] = field(init=False)

    def __post_init__(self) -> None:
        self.headers = CIMultiDictProxy(CIMultiDict([("Authorization", value) for value in self.authorization]))


def refusal_of(resolver: JwtResolver | KeyResolver, *authorization: str) -> tuple[int, str, str]:
    with pytest.raises(Refused) as caught:
        resolver.resolve(Head(authorization))
    return caught.value.status, caught.value.code, caught.value.message


UNAUTHORIZED = (401, "unauthorized", "A valid credential is needed: Authorization: Bearer ...")


# Keys


def test_a_key_opens_its_tenant() -> None:
    resolver = KeyResolver({"good-key": "acme"}.get)

    assert resolver.verified
    assert resolver.resolve(Head(("Bearer good-key",))) == "acme"
    assert resolver.resolve(Head(("bearer  good-key ",))) == "acme"


@pytest.mark.parametrize(
    "authorization",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        ("Basic good-key",),
        ("good-key",),
        ("Bearer bad-key",),
        ("Bearer good-key", "Bearer good-key"),
        ("Bearer " + "x" * 10_000,),
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(authorization: tuple[str, ...]) -> None:
    assert refusal_of(KeyResolver({"good-key": "acme"}.get), *authorization) == UNAUTHORIZED


# Signed tokens


def rules_file(tmp_path: Path, content: bytes | str) -> Path:
    path = tmp_path / "key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def resolver(tmp_path: Path) -> JwtResolver:
    rules = load_jwt_rules("HS256", rules_file(tmp_path, SECRET), "sub")
    return JwtResolver(rules, now=lambda: NOW)


def signed(claims: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **headers: str) -> str:
    return jwt.encode(claims, key, algorithm, headers=headers or None)


def test_a_token_opens_the_tenant_that_it_names(resolver: JwtResolver) -> None:
    token = signed({"sub": "acme", "exp": LATER})

    assert [resolver.resolve(Head((f"Bearer {token}",))) for _ in range(2)] == ["acme", "acme"]


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "acme"},
        {"sub": "acme", "exp": 1},
        {"exp": LATER},
        {"sub": "", "exp": LATER},
        {"tenant": "acme", "exp": LATER},
        {"sub": "acme", "exp": LATER, "nbf": LATER},
        {"sub": "acme", "exp": "never"},
    ],
)
def test_a_token_without_all_that_it_needs_opens_nothing(resolver: JwtResolver, claims: dict[str, Any]) -> None:
    assert refusal_of(resolver, f"Bearer {signed(claims)}") == UNAUTHORIZED


def test_a_token_that_was_good_ends_when_it_expires(tmp_path: Path) -> None:
    now = [NOW]
    resolver = JwtResolver(load_jwt_rules("HS256", rules_file(tmp_path, SECRET), "sub"), now=lambda: now[0])
    token = signed({"sub": "acme", "exp": LATER})
    assert resolver.resolve(Head((f"Bearer {token}",))) == "acme"

    now[0] = LATER + 3600.0

    assert refusal_of(resolver, f"Bearer {token}") == UNAUTHORIZED


def test_a_signature_by_another_key_or_by_none_opens_nothing(resolver: JwtResolver) -> None:
    claims = {"sub": "acme", "exp": LATER}

    assert refusal_of(resolver, f"Bearer {signed(claims, OTHER_SECRET)}") == UNAUTHORIZED
    assert refusal_of(resolver, f"Bearer {signed(claims, None, 'none')}") == UNAUTHORIZED
    assert refusal_of(resolver, f"Bearer {signed(claims, SECRET * 2, 'HS512')}") == UNAUTHORIZED


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n\0"), max_size=300))
def test_no_text_that_is_not_a_token_opens_anything(text: str) -> None:
    rules = load_jwt_rules("HS256", Path(__file__), "sub")

    with pytest.raises(Refused):
        JwtResolver(rules).resolve(Head((f"Bearer {text}",)))


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_changed_token_opens_anything(position: int, difference: int) -> None:
    rules = load_jwt_rules("HS256", Path(__file__), "sub")
    token = signed({"sub": "acme", "exp": LATER}, Path(__file__).read_bytes().strip()).encode()
    position %= len(token)
    changed = token[:position] + bytes([token[position] ^ difference]) + token[position + 1 :]
    # The last character of the signature has bits that mean nothing.
    if changed[:-1] == token[:-1]:
        return

    with pytest.raises(Refused):
        JwtResolver(rules).resolve(Head((f"Bearer {changed.decode('latin-1')}",)))


def test_audience_and_issuer_are_checked_where_they_are_set(tmp_path: Path) -> None:
    rules = load_jwt_rules("HS256", rules_file(tmp_path, SECRET), "tenant", audience="cloister", issuer="https://login")
    resolver = JwtResolver(rules)
    right = {"tenant": "acme", "exp": LATER, "aud": "cloister", "iss": "https://login"}

    assert resolver.resolve(Head((f"Bearer {signed(right)}",))) == "acme"
    for name in ("aud", "iss"):
        assert refusal_of(resolver, f"Bearer {signed({**right, name: 'other'})}") == UNAUTHORIZED
        without = {key: value for key, value in right.items() if key != name}
        assert refusal_of(resolver, f"Bearer {signed(without)}") == UNAUTHORIZED


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def make_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def make_ec() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(("algorithm", "make"), [("RS256", make_rsa), ("ES256", make_ec)])
def test_a_public_key_proves_tokens(tmp_path: Path, algorithm: str, make: Callable[[], Any]) -> None:
    key, other = make(), make()
    pem = public_pem(key)
    resolver = JwtResolver(load_jwt_rules(algorithm, rules_file(tmp_path, pem), "sub"))
    claims = {"sub": "acme", "exp": LATER}

    assert resolver.resolve(Head((f"Bearer {signed(claims, key, algorithm)}",))) == "acme"
    assert refusal_of(resolver, f"Bearer {signed(claims, other, algorithm)}") == UNAUTHORIZED
    # The public key taken for a secret: RFC 8725, section 2.1.
    header, body = (_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    forged = f"{header}.{body}.{_base64(_hmac_sha256(pem, f'{header}.{body}'.encode()))}"
    assert refusal_of(resolver, f"Bearer {forged}") == UNAUTHORIZED


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _hmac_sha256(key: bytes, data: bytes) -> bytes:
    import hmac

    return hmac.digest(key, data, "sha256")


def test_a_key_set_gives_the_key_that_a_token_names(tmp_path: Path) -> None:
    keys = {name: make_ec() for name in ("one", "two")}
    public = [
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": name} for name, key in keys.items()
    ]
    resolver = JwtResolver(load_jwt_rules("ES256", rules_file(tmp_path, json.dumps({"keys": public})), "sub"))
    claims = {"sub": "acme", "exp": LATER}

    for name, key in keys.items():
        assert resolver.resolve(Head((f"Bearer {signed(claims, key, 'ES256', kid=name)}",))) == "acme"
    assert refusal_of(resolver, f"Bearer {signed(claims, keys['one'], 'ES256', kid='two')}") == UNAUTHORIZED
    assert refusal_of(resolver, f"Bearer {signed(claims, keys['one'], 'ES256', kid='three')}") == UNAUTHORIZED
    assert refusal_of(resolver, f"Bearer {signed(claims, keys['one'], 'ES256')}") == UNAUTHORIZED


def private_jwk() -> str:
    return json.dumps({"keys": [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(make_ec()))]})


def private_pem() -> str:
    private = make_rsa().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode()


@pytest.mark.parametrize(
    ("algorithm", "content"),
    [
        ("HS256", "short"),
        ("HS256", public_pem(make_ec()).decode()),
        ("RS256", SECRET.decode()),
        ("RS256", public_pem(make_ec()).decode()),
        ("ES256", public_pem(make_rsa()).decode()),
        ("RS256", private_pem()),
        ("ES256", private_jwk()),
        ("ES256", "{"),
        ("ES256", '{"keys": []}'),
        ("ES256", '{"keys": [{"kty": "EC"}]}'),
        ("HS256", json.dumps({"keys": [{"kty": "oct", "k": _base64(b"short")}]})),
    ],
)
def test_a_file_that_does_not_suit_is_refused_without_its_content(tmp_path: Path, algorithm: str, content: str) -> None:
    with pytest.raises(SettingsError, match="jwt_key_file") as caught:
        load_jwt_rules(algorithm, rules_file(tmp_path, content), "sub")

    assert content not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_jwt_rules("RS256", tmp_path / "missing", "sub")
