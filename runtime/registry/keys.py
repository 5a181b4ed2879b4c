"""The keys that seal tenants' secrets: as the settings give them, and in a file."""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.private_files import close_to_others, create_once
from runtime.settings import ServerSettings, SettingsError

KEY_BYTES = 32

_LINE_BYTES = 45
"""A key in base64 and a line end."""


def new_key() -> bytes:
    return os.urandom(KEY_BYTES)


def given_keys(text: str) -> list[bytes]:
    """The keys in the setting `secrets_key`: one, or several with spaces between. Raises `SettingsError`."""
    return _decode(text, "secrets_key")


@dataclass(frozen=True)
class KeyFile:
    """A file with a key in base64, and while that is replaced with the next one in a second line. Blocks on the disk.

    It is changed in place, since a confined process may not open another file under its name. Each step leaves a whole
    line with every key that may be needed: lines that hold no key (half of one, say) do not count beside one that does.
    All methods raise `SettingsError`.
    """

    path: Path

    @classmethod
    def of(cls, settings: ServerSettings) -> KeyFile:
        return cls(settings.secrets_key_file or settings.secrets_key_path)

    def make(self) -> None:
        """With a random key, if it is not there yet, for its owner only."""
        with self._explained():
            if not self.path.exists():
                create_once(self.path, _encode(new_key()))
            close_to_others(self.path)

    def read(self) -> list[bytes]:
        with self._explained():
            return _decode(self.path.read_text(encoding="ascii", errors="replace"), f"secrets_key_file: {self.path}")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from changing it."""
        with self._opened() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def add(self, key: bytes) -> None:
        """On disk when this returns, in a line of its own at the end."""
        with self._opened() as descriptor:
            size = os.fstat(descriptor).st_size
            # The line must not begin where `keep` writes.
            filling = b"\n" * max(1, _LINE_BYTES - size)
            os.pwrite(descriptor, filling + _encode(key).encode("ascii"), size)
            os.fsync(descriptor)

    def keep(self, key: bytes) -> None:
        """Leaves this key alone, which has been added: it stays readable throughout."""
        with self._opened() as descriptor:
            os.pwrite(descriptor, _encode(key).encode("ascii"), 0)
            os.fsync(descriptor)
            os.ftruncate(descriptor, _LINE_BYTES)
            os.fsync(descriptor)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        with self._explained():
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingsError(f"secrets_key_file: {self.path} cannot be used: {error.strerror}") from error


def _encode(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii") + "\n"


def _decode(text: str, name: str) -> list[bytes]:
    found: list[bytes] = []
    for word in text.split():
        with contextlib.suppress(binascii.Error, ValueError):
            key = base64.b64decode(word, altchars=b"-_" if {"-", "_"} & set(word) else None, validate=True)
            if len(key) == KEY_BYTES and key not in found:
                found.append(key)
    if not found:
        raise SettingsError(f"{name}: must hold {KEY_BYTES} random bytes in base64 (openssl rand -base64 {KEY_BYTES})")
    return found
