"""What every worker has, whatever is bound to it: bodies and pipes, its environment, its log, its answer.

Entered by `host_bindings.interfaces`, which puts the whole contract together.
"""

from __future__ import annotations

from host_bindings.core import environment, http, log, types

INTERFACES = (types.INTERFACE, environment.INTERFACE, log.INTERFACE, http.INTERFACE)
