"""Telling machine code that this host made from anything else.

Machine code is mapped and run as it is: whoever can change it can do what the host can. Each file therefore has a
message authentication code, made with a key that never leaves this machine, over its bytes, what it is the code of,
and the engine that it was made for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from runtime.artifacts.files import sync

KEY_BYTES = 32
CHUNK_BYTES = 1024 * 1024

_PURPOSE = b"cloister machine code 1"


class Authenticator:
    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._key = key

    def code(self, path: Path, name: str, fingerprint: str) -> bytes:
        """HMAC-SHA256 of the file; `name` says what it is the machine code of, `fingerprint` for which engine."""
        state = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (_PURPOSE, name.encode(), fingerprint.encode()):
            state.update(len(part).to_bytes(8, "big") + part)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                state.update(chunk)
        return state.digest()

    def is_authentic(self, path: Path, name: str, fingerprint: str, code: bytes) -> bool:
        return hmac.compare_digest(self.code(path, name, fingerprint), code)


def load_key(path: Path) -> bytes:
    """The key in the file, made at first use with mode 0600. Raises `PermissionError` if others may read it."""
    if not path.exists():
        _make_key(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise PermissionError(f"{path} must belong to this user and have mode 0600")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} must hold {KEY_BYTES} bytes; delete it and all machine code is made again")
    return key


def _make_key(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)  # unlike a rename, never takes the place of a key that another process has made
        except FileExistsError:
            return
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)
