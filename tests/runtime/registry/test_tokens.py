"""Tokens at rest: the value is shown once, its hash is kept, and only the right value is the token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from host_bindings.scope import Tenant
from runtime.registry import Registry
from tests.runtime.registry.test_registry import eventually, with_registry


def test_only_the_hash_of_a_token_is_kept(tmp_path: Path) -> None:
    values: list[str] = []

    async def test(registry: Registry) -> None:
        token, value = await registry.tokens.create("ci", {"read", "deploy"}, Tenant("production", "acme"))
        values.append(value)
        assert registry.tokens.find(value) == token
        assert token.permissions == {"read", "deploy"}
        assert value not in repr(token)

    with_registry(tmp_path, test)

    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert values[0].encode() not in stored
    assert values[0].rpartition("_")[2].encode() not in stored


def test_only_the_whole_value_is_the_token(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        _, value = await registry.tokens.create("ci", {"read"})
        _, other = await registry.tokens.create("other", {"data"})
        id, secret = value.split("_", 2)[1:]
        wrong = ["", "x", value[:-1], value + "x", value.upper(), f"cloister_{id}_{other.split('_', 2)[2]}"]
        wrong += [f"cloister_{'0' * 32}_{secret}", f"cloister__{secret}", id, secret, "\ud800", "é" * 80]
        assert [registry.tokens.find(each) for each in wrong] == [None] * len(wrong)

    with_registry(tmp_path, test)


def test_a_token_ends_when_it_is_deleted_rolled_or_has_expired(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        # Between two milliseconds: it is not to last longer for that.
        now = datetime.now(UTC).replace(microsecond=827_796)
        token, value = await registry.tokens.create("ci", {"read"}, expires_on=now + timedelta(hours=1))
        assert token.status(now) == "active"
        assert token.status(now + timedelta(hours=1)) == "expired"
        later, _ = await registry.tokens.create("later", {"read"}, not_before=now + timedelta(hours=1))
        assert later.status(now) == "disabled"

        rolled = await registry.tokens.roll(token.id)
        assert rolled is not None
        assert registry.tokens.find(value) is None
        assert registry.tokens.find(rolled) is not None

        assert await registry.tokens.delete(token.id) is True
        assert registry.tokens.find(rolled) is None
        assert await registry.tokens.delete(token.id) is False
        assert await registry.tokens.roll(token.id) is None

    with_registry(tmp_path, test)


def test_what_a_token_says_is_replaced_and_its_value_stays(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        now = datetime.now(UTC)
        token, value = await registry.tokens.create("ci", {"read"}, Tenant("production", "acme"), expires_on=now)
        updated = await registry.tokens.update(token.id, "other", {"data", "deploy"}, disabled=True)

        assert updated == registry.tokens.find(value)
        assert updated is not None and (updated.name, updated.tenant, updated.expires_on) == ("other", None, None)
        assert (updated.permissions, updated.status(now)) == ({"data", "deploy"}, "disabled")
        enabled = await registry.tokens.update(token.id, "other", {"data"})
        assert enabled is not None and enabled.status(now) == "active"
        assert await registry.tokens.update("0" * 32, "other", {"data"}) is None

    with_registry(tmp_path, test)


def test_a_token_that_another_process_revokes_ends_here_too(tmp_path: Path) -> None:
    async def test(registry: Registry) -> None:
        other = Registry(tmp_path / "registry.sqlite")
        await other.open()
        token, value = await registry.tokens.create("ci", {"read"})
        await eventually(lambda: other.tokens.find(value) is not None)

        await registry.tokens.delete(token.id)

        await eventually(lambda: other.tokens.find(value) is None)
        await other.close()

    with_registry(tmp_path, test)
