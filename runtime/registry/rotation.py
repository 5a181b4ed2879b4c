"""Replacing the key that seals tenants' secrets, while servers run or not."""

from __future__ import annotations

import contextlib

import apsw

from runtime.registry.connection import RegistryConnection
from runtime.registry.errors import RegistryError
from runtime.registry.keys import KeyFile, given_keys, new_key
from runtime.registry.seal import PROOF, AesGcmSeal, load_seal, secret_context
from runtime.settings import ServerSettings, SettingsError


def rotate_key(settings: ServerSettings) -> int:
    """Seals every secret anew under another key; how many there are. Done, and on disk, when it returns.

    The new key is a random one, which takes the old one's place in its file; if the settings give keys themselves, it
    is the first of them. At any moment the file has the key with which the registry is sealed at that moment, so that
    nothing is lost whenever this is cut off; done again it finishes. Servers that run notice at their next look.

    Blocks. Raises `SettingsError` or `RegistryError` if it could not be finished.
    """
    with contextlib.ExitStack() as stack:
        file = None
        if settings.secrets_key is not None:
            key = given_keys(settings.secrets_key)[0]
        else:
            file, key = KeyFile.of(settings), new_key()
            stack.enter_context(file.locked())
        connection = RegistryConnection(settings.registry_path, load_seal(settings))
        stack.callback(connection.close)
        try:
            with connection.writing():
                if file is None:
                    _check_other(connection, key)
                else:
                    file.add(key)
                count = _seal_anew(connection, AesGcmSeal(key))
        except apsw.Error as error:
            raise RegistryError(f"The secrets could not be sealed anew: {error}") from error
        if file is not None:
            file.keep(key)
        # What was sealed with the old key must not stay readable in the log.
        connection.empty_log()
    return count


def _check_other(connection: RegistryConnection, key: bytes) -> None:
    with contextlib.suppress(RegistryError):
        AesGcmSeal(key).choose(connection.proof)
        raise SettingsError(
            "secrets_key: its first key is at work already. Give the new key and the old one behind it, with a space "
            "between, start the servers again with both, and then do this"
        )


def _seal_anew(connection: RegistryConnection, new: AesGcmSeal) -> int:
    old = connection.seal
    rows = connection.rows("SELECT version, binding, sealed FROM secrets")
    for version, binding, sealed in rows:
        context = secret_context(version, binding)
        secret = old.open(sealed, context)
        connection.execute(
            "UPDATE secrets SET sealed = ? WHERE version = ? AND binding = ?",
            new.seal(secret, context),
            version,
            binding,
        )
    connection.execute("UPDATE seal SET proof = ?", new.seal(PROOF, PROOF))
    return len(rows)
