"""The management API's token: from the settings, or a random one that is kept in the data directory."""

from __future__ import annotations

import contextlib
import os
import secrets

from runtime.settings import ServerSettings, SettingsError

_TOKEN_BYTES = 32


def load_admin_token(settings: ServerSettings) -> str:
    """The token; makes and keeps one at the first start (file mode 0600). Blocks on the disk.

    Raises `SettingsError` if the file cannot be read or written, or does not hold a token.
    """
    if settings.admin_token is not None:
        return settings.admin_token
    path = settings.admin_token_path
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read(settings)
        _create(settings)
        return _read(settings)
    except OSError as error:
        raise SettingsError(f"admin_token: {path} cannot be used: {error.strerror}") from error


def _read(settings: ServerSettings) -> str:
    path = settings.admin_token_path
    token = path.read_text(encoding="ascii", errors="replace").strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"admin_token: {path} does not hold a token; delete it, and the next start makes a new one")
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return token


def _create(settings: ServerSettings) -> None:
    path = settings.admin_token_path
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        # A link and not a rename: of two servers that start at once, the first one's token stands.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
