"""The management API's token: from the settings, or a random one that is kept in the data directory."""

from __future__ import annotations

import contextlib
import secrets

from runtime.private_files import close_to_others, create_once
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
        create_once(settings.admin_token_path, secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        return _read(settings)
    except OSError as error:
        raise SettingsError(f"admin_token: {path} cannot be used: {error.strerror}") from error


def _read(settings: ServerSettings) -> str:
    path = settings.admin_token_path
    token = path.read_text(encoding="ascii", errors="replace").strip()
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"admin_token: {path} does not hold a token; delete it, and the next start makes a new one")
    close_to_others(path)
    return token
