"""From the contract's declarations to linkers: each host function wrapped so that nothing escapes into wasm.

An exception that left a host callback could surface in another tenant's call or kill the process, so every import goes
through `_callback`: it catches everything, keeps it on the instance that called, and ends that call alone.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any

from host_bindings.contract import Err, Failure, HostFunction, Interface, LimitReached, ResultOf
from runtime.engine import native
from runtime.engine.instance import Instance
from runtime.engine.layout import VALUE_BYTES, CodecError
from runtime.engine.lift import decoder
from runtime.engine.lower import NATIVE, Encoder, encoder
from runtime.engine.native import HostImports

COUNTED = "cloister:"
"""Calls of interfaces whose name begins so count against the limit of host calls."""

Instances = Mapping[int, Instance]
"""Live instances by their store's context."""


def host_imports(interfaces: Sequence[Interface], instances: Instances) -> HostImports:
    """All of the contract, for linkers."""
    imports = HostImports()
    for interface in interfaces:
        counted = interface.name.startswith(COUNTED)
        immediate: dict[str, native.HostCallback] = {name: _refused(instances) for name in interface.refused}
        waiting: dict[str, native.HostCallback] = {}
        for function in interface.functions:
            kind = waiting if function.may_wait else immediate
            kind[function.name] = _callback(function, instances, counted)
        drops = {
            resource.name: (resource.number, _drop(resource.number, instances)) for resource in interface.resources
        }
        imports.define(interface.name, immediate, waiting, _ready(instances), drops)
    return imports


def _encode_nothing(_instance: object, _address: int, _value: object) -> None:
    pass


def _argument_reader(function: HostFunction) -> Callable[[Instance, int, int], list[Any]]:
    decoders = [(decoder(kind), i * VALUE_BYTES) for i, kind in enumerate(function.parameters)]
    expected = len(decoders)

    def read(instance: Instance, address: int, count: int) -> list[Any]:
        if count != expected:
            raise CodecError(f"expected {expected} arguments, got {count}")
        return [decode(instance, address + offset) for decode, offset in decoders]

    return read


def _result_writer(function: HostFunction) -> tuple[Encoder, bool]:
    """The encoder of the result, and whether a `Failure` can be told to the guest."""
    if function.result is None:
        return _encode_nothing, False
    has_error = isinstance(function.result, ResultOf) and function.result.error is not None
    return encoder(function.result, NATIVE), has_error


def _failed(failure: Failure) -> Err:
    return Err((failure.name, failure.message))


def _begun(coroutine: Any) -> tuple[Coroutine[Any, Any, Any] | None, Any]:
    """Runs a coroutine up to its first wait: what is left of it, or None and its result. Raises what it raises."""
    try:
        waited = coroutine.send(None)
    except StopIteration as done:
        return None, done.value
    return _rest(coroutine, waited), None


async def _rest(coroutine: Coroutine[Any, Any, Any], waited: object) -> Any:
    return await _resumed(coroutine, waited)


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, Any], waited: object) -> Generator[Any, Any, Any]:
    """A coroutine that waits for `waited`, as an awaitable for the task that goes on with it."""
    while True:
        try:
            sent = yield waited
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:
            # Here and not below: a variable that outlives the block would keep what the coroutine has in its frames.
            try:
                waited = coroutine.throw(error)
            except StopIteration as done:
                return done.value
        else:
            try:
                waited = coroutine.send(sent)
            except StopIteration as done:
                return done.value


def _callback(function: HostFunction, instances: Instances, counted: bool) -> native.HostCallback:
    """The function as wasm calls it: True when it has answered, None when it will, False to end the call."""
    read = _argument_reader(function)
    write, has_error = _result_writer(function)
    implementation, may_wait, prompt = function.implementation, function.may_wait, function.prompt

    def callback(context: int, arguments: int, count: int, results: int) -> bool | None:
        instance = instances[context]
        try:
            if counted:
                instance.count_host_call()
            try:
                value = implementation(instance.guest, *read(instance, arguments, count))
                if may_wait and hasattr(value, "__await__"):
                    waiting, value = _begun(value) if prompt else (value, None)
                    if waiting is not None:
                        instance.wait(waiting, write, results, has_error)
                        return None
            except Failure as failure:
                if not has_error:
                    raise
                if isinstance(failure, LimitReached):
                    instance.note_limit(failure)
                value = _failed(failure)
            write(instance, results, value)
            return True
        except BaseException as error:
            instance.fail(error)
            return False

    return callback


def _ready(instances: Instances) -> Callable[[int], bool]:
    def ready(context: int) -> bool:
        return not instances[context].waiting

    return ready


def _refused(instances: Instances) -> native.HostCallback:
    def callback(context: int, _arguments: int, _count: int, _results: int) -> bool:
        instances[context].fail(Failure("Error", "The worker called a function of WASI that this host does not give."))
        return False

    return callback


def _drop(number: int, instances: Instances) -> Callable[[int, int], None]:
    def drop(context: int, rep: int) -> None:
        instance = instances.get(context)
        if instance is None:
            return
        try:
            instance.drop(rep, number)
        except BaseException as error:
            instance.fail(error)

    return drop
