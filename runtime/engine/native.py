"""The only file that touches wasmtime's C functions.

Who owns what, who frees it, and on which thread (wasmtime 50.0, crates/c-api):

- Everything here runs on the thread of the event loop, except `increment_epoch` (any thread) and opening machine code
  (any thread, before the component is shared).
- Pointers are plain integers. A `Store` owns its instances and the tables of its handles; `close` frees all of it. A
  call's future borrows the store, the function, the argument and result memory and the error slot: it is deleted
  before any of them goes.
- Arguments of a call are copied by wasmtime at the first poll (`Val::from(&c_val)`), so they may lie in Python's
  memory, which must stay alive until then. Nothing in them is freed by wasmtime.
- Results of a call are written over what is in the result slot, and the old value is dropped first: the slot must hold
  a plain value (kind 0) before every call. The new value is ours: `delete_value` after reading it.
- Arguments of a host function are wasmtime's and live until the function is done (for an async one: until its
  continuation is ready). Results of a host function are dropped by wasmtime, so everything that they point to must
  come from wasmtime's allocator: `new_string`, `new_box`, `new_list` and so on. Slots start as kind 0.
- A resource argument is a box with a `ResourceAny`; `take_resource` turns it into the host's number and, for an owned
  one, ends the guest's ownership. `new_resource` makes a box; in results wasmtime frees it, in arguments we do.
- Callbacks are ctypes thunks: they must outlive the linkers that they are given to and their instances, and no
  exception may leave them (an exception in a ctypes callback would be printed and swallowed; a BaseException may kill
  the process).
- Python code in a callback runs on the fiber's stack and must return before the fiber is suspended.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, addressof, byref, c_bool, c_char_p, c_size_t, c_uint8, c_uint32, c_uint64
from pathlib import Path
from typing import Any, NamedTuple, NewType

import wasmtime
from wasmtime import _bindings
from wasmtime import component as wc

Pointer = NewType("Pointer", int)
"""An address, or the owner of something on the native side. 0 is none."""

_void = ctypes.c_void_p

# The same library twice: calls through `_long` release the GIL, calls through `_short` keep it, which is cheaper for
# functions that take well under a microsecond and never run guest code.
_library: str = vars(_bindings)["dll"]._name
_long = ctypes.CDLL(_library)
_short = ctypes.PyDLL(_library)


def _declare(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = library[name]
    function.restype = result
    function.argtypes = arguments
    return function


_error_new = _declare(_short, "wasmtime_error_new", _void, c_char_p)
_error_message = _declare(_short, "wasmtime_error_message", None, _void, _void)
_error_delete = _declare(_short, "wasmtime_error_delete", None, _void)
_vector_delete = _declare(_short, "wasm_byte_vec_delete", None, _void)

new_string: Callable[[int, int, bytes], None] = _declare(_short, "wasm_byte_vec_new", None, _void, c_size_t, c_char_p)
"""(address of {size, data}, size, bytes): a copy in wasmtime's memory."""
new_box: Callable[[int], int] = _declare(_short, "wasmtime_component_val_new", _void, _void)
"""(address of a value): moves the value into a box; the address then holds kind 0."""
new_list: Callable[[int, int], None] = _declare(_short, "wasmtime_component_vallist_new_uninit", None, _void, c_size_t)
"""(address of {size, data}, count): values of kind 0. The same for the two below."""
new_tuple: Callable[[int, int], None] = _declare(
    _short, "wasmtime_component_valtuple_new_uninit", None, _void, c_size_t
)
new_record: Callable[[int, int], None] = _declare(
    _short, "wasmtime_component_valrecord_new_uninit", None, _void, c_size_t
)
"""Entries of 48 bytes: a name {size, data}, then a value."""
delete_value: Callable[[int], None] = _declare(_short, "wasmtime_component_val_delete", None, _void)

