"""What the build tells the process that loads a worker's code into its base."""

from __future__ import annotations

import msgspec

NO_BINDINGS = "A binding was used while the worker is built."
"""What the process says before it ends, if that was so."""


class LoadJob(msgspec.Struct, frozen=True):
    """Load the worker's code into the base `base` and write the component to `output`."""

    base: str
    machine_code: str
    """Of the instrumented base."""
    code: str
    """The base's `code` file."""
    folders: dict[str, str]
    """Host folders by the guest's name."""
    writable: dict[str, str]
    """The same, of folders that the guest may write to."""
    wanted: str
    """What the base's application is told, as JSON."""
    output: str
    stdout: str
    stderr: str
    """Files that take what the guest writes there."""
