"""Turning checked wasm into machine code, and comparing a component with the contract.

Compiling untrusted code takes time and memory without bound: call these functions only in a process that has limits
(runtime.artifacts starts one). Machine code made here loads in any `Engine` with the same `fingerprint`.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import wasmtime
from wasmtime import component as wc

from host_bindings import contract
from host_bindings.contract import Interface
from runtime.engine import native

CompileError = wasmtime.WasmtimeError
"""What `compile_component` and `compile_module` raise, with the validator's message."""

HANDLER = "cloister:worker/handler@0.1.0"
"""The interface that a worker exports."""

STACK_BYTES = 1024 * 1024
"""What a guest's frames may take of its fiber's stack. CPython stops at its own recursion limit well below."""

T = TypeVar("T")

_SETTINGS: dict[str, object] = {
    "epoch_interruption": True,
    "max_wasm_stack": STACK_BYTES,
    "wasm_threads": False,
    "shared_memory": False,
    "wasm_memory64": False,
    "wasm_gc": False,
    "wasm_stack_switching": False,
    "wasm_custom_page_sizes": False,
}


def configuration(*, parallel: bool = True) -> wasmtime.Config:
    """The one engine configuration: machine code made with another one does not load."""
    config = wasmtime.Config()
    for name, value in _SETTINGS.items():
        setattr(config, name, value)
    config.parallel_compilation = parallel
    native.disable_concurrency(config)
    return config