_resource_host_new = _declare(_short, "wasmtime_component_resource_host_new", _void, c_bool, c_uint32, c_uint32)
_resource_host_rep = _declare(_short, "wasmtime_component_resource_host_rep", c_uint32, _void)
_resource_host_type = _declare(_short, "wasmtime_component_resource_host_type", c_uint32, _void)
_resource_host_delete = _declare(_short, "wasmtime_component_resource_host_delete", None, _void)
_resource_host_to_any = _declare(_short, "wasmtime_component_resource_host_to_any", _void, _void, _void, _void)
_resource_any_to_host = _declare(_short, "wasmtime_component_resource_any_to_host", _void, _void, _void, _void)
delete_resource: Callable[[int], None] = _declare(_short, "wasmtime_component_resource_any_delete", None, _void)

_store_new = _declare(_short, "wasmtime_store_new", _void, _void, _void, _void)
_store_context = _declare(_short, "wasmtime_store_context", _void, _void)
_store_limiter = _declare(_short, "wasmtime_store_limiter", None, _void, *[ctypes.c_int64] * 5)
_store_delete = _declare(_long, "wasmtime_store_delete", None, _void)
_set_epoch_deadline = _declare(_short, "wasmtime_context_set_epoch_deadline", None, _void, c_uint64)
# The header gives it an error to return; the function returns nothing.
_yield_at_epoch = _declare(_short, "wasmtime_context_epoch_deadline_async_yield_and_update", None, _void, c_uint64)
_increment_epoch = _declare(_short, "wasmtime_engine_increment_epoch", None, _void)

_linker_new = _declare(_short, "wasmtime_component_linker_new", _void, _void)
_linker_root = _declare(_short, "wasmtime_component_linker_root", _void, _void)
_linker_delete = _declare(_short, "wasmtime_component_linker_delete", None, _void)
_linker_instance_delete = _declare(_short, "wasmtime_component_linker_instance_delete", None, _void)
_add_instance = _declare(
    _short, "wasmtime_component_linker_instance_add_instance", _void, _void, c_char_p, c_size_t, _void
)
_add_module = _declare(_short, "wasmtime_component_linker_instance_add_module", _void, _void, c_char_p, c_size_t, _void)
_add_function = _declare(
    _short, "wasmtime_component_linker_instance_add_func", _void, _void, c_char_p, c_size_t, _void, _void, _void
)
_add_async_function = _declare(
    _short, "wasmtime_component_linker_instance_add_func_async", _void, _void, c_char_p, c_size_t, _void, _void, _void
)
_add_resource = _declare(
    _short,
    "wasmtime_component_linker_instance_add_resource",
    *[_void, _void, c_char_p, c_size_t, _void, _void, _void, _void],
)
_resource_type_new = _declare(_short, "wasmtime_component_resource_type_new_host", _void, c_uint32)
_resource_type_delete = _declare(_short, "wasmtime_component_resource_type_delete", None, _void)

_instantiate = _declare(_long, "wasmtime_component_linker_instantiate_async", _void, _void, _void, _void, _void, _void)
_get_function = _declare(_short, "wasmtime_component_instance_get_func", c_bool, _void, _void, _void, _void)
_call = _declare(
    _short, "wasmtime_component_func_call_async", _void, _void, _void, _void, c_size_t, _void, c_size_t, _void
)
poll: Callable[[int], bool] = _declare(_long, "wasmtime_call_future_poll", c_bool, _void)
"""Runs a future's fiber until it is done (True) or suspended. Guest code runs in here; the GIL is released."""
delete_future: Callable[[int], None] = _declare(_long, "wasmtime_call_future_delete", None, _void)
"""Frees a future; one that is not done ends there: its fiber is unwound and its store is spent."""

VALUE_BYTES = ctypes.sizeof(_bindings.wasmtime_component_val_t)
RECORD_ENTRY_BYTES = ctypes.sizeof(_bindings.wasmtime_component_valrecord_entry_t)
assert (VALUE_BYTES, RECORD_ENTRY_BYTES) == (32, 48), "wasmtime's values are laid out in another way"

