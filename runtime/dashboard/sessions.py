"""Who is logged in: random ids in cookies, and what each stands for in the server's memory."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from runtime.control.access import Access
from runtime.registry import Registry

SESSION_S = 8 * 3600.0
"""How long a session lasts, whatever is done in it."""

SESSIONS_MAX = 1_000
"""The oldest makes room for one more."""


@dataclass(frozen=True)
class Session:
    """`csrf` is what every form of the session must send. `expires` is by the clock of `Sessions`."""

    access: Access
    expires: float
    csrf: str = field(repr=False)


class Sessions:
    """Of one server process; they end with it. Ids are kept as SHA-256, so that no dump of memory's text opens one."""

    def __init__(self, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, access: Access) -> str:
        """The id of a new session with this access."""
        id = secrets.token_urlsafe(32)
        while len(self._sessions) >= SESSIONS_MAX:
            self._sessions.popitem(last=False)
        self._sessions[_digest(id)] = Session(access, self._clock() + SESSION_S, secrets.token_urlsafe(32))
        return id

    def find(self, id: str) -> Session | None:
        """The session, if it lasts and the token that opened it is still in force and still the same."""
        digest = _digest(id)
        session = self._sessions.get(digest)
        if session is None:
            return None
        if self._clock() >= session.expires or not self._in_force(session.access):
            del self._sessions[digest]
            return None
        return session

    def close(self, id: str) -> None:
        self._sessions.pop(_digest(id), None)

    def _in_force(self, access: Access) -> bool:
        if access.token is None:
            return True
        now = self._registry.tokens.get(access.token.id)
        if now is None or not hmac.compare_digest(now.digest, access.token.digest):
            return False
        unchanged = (now.permissions, now.tenant) == (access.permissions, access.tenant)
        return unchanged and now.status(datetime.now(UTC)) == "active"


def _digest(id: str) -> bytes:
    return hashlib.sha256(id.encode("utf-8", "surrogateescape")).digest()
