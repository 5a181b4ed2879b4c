"""How the values of secrets are kept in the database: the one place where encryption at rest comes in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.registry.errors import RegistryError
from runtime.registry.keys import KeyFile, given_keys
from runtime.settings import ServerSettings, SettingsError

PROOF = b"cloister"
"""What is kept sealed to find out which key is the right one; its context too."""

_FORMAT = b"\x01"
_NONCE_BYTES = 12


def secret_context(version: str, binding: str) -> bytes:
    """What a secret is bound to: the version's id and the binding's name."""
    return f"{version}/{binding}".encode()


class Seal(Protocol):
    """Turns a secret into what is stored, and back.

    `context` says what the secret belongs to (version and binding); a seal that authenticates binds it in, so that a
    stored secret moved to another row does not open.
    """

    def choose(self, proof: bytes) -> None:
        """Uses the key with which `proof` was sealed from now on. Raises `RegistryError` if it is not there."""

    def seal(self, secret: bytes, context: bytes) -> bytes: ...

    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class Unsealed:
    """Keeps secrets as they are, as the registry's first form did. For tests; `load_seal` never gives it."""

    def choose(self, proof: bytes) -> None:
        pass

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

    def choose(self, proof: bytes) -> None:
        self.open(proof, PROOF)

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


class KeyRing:
    """The seals of all keys that there are; the registry's proof says which of them is at work.

    There is one key, but while it is replaced (`runtime.registry.rotation`) there are two. `read` gives those of now;
    it blocks on the disk and may raise `SettingsError`.
    """

    def __init__(self, read: Callable[[], Sequence[bytes]]) -> None:
        self._read = read
        self._seals = [AesGcmSeal(key) for key in read()]
        self._chosen = self._seals[0]
        self._proof = b""

    def choose(self, proof: bytes) -> None:
        if proof == self._proof:
            return
        try:
            chosen = self._find(proof)
        except RegistryError:
            # Another process may have replaced the key.
            try:
                self._seals = [AesGcmSeal(key) for key in self._read()]
            except SettingsError as error:
                raise RegistryError(f"The key of the secrets cannot be read: {error}.") from error
            chosen = self._find(proof)
        self._chosen, self._proof = chosen, proof

    def seal(self, secret: bytes, context: bytes) -> bytes:
        return self._chosen.seal(secret, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        return self._chosen.open(sealed, context)

    def _find(self, proof: bytes) -> AesGcmSeal:
        *others, last = self._seals
        for seal in others:
            try:
                seal.choose(proof)
            except RegistryError:
                continue
            return seal
        last.choose(proof)
        return last


def load_seal(settings: ServerSettings) -> KeyRing:
    """The seal with the key of the settings, of the file they name, or of the data directory.

    Makes and keeps a random key at the first start (file mode 0600). Blocks on the disk. Raises `SettingsError` if
    there is no key to be had.
    """
    if settings.secrets_key is not None:
        keys = given_keys(settings.secrets_key)
        return KeyRing(lambda: keys)
    file = KeyFile.of(settings)
    if settings.secrets_key_file is None:
        file.make()
    return KeyRing(file.read)