_FunctionThunk = CFUNCTYPE(c_size_t, _void, _void, _void, _void, c_size_t, _void, c_size_t)
_AsyncFunctionThunk = CFUNCTYPE(None, _void, _void, _void, _void, c_size_t, _void, c_size_t, _void, _void)
_ContinuationThunk = CFUNCTYPE(c_bool, _void)
_DropThunk = CFUNCTYPE(c_size_t, _void, _void, c_uint32)

HostCallback = Callable[[int, int, int, int], bool | None]
"""(store context, address of the arguments, their number, address of the result): True when the result is there, False
to end the call; an async function may say None for a result that comes later."""


class NativeError(Exception):
    """wasmtime reported an error; the text may name functions of the guest."""


def take_error(pointer: int) -> NativeError:
    """The exception for an error that wasmtime gave us; frees the error."""
    vector = _bindings.wasm_byte_vec_t()
    _error_message(pointer, byref(vector))
    text = ctypes.string_at(vector.data, vector.size).decode("utf-8", "replace")
    _vector_delete(byref(vector))
    _error_delete(pointer)
    return NativeError(text)


def _check(pointer: int | None) -> None:
    if pointer:
        raise take_error(pointer)


def _address(managed: Any) -> int:
    return ctypes.cast(managed.ptr(), _void).value or 0


def disable_concurrency(config: wasmtime.Config) -> None:
    """Leaves out what the component model's own async functions need, which no worker can import.

    A call is then run on its fiber directly and not as a task of the store's scheduler: 4 us less for each.
    """
    _bindings.wasmtime_config_wasm_component_model_async_set(config.ptr(), False)
    _bindings.wasmtime_config_concurrency_support_set(config.ptr(), False)


class NativeComponent:
    """Machine code of a component, mapped from a file, and the export indexes that were asked for."""

    def __init__(self, engine: wasmtime.Engine, path: Path) -> None:
        """Raises `NativeError` if the file is not for this engine. The file is trusted: it runs as native code."""
        try:
            self._component = wc.Component.deserialize_file(engine, str(path))
        except wasmtime.WasmtimeError as error:
            raise NativeError(str(error)) from None
        self.pointer = _address(self._component)
        self._indexes: dict[tuple[str, str], wc.ExportIndex] = {}

    def function_index(self, interface: str, function: str) -> int:
        """Raises `NativeError` if the component does not export it."""
        index = self._indexes.get((interface, function))
        if index is None:
            outer = self._component.get_export_index(interface)
            index = self._component.get_export_index(function, outer) if outer is not None else None
            if index is None:
                raise NativeError(f"the component does not export {interface}#{function}")
            self._indexes[interface, function] = index
        return _address(index)


class NativeModule:
    """Machine code of a core module, mapped from a file. The same rules as for a component."""

    def __init__(self, engine: wasmtime.Engine, path: Path) -> None:
        try:
            self._module = wasmtime.Module.deserialize_file(engine, str(path))
        except wasmtime.WasmtimeError as error:
            raise NativeError(str(error)) from None
        self.pointer = _address(self._module)


class NativeEngine:
    """wasmtime's engine; one for each process."""

    def __init__(self, config: wasmtime.Config) -> None:
        self.engine = wasmtime.Engine(config)
        self.pointer = _address(self.engine)

    def increment_epoch(self) -> None:
        """Suspends every guest that has run since the last increment. Safe on any thread."""
        _increment_epoch(self.pointer)


