"""What a server process gives up before it loads anything of a tenant's."""

from __future__ import annotations

from host_bindings.confinement import Confinement, confine_server
from runtime.settings import ServerSettings, SettingsError


def confine(settings: ServerSettings, *, system_calls_denied: bool) -> Confinement:
    """Takes effect for good, for this process and those that it starts: only the data directory can be written.

    Dispatch code, which is the operator's, may be read, call out, and use `confinement_paths`. Traces may go to the
    collector's port, requests to that of the server behind. Raises `SettingsError` where a confinement that is required
    cannot be had.
    """
    if settings.confinement == "off":
        return Confinement(landlock=0, system_calls=False)
    code = settings.dispatcher
    if code is not None and code.is_file():
        code = code.parent  # it may import what lies beside it
    readable = [path for path in (code, settings.jwt_key_file, settings.secrets_key_file) if path is not None]
    writable = [settings.data, *settings.confinement_paths]
    try:
        ports = [settings.traces_port] if settings.traces else []
        ports += [] if settings.upstream_port is None else [settings.upstream_port]
        landlock = confine_server(readable, writable, network=settings.dispatcher is not None, ports=ports)
    except OSError as error:
        if settings.confinement == "require":
            raise SettingsError(f"confinement: the kernel refuses it: {error}") from None
        landlock = 0
    confinement = Confinement(landlock, system_calls_denied)
    if settings.confinement == "require" and not confinement.is_whole:
        raise SettingsError(
            "confinement: it is required, and this machine does not have all of it (Landlock version "
            f"{confinement.landlock}, seccomp {'yes' if confinement.system_calls else 'no'}): it takes Linux 5.13 or "
            "later on x86-64, with Landlock enabled"
        )
    return confinement
