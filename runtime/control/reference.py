"""docs/api.md: every route in a table, made from the declarations that serve it.

`python -m runtime.control.reference` writes it anew; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from runtime.control.application import ROUTES
from runtime.control.routes import SCRIPT_PATHS, Route

_HEAD = """\
# Routes of the management API

Below `http://127.0.0.1:8788/client/v4`. [operator.md](operator.md#the-management-api) says how to call it, who may, and
what the answers look like; `GET /openapi.json` has every field. `SCRIPT` stands for two addresses of a script: in a
dispatch namespace, `/accounts/{account}/workers/dispatch/namespaces/{namespace}/scripts/{script}`, and, for tools that
know Workers alone, `/accounts/{account}/workers/scripts/{script}`, in the namespace that the server serves. The
account is always `local`. `{key*}` is all the rest of the address, with slashes as they are or as `%2F`; the
address of R2's empty key ends in a slash.

This page is made from the code: `python -m runtime.control.reference`.
"""


def reference(routes: Iterable[Route]) -> str:
    """The page."""
    lines = [_HEAD]
    family = ""
    for route in routes:
        if route.path.startswith(SCRIPT_PATHS[1]) and route.reach == "script":
            continue
        if route.family != family:
            family = route.family
            lines.append(f"\n## {family}\n\n| route | needs | |\n|---|---|---|\n")
        path = route.path.replace(SCRIPT_PATHS[0], "SCRIPT")
        lines.append(f"| `{route.method} {path}` | {_needs(route)} | {route.summary} |\n")
    return "".join(lines)


def _needs(route: Route) -> str:
    if route.needs == "any":
        return "any token"
    if route.needs == "admin":
        return "the admin token"
    return f"`{route.needs}`, whole platform" if route.reach == "platform" else f"`{route.needs}`"


if __name__ == "__main__":
    sys.stdout.write(reference(ROUTES))