class Store:
    """One instance's world: memories, tables, handles, limits."""

    def __init__(self, engine: NativeEngine, limits: tuple[int, int, int, int, int]) -> None:
        """`limits`: bytes of each memory, elements of each table, instances, tables, memories (all must be set)."""
        self._engine = engine
        self._pointer = _store_new(engine.pointer, None, None)
        self.context: int = _store_context(self._pointer)
        _store_limiter(self._pointer, *limits)
        _yield_at_epoch(self.context, 1)

    def begin_slice(self, increments: int) -> None:
        """Lets the guest run until the epoch has been incremented so often from now on.

        Without it a guest that was idle for an increment would be suspended as soon as it runs.
        """
        _set_epoch_deadline(self.context, increments)

    def close(self) -> None:
        """Frees everything. No future of this store may be left."""
        if self._pointer:
            _store_delete(self._pointer)
            self._pointer = 0


class CallSlot:
    """The memory that a call needs on the native side, made once for each instance: function, result, error."""

    def __init__(self) -> None:
        self._instance = _bindings.wasmtime_component_instance_t()
        self._functions: dict[int, Any] = {}
        self._result = ctypes.create_string_buffer(VALUE_BYTES)
        self._kind = c_uint8.from_buffer(self._result)
        self._error = _void()
        self.result = addressof(self._result)
        self._error_address = addressof(self._error)

    def instantiate(self, linker: Linker, store: Store, component: NativeComponent) -> int:
        """The future of an instantiation."""
        self._error.value = None
        future: int = _instantiate(
            linker.pointer, store.context, component.pointer, addressof(self._instance), self._error_address
        )
        return future

    def call(self, store: Store, function_index: int, arguments: int, count: int) -> int:
        """The future of a call of an exported function with one result, which will be at `result`.

        The last one's result must have been released, and its error taken.
        """
        function = self._functions.get(function_index)
        if function is None:
            function = self._functions[function_index] = _bindings.wasmtime_component_func_t()
            if not _get_function(addressof(self._instance), store.context, function_index, addressof(function)):
                raise NativeError("the instance does not export the function")
        future: int = _call(addressof(function), store.context, arguments, count, self.result, 1, self._error_address)
        return future

    def take_error(self) -> NativeError | None:
        """The error with which the last future ended."""
        if self._error.value is None:
            return None
        pointer, self._error.value = self._error.value, None
        return take_error(pointer)

    def release_result(self) -> None:
        """Frees the result after it has been read."""
        delete_value(self.result)
        self._kind.value = 0


class HostImports:
    """What the host defines for all components: functions and resources, as the thunks that wasm calls.

    They are the same for every linker, and dearer than all the rest of one.
    """

    def __init__(self) -> None:
        self._thunks: list[Any] = []
        self._interfaces: list[_InterfaceThunks] = []

    def define(
        self,
        interface: str,
        functions: Mapping[str, HostCallback],
        async_functions: Mapping[str, HostCallback],
        ready: Callable[[int], bool],
        resources: Mapping[str, tuple[int, Callable[[int, int], None]]],
    ) -> None:
        """Defines one interface.

        `ready` takes a store context and tells whether the async function that suspended it has its result.
        `resources`: number and what to do with a dropped handle: (store context, the host's number).
        """
        resume = self._keep(_ContinuationThunk(ready)) if async_functions else 0
        self._interfaces.append(
            _InterfaceThunks(
                interface.encode(),
                [(name.encode(), number, self._drop(drop)) for name, (number, drop) in resources.items()],
                [(name.encode(), self._function(callback)) for name, callback in functions.items()],
                [(name.encode(), self._async_function(callback, resume)) for name, callback in async_functions.items()],
            )
        )

    def add_to(self, root: int) -> None:
        """Adds every interface to the root of a linker."""
        instance = _void()
        for interface in self._interfaces:
            _check(_add_instance(root, interface.name, len(interface.name), addressof(instance)))
            try:
                for name, number, drop in interface.resources:
                    kind = _resource_type_new(number)
                    _check(_add_resource(instance, name, len(name), kind, drop, None, None))
                    _resource_type_delete(kind)
                for name, thunk in interface.functions:
                    _check(_add_function(instance, name, len(name), thunk, None, None))
                for name, thunk in interface.async_functions:
                    _check(_add_async_function(instance, name, len(name), thunk, None, None))
            finally:
                _linker_instance_delete(instance)

    def _keep(self, thunk: Any) -> int:
        self._thunks.append(thunk)
        return ctypes.cast(thunk, _void).value or 0

    def _drop(self, drop: Callable[[int, int], None]) -> int:
        def dropped(_data: int, context: int, rep: int) -> int:
            drop(context, rep)
            return 0

        return self._keep(_DropThunk(dropped))

    def _function(self, callback: HostCallback) -> int:
        def called(_data: int, context: int, _type: int, arguments: int, count: int, results: int, _n: int) -> int:
            return 0 if callback(context, arguments or 0, count, results or 0) else _error_new(b"host call failed")

        return self._keep(_FunctionThunk(called))

    def _async_function(self, callback: HostCallback, resume: int) -> int:
        set_address = c_uint64.from_address

        def called(
            _data: int,
            context: int,
            _type: int,
            arguments: int,
            count: int,
            results: int,
            _n: int,
            error: int,
            continuation: int,
        ) -> None:
            # The continuation is {callback, env, finalizer}; without an error it is polled at once.
            set_address(continuation).value = resume
            set_address(continuation + 8).value = context
            if callback(context, arguments or 0, count, results or 0) is False:
                set_address(error).value = _error_new(b"host call failed")

        return self._keep(_AsyncFunctionThunk(called))


