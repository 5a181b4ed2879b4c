"""The documentation keeps up with the code: what can be set, called and linked to is named where people look it up."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from runtime.cli.serve import serve
from runtime.control.application import ROUTES
from runtime.control.metrics import _COUNTERS, _Collector
from runtime.control.reference import reference
from runtime.engine.limits import Limits, limit_bounds, limit_codes
from runtime.settings import ENVIRONMENT_PREFIX, ServerSettings
from runtime.telemetry.ledger import Total

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]

WRAPPERS = {
    "kv": ("KvNamespace",),
    "r2": ("R2Bucket", "R2Object", "R2Checksums", "R2MultipartUpload"),
    "d1": ("D1Database", "D1DatabaseSession", "D1PreparedStatement"),
}
"""By the module of the `workers` package that defines them."""

LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@pytest.mark.parametrize("name", [setting.name for setting in fields(ServerSettings)])
def test_every_setting_is_in_the_operators_table_with_its_default(name: str) -> None:
    row = table_row("operator.md", ENVIRONMENT_PREFIX + name.upper())

    default = getattr(ServerSettings(), name)
    if isinstance(default, bool):
        assert cells(row)[2] == ("on" if default else "off")
    elif isinstance(default, int | float):
        assert cells(row)[2] == f"{default:g}" or cells(row)[2] == str(default)
    elif isinstance(default, str | Path):
        assert cells(row)[2] == f"`{default}`"


@pytest.mark.parametrize("option", [option for parameter in serve.params for option in parameter.opts])
def test_every_option_of_serve_is_in_the_operators_page(option: str) -> None:
    assert f"`{option}" in page("operator.md")


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_every_limit_is_in_the_operators_table_with_its_default_and_bounds(name: str) -> None:
    columns = cells(table_row("operator.md", name))

    default = getattr(Limits(), name)
    if isinstance(default, int):
        bounds = limit_bounds(name)
        assert bounds is not None
        assert columns[1:5] == [str(default), str(bounds[0]), str(bounds[1]), f"`{limit_codes()[name]}`"]
    else:
        assert columns[1] == f"`{default}`"


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_every_limit_is_in_the_tenants_table_with_its_default(name: str) -> None:
    columns = cells(table_row("tenant.md", name))

    default = getattr(Limits(), name)
    assert columns[1] == (f"{default:,}" if isinstance(default, int) else f"`{default}`")


@pytest.mark.parametrize(("module", "wrapper"), [(module, name) for module in WRAPPERS for name in WRAPPERS[module]])
def test_every_method_of_a_binding_is_in_the_bindings_page(module: str, wrapper: str) -> None:
    text = page("bindings.md")

    missing = [name for name in public_names(module, wrapper) if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)]

    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    dead = [link for link in links(path) if not leads_somewhere(path, link)]

    assert dead == []


def test_the_page_of_routes_is_what_the_code_declares() -> None:
    assert page("api.md") == reference(ROUTES), "write it anew: python -m runtime.control.reference > docs/api.md"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table_row(name: str, key: str) -> str:
    """The row of a table whose first cell begins with `key` as code."""
    rows = [line for line in page(name).splitlines() if line.startswith(f"| `{key}`")]
    assert len(rows) == 1, f"{name} has {len(rows)} rows for {key}"
    return rows[0]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def public_names(module: str, wrapper: str) -> list[str]:
    """Methods and other names for them. Read from the source: the module can be imported in a guest alone."""
    tree = ast.parse((ROOT / f"guest_sdk/python/workers/{module}.py").read_text(encoding="utf-8"))
    (definition,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == wrapper]
    names = []
    for node in definition.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def links(path: Path) -> Iterator[str]:
    """Relative links; code is left out."""
    text = re.sub(r"`[^`\n]*`|^    .*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return (link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link))


def leads_somewhere(path: Path, link: str) -> bool:
    target, _, anchor = link.partition("#")
    file = (path.parent / target) if target else path
    return file.exists() and (not anchor or anchor in anchors(file))


def anchors(file: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = HEADING.findall(file.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_grafana_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"cloister_\w+", target["expr"])
    }
    offered: set[str] = set()
    for metric in _Collector(
        [Total("n", "s", name, "0", 1.0) for name in ("wall_bucket", *_COUNTERS)], {}, {}, set()
    ).collect():
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}[metric.type]
        offered |= {metric.name + suffix for suffix in suffixes}

    assert asked and asked <= offered


def test_the_unit_of_a_group_gives_up_what_the_servers_does() -> None:
    server, group = ((ROOT / "packaging" / name).read_text() for name in ("cloister.service", "cloister@.service"))
    own = ("Description=", "User=", "Group=", "Environment", "StateDirectory=", "CacheDirectory=")

    def shared(unit: str) -> list[str]:
        return [line for line in unit.partition("[Unit]")[2].splitlines() if not line.startswith(own)]

    assert shared(group) == shared(server)
