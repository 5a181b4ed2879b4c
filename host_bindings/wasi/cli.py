"""`wasi:cli`: no environment variables, no arguments, no terminal; standard output and error go to the log."""

from __future__ import annotations

from typing import NoReturn

from host_bindings.context import GuestContext
from host_bindings.contract import (
    U8,
    Err,
    HostFunction,
    Interface,
    ListOf,
    OptionOf,
    Own,
    Resource,
    ResultOf,
    String,
    TupleOf,
)
from host_bindings.wasi.console import console_of
from host_bindings.wasi.errors import GuestExit
from host_bindings.wasi.resources import INPUT_STREAM, OUTPUT_STREAM, TERMINAL_INPUT, TERMINAL_OUTPUT
from host_bindings.wasi.streams import InputStream, OutputStream


def nothing(_: GuestContext) -> list[object]:
    return []


def none(_: GuestContext) -> None:
    return None


def exit_with(_: GuestContext, status: Err | None) -> NoReturn:
    raise GuestExit(0 if status is None else 1)


def exit_with_code(_: GuestContext, code: int) -> NoReturn:
    raise GuestExit(code)


def stdin(_: GuestContext) -> InputStream:
    return InputStream()


def stdout(context: GuestContext) -> OutputStream:
    return OutputStream(console_of(context).stdout)


def stderr(context: GuestContext) -> OutputStream:
    return OutputStream(console_of(context).stderr)


def _terminal(stream: str, resource: Resource) -> Interface:
    function = HostFunction(f"get-terminal-{stream}", (), OptionOf(Own(resource)), none)
    return Interface(f"wasi:cli/terminal-{stream}@0.2.0", functions=(function,), resources=(resource,))


INTERFACES = (
    Interface(
        "wasi:cli/environment@0.2.0",
        functions=(
            HostFunction("get-environment", (), ListOf(TupleOf((String, String))), nothing),
            HostFunction("get-arguments", (), ListOf(String), nothing),
            HostFunction("initial-cwd", (), OptionOf(String), none),
        ),
    ),
    Interface(
        "wasi:cli/exit@0.2.0",
        functions=(
            HostFunction("exit", (ResultOf(None, None),), None, exit_with),
            HostFunction("exit-with-code", (U8,), None, exit_with_code),
        ),
    ),
    Interface(
        "wasi:cli/stdin@0.2.0",
        functions=(HostFunction("get-stdin", (), Own(INPUT_STREAM), stdin),),
        resources=(INPUT_STREAM,),
    ),
    Interface(
        "wasi:cli/stdout@0.2.0",
        functions=(HostFunction("get-stdout", (), Own(OUTPUT_STREAM), stdout),),
        resources=(OUTPUT_STREAM,),
    ),
    Interface(
        "wasi:cli/stderr@0.2.0",
        functions=(HostFunction("get-stderr", (), Own(OUTPUT_STREAM), stderr),),
        resources=(OUTPUT_STREAM,),
    ),
    Interface("wasi:cli/terminal-input@0.2.0", resources=(TERMINAL_INPUT,)),
    Interface("wasi:cli/terminal-output@0.2.0", resources=(TERMINAL_OUTPUT,)),
    _terminal("stdin", TERMINAL_INPUT),
    _terminal("stdout", TERMINAL_OUTPUT),
    _terminal("stderr", TERMINAL_OUTPUT),
)