class _InterfaceThunks(NamedTuple):
    """Names, encoded, and addresses of thunks; a resource has its number between."""

    name: bytes
    resources: list[tuple[bytes, int, int]]
    functions: list[tuple[bytes, int]]
    async_functions: list[tuple[bytes, int]]


class Linker:
    """Definitions for the imports of components. Complete after `__init__`: it is shared by running instantiations."""

    def __init__(self, engine: NativeEngine, modules: Mapping[str, NativeModule], imports: HostImports) -> None:
        """`modules`: core modules by the name under which components import them."""
        self._engine = engine
        self._modules = dict(modules)
        self.pointer: int = _linker_new(engine.pointer)
        # The linker's functions point to the thunks.
        weakref.finalize(self, _delete_linker, self.pointer, imports).atexit = False
        root = _linker_root(self.pointer)
        try:
            for name, module in modules.items():
                encoded = name.encode()
                _check(_add_module(root, encoded, len(encoded), module.pointer))
            imports.add_to(root)
        finally:
            _linker_instance_delete(root)


def _delete_linker(pointer: int, _imports: HostImports) -> None:
    _linker_delete(pointer)


def new_resource(context: int, rep: int, number: int) -> int:
    """A box with an owned handle for the guest: host object `rep` of resource type `number`."""
    host = _resource_host_new(True, rep, number)
    box = _void()
    try:
        _check(_resource_host_to_any(context, host, addressof(box)))
    finally:
        _resource_host_delete(host)
    return box.value or 0


def take_resource(context: int, box: int) -> tuple[int, int]:
    """(the host's number of the object, the number of its type) for a resource that the guest passed.

    Ends the loan or the ownership on wasmtime's side; the box stays with its owner.
    """
    host = _void()
    _check(_resource_any_to_host(context, box, addressof(host)))
    try:
        return _resource_host_rep(host), _resource_host_type(host)
    finally:
        _resource_host_delete(host)


MEMORY = memoryview((c_uint8 * (2**63 - 1)).from_address(0)).cast("B")
"""All of the process's memory, to read and write at an address: several times cheaper than ctypes' own ways. A wrong
address here is a crash or worse, so only `lift` and `lower` use it, with addresses that wasmtime gave or that are ours.
"""

BYTES_OFFSET = bytes.__basicsize__ - 1
"""How far behind `id(data)` CPython keeps the content of a bytes object; good as long as `data` is referenced."""

assert ctypes.string_at(id(b"cloister") + BYTES_OFFSET, 8) == b"cloister", "CPython keeps bytes in another way"