def fingerprint() -> str:
    """Names everything that machine code depends on: wasmtime's version, the settings, the processor.

    Hex digits. Machine code with another fingerprint is stale and must be made again.
    """
    settings = _SETTINGS | {"concurrency_support": False}
    parts = [version("wasmtime"), platform.machine(), platform.system(), *(f"{k}={v}" for k, v in settings.items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def compile_component(wasm: bytes, *, parallel: bool = True) -> bytes:
    """Machine code of a component. Raises `wasmtime.WasmtimeError` with the validator's message."""
    engine = wasmtime.Engine(configuration(parallel=parallel))
    return bytes(wc.Component(engine, wasm).serialize())


def compile_module(wasm: bytes, *, parallel: bool = True) -> bytes:
    """Machine code of a core module. Raises `wasmtime.WasmtimeError` with the validator's message."""
    engine = wasmtime.Engine(configuration(parallel=parallel))
    return bytes(wasmtime.Module(engine, wasm).serialize())


def contract_problems(machine_code: Path, interfaces: Sequence[Interface], modules: Sequence[str] = ()) -> list[str]:
    """What keeps a component from running here, one sentence each; empty if nothing does.

    Imports must be functions and resources of `interfaces` with exactly their types (versions may differ as semantic
    versioning allows), or core modules named in `modules`; the handler must be exported. `machine_code` is a file that
    this host compiled.
    """
    engine = wasmtime.Engine(configuration())
    component_type = wc.Component.deserialize_file(engine, str(machine_code)).type
    offered = {_compatible(interface.name): interface for interface in interfaces}
    imports = component_type.imports(engine)
    notation = _Notation(engine, [extern.ty for extern in imports.values()])
    problems: list[str] = []
    for name, extern in imports.items():
        item = extern.ty
        if isinstance(item, wc.ModuleType) and name in modules:
            continue
        interface = offered.get(_compatible(name))
        if interface is None or not isinstance(item, wc.ComponentInstanceType):
            problems.append(f"The component imports {_printable(name)}, which this host does not offer.")
        else:
            problems += _interface_problems(engine, notation, interface, name, item)
    handler = component_type.exports(engine).get(HANDLER)
    if handler is None or not isinstance(handler.ty, wc.ComponentInstanceType):
        problems.append(f"The component does not export {HANDLER}: it is not a worker.")
    else:
        problems += _handler_problems(engine, notation, handler.ty)
    return problems


def _interface_problems(
    engine: wasmtime.Engine, notation: _Notation, interface: Interface, name: str, item: wc.ComponentInstanceType
) -> Iterator[str]:
    functions = {function.name: function for function in interface.functions}
    resources = {resource.name for resource in interface.resources}
    for member, extern in item.exports(engine).items():
        kind = extern.ty
        label = f"{_printable(name)}#{_printable(member)}"
        if isinstance(kind, wc.FuncType):
            function = functions.get(member)
            if function is None:
                if member not in interface.refused:
                    yield f"The component imports {label}, which this host does not offer."
                continue
            wanted = notation.signature(kind)
            given = _declared_signature(function.parameters, function.result)
            if wanted != given:
                yield f"The component imports {label} as {wanted}; this host offers {given}."
        elif isinstance(kind, wc.ResourceType) and member not in resources:
            yield f"The component imports the resource {label}, which this host does not offer."
        elif isinstance(kind, wc.ComponentType | wc.ModuleType | wc.ComponentInstanceType):
            yield f"The component imports {label}, which this host does not offer."


def _handler_problems(engine: wasmtime.Engine, notation: _Notation, item: wc.ComponentInstanceType) -> Iterator[str]:
    from runtime.engine.handler import EXPORTS

    members = item.exports(engine)
    for name, (parameters, result) in EXPORTS.items():
        extern = members.get(name)
        function = extern.ty if extern is not None else None
        if not isinstance(function, wc.FuncType):
            yield f"The component's handler has no function {name}."
            continue
        given, wanted = notation.signature(function), _declared_signature(parameters, result)
        if given != wanted:
            yield f"The component's handler offers {name} as {given}; this host calls {wanted}."


def _compatible(name: str) -> str:
    """The name without what semantic versioning lets differ: `a:b/c@0.2.9` and `a:b/c@0.2.0` are one."""
    base, separator, semver = name.partition("@")
    if not separator or "-" in semver or "+" in semver:
        return name
    parts = semver.split(".")
    kept = parts[:1] if parts[0] != "0" else parts[:2] if len(parts) > 1 and parts[1] != "0" else parts
    return f"{base}@{'.'.join(kept)}"


def _printable(name: str) -> str:
    return name[:200].encode("unicode_escape").decode()


def _declared_signature(parameters: Sequence[contract.Type], result: contract.Type | None) -> str:
    listed = ", ".join(_declared(kind) for kind in parameters)
    return f"func({listed})" + (f" -> {_declared(result)}" if result is not None else "")


def _part(render: Callable[[T], str], part: T | None) -> str:
    return "_" if part is None else render(part)


class _Notation:
    """Types of a component in the notation that `_declared` uses.

    A resource has its name if the component imports it. Any other is the component's own, whatever it calls it.
    """

    def __init__(self, engine: wasmtime.Engine, imports: Sequence[object]) -> None:
        self._resources = [
            (extern.ty, name)
            for item in imports
            if isinstance(item, wc.ComponentInstanceType)
            for name, extern in item.exports(engine).items()
            if isinstance(extern.ty, wc.ResourceType)
        ]

    def signature(self, function: wc.FuncType) -> str:
        parameters = ", ".join(self._render(kind) for _, kind in function.params)
        result = function.result
        return f"func({parameters})" + (f" -> {self._render(result)}" if result is not None else "")

    def _render(self, kind: wc.ValType) -> str:
        render = self._render
        match kind:
            case wc.ListType():
                return f"list<{render(kind.element)}>"
            case wc.OptionType():
                return f"option<{render(kind.payload)}>"
            case wc.ResultType():
                ok, error = kind.ok, kind.err
                return f"result<{_part(render, ok)}, {_part(render, error)}>"
            case wc.TupleType():
                return f"tuple<{', '.join(render(element) for element in kind.elements)}>"
            case wc.RecordType():
                return f"record{{{', '.join(f'{name}: {render(part)}' for name, part in kind.fields)}}}"
            case wc.VariantType():
                cases = (name if part is None else f"{name}({render(part)})" for name, part in kind.cases)
                return f"variant{{{', '.join(cases)}}}"
            case wc.EnumType():
                return f"enum{{{', '.join(kind.names)}}}"
            case wc.FlagsType():
                return f"flags{{{', '.join(kind.names)}}}"
            case wc.OwnType():
                return f"own<{self._resource(kind.ty)}>"
            case wc.BorrowType():
                return f"borrow<{self._resource(kind.ty)}>"
            case _:
                return type(kind).__name__.lower()

    def _resource(self, wanted: wc.ResourceType) -> str:
        return next((_printable(name) for known, name in self._resources if known == wanted), "a resource of its own")


def _declared(kind: contract.Type) -> str:
    """A declared type in the same notation."""
    match kind:
        case contract.Primitive(name):
            return name
        case contract.ListOf(element):
            return f"list<{_declared(element)}>"
        case contract.OptionOf(inner):
            return f"option<{_declared(inner)}>"
        case contract.ResultOf(ok, error):
            return f"result<{_part(_declared, ok)}, {_part(_declared, error)}>"
        case contract.TupleOf(elements):
            return f"tuple<{', '.join(map(_declared, elements))}>"
        case contract.Record(fields):
            return f"record{{{', '.join(f'{name}: {_declared(part)}' for name, part in fields)}}}"
        case contract.Variant(cases):
            named = (name if part is None else f"{name}({_declared(part)})" for name, part in cases)
            return f"variant{{{', '.join(named)}}}"
        case contract.Enum(names):
            return f"enum{{{', '.join(names)}}}"
        case contract.Own(resource):
            return f"own<{resource.name}>"
        case contract.Borrow(resource):
            return f"borrow<{resource.name}>"
        case _:
            raise TypeError(f"no WIT notation for {kind!r}")
