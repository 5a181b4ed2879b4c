"""How the values of secrets are kept in the database: the one place where encryption at rest comes in."""

from __future__ import annotations

import base64
import binascii
import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.private_files import close_to_others, create_once
from runtime.registry.errors import RegistryError
from runtime.settings import ServerSettings, SettingsError

KEY_BYTES = 32

_FORMAT = b"\x01"
_NONCE_BYTES = 12


class Seal(Protocol):
    """Turns a secret into what is stored, and back.

    `context` says what the secret belongs to (version and binding); a seal that authenticates binds it in, so that a
    stored secret moved to another row does not open.
    """

    def seal(self, secret: bytes, context: bytes) -> bytes: ...

    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class Unsealed:
    """Keeps secrets as they are, as the registry's first form did. For tests; `load_seal` never gives it."""

    def seal(self, secret: bytes, context: bytes) -> bytes:
        return secret

    def open(self, sealed: bytes, context: bytes) -> bytes:
        return sealed


class AesGcmSeal:
    """AES-256-GCM with a random 96-bit nonce for each secret: a format byte, the nonce, the text and its tag.

    Random nonces are safe for 2^32 secrets under one key (NIST SP 800-38D, 8.3).
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, context: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, secret, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises `RegistryError` for another key, another place, or changed bytes."""
        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _FORMAT:
                raise InvalidTag
            return self._cipher.decrypt(nonce, text, context)
        except (InvalidTag, ValueError):
            raise RegistryError(
                "The secrets in the registry cannot be opened with this key: start the server with the key that they "
                "were sealed with (secrets.key in the data directory, CLOISTER_SECRETS_KEY or "
                "CLOISTER_SECRETS_KEY_FILE)."
            ) from None


def load_seal(settings: ServerSettings) -> AesGcmSeal:
    """The seal with the key of the settings, of the file they name, or of the data directory.

    Makes and keeps a random key at the first start (file mode 0600). Blocks on the disk. Raises `SettingsError` if
    there is no key to be had.
    """
    if settings.secrets_key is not None:
        return AesGcmSeal(_decode(settings.secrets_key, "secrets_key: CLOISTER_SECRETS_KEY"))
    path = settings.secrets_key_file or settings.secrets_key_path
    try:
        if settings.secrets_key_file is None:
            if not path.exists():
                create_once(path, base64.b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
            close_to_others(path)
        return AesGcmSeal(_decode(path.read_text(encoding="ascii", errors="replace"), f"secrets_key_file: {path}"))
    except OSError as error:
        raise SettingsError(f"secrets_key_file: {path} cannot be used: {error.strerror}") from error


def _decode(text: str, name: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), altchars=b"-_" if {"-", "_"} & set(text) else None, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{name} must hold {KEY_BYTES} random bytes in base64 (openssl rand -base64 {KEY_BYTES})")
    return key
