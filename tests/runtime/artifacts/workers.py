"""Small workers, written in WebAssembly's text format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import wasmtime

NOTHING = "(component)"

_BODY = '(export "body" (type $body (sub resource)))'
_PAYLOAD = '(variant (case "empty") (case "text" string) (case "bytes" (list u8)) (case "stream" (own $body)))'
_RESPONSE = '(record (field "status" u16) (field "headers" string) (field "body" $payload))'
_EXCEPTION = '(record (field "name" string) (field "message" string) (field "traceback" string))'
_OUTCOME = '(record (field "value" string) (field "attachments" (list $payload)))'


def _fetch(response: str, exception: str, payload: str) -> str:
    parameters = f'(param "method" string) (param "url" string) (param "headers" string) (param "body" {payload})'
    return f"(func {parameters} (result (result {response} (error {exception}))))"


def _call(outcome: str, exception: str, payload: str) -> str:
    parameters = f'(param "method" string) (param "arguments" string) (param "attachments" (list {payload}))'
    return f"(func {parameters} (result (result {outcome} (error {exception}))))"


_EXPORTS = f"""
  (component $shim
    (import "import-body" (type $body (sub resource)))
    (type $payload0 {_PAYLOAD})
    (import "import-payload" (type $payload (eq $payload0)))
    (type $response0 {_RESPONSE})
    (import "import-response" (type $response (eq $response0)))
    (type $exception0 {_EXCEPTION})
    (import "import-exception" (type $exception (eq $exception0)))
    (type $outcome0 {_OUTCOME})
    (import "import-outcome" (type $outcome (eq $outcome0)))
    (import "import-fetch" (func $fetch {_fetch("$response", "$exception", "$payload")[5:]})
    (import "import-call" (func $call {_call("$outcome", "$exception", "$payload")[5:]})
    (export $exception2 "exception" (type $exception0))
    (export $outcome2 "outcome" (type $outcome0))
    (export "fetch" (func $fetch) {_fetch("$response", "$exception2", "$payload")})
    (export "call" (func $call) {_call("$outcome2", "$exception2", "$payload")}))
  (instance $handler (instantiate $shim
    (with "import-body" (type $body))
    (with "import-payload" (type $payload))
    (with "import-response" (type $response))
    (with "import-exception" (type $exception))
    (with "import-outcome" (type $outcome))
    (with "import-fetch" (func $fetch))
    (with "import-call" (func $call))))
  (export "cloister:worker/handler@0.1.0" (instance $handler))"""


REALLOC = """(global.get $next)
      (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 15)) (i32.const -16)))
"""


def library(name: str, code_bytes: int = 0, realloc: str = REALLOC) -> str:
    """A core module with memory and an allocator; `name` and the size of its code make it different from others."""
    padding = f"(func {'nop ' * code_bytes})" if code_bytes else ""
    return f"""
  (core module $library
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
    (func (export "not used by anyone") (result i32) (i32.const 5))
    (global (export "name {name}") i32 (i32.const 1))
    {padding})"""


def worker(
    answer: str = "hello",
    *,
    modules: str = "",
    imports: str = "",
    code_bytes: int = 0,
    definitions: str = "",
    first: str = "",
    host: Mapping[str, str] | None = None,
    realloc: str = "",
    options: str = "",
) -> str:
    """A component that fits the contract; its `fetch` answers 200 with a text.

    `code_bytes`: how much code its library, a core module of its own, has. `modules`: more of the component's text,
    `imports`: more imports. `definitions`: more of the core module that has `fetch`, `first`: what that does before it
    answers. `host`: definitions of core functions that it may import from "host", by name. `realloc`: what the
    allocator does instead. `options`: more of how `fetch` is lifted.
    """
    host = host or {}
    functions = "".join(f"(core func ${name} {definition})" for name, definition in host.items())
    exports = "".join(f'(export "{name}" (func ${name}))' for name in host)
    return f"""(component
  (import "cloister:worker/types@0.1.0" (instance $types
    {_BODY}
    (type $payload0 {_PAYLOAD})
    (export "payload" (type $payload (eq $payload0)))))
  {imports}
  (alias export $types "body" (type $body))
  (alias export $types "payload" (type $payload))
  (import "cloister:worker/http@0.1.0" (instance $http
    (alias outer 1 $payload (type $payload1))
    (export "payload" (type $payload (eq $payload1)))
    (type $response0 {_RESPONSE})
    (export "response" (type $response (eq $response0)))))
  (alias export $http "response" (type $response))
  (type $exception {_EXCEPTION})
  (type $outcome {_OUTCOME})
  {library("one", code_bytes, realloc or REALLOC)}
  {modules}
  (core module $main
    (import "library" "memory" (memory 1))
    (data (i32.const 20) "\\c8\\00")
    (data (i32.const 32) "\\01\\00\\00\\00\\80\\00\\00\\00\\{len(answer):02x}")
    (data (i32.const 128) "{answer}")
    {definitions}
    (func (export "fetch") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {first} (i32.const 16))
    (func (export "call") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable))
  (core instance $library (instantiate $library))
  (alias core export $library "memory" (core memory $memory))
  (alias core export $library "realloc" (core func $realloc))
  {functions}
  (core instance $host {exports})
  (core instance $main (instantiate $main (with "library" (instance $library)) (with "host" (instance $host))))
  (func $fetch {_fetch("$response", "$exception", "$payload")[5:-1]}
    (canon lift (core func $main "fetch") (memory $memory) (realloc $realloc) {options}))
  (func $call {_call("$outcome", "$exception", "$payload")[5:-1]}
    (canon lift (core func $main "call") (memory $memory) (realloc $realloc)))
  {_EXPORTS})"""


def wasm(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def worker_with_a_resource_of_its_own(first: str = "") -> str:
    """A worker whose handler has a resource where the contract has one; but it is the worker's own, and no body."""
    text = worker(
        host={"new": "(canon resource.new $mine)"},
        definitions='(import "host" "new" (func $new (param i32) (result i32))) (global $n (mut i32) (i32.const 0))',
        first=first,
    )
    head, exception, rest = text.partition("(type $exception")
    main, shim, rest = (exception + rest).partition("(component $shim")
    shim, instance, rest = (shim + rest).partition("(instance $handler")
    own = f"""(type $mine (resource (rep i32)))
      (type $own_payload {_PAYLOAD.replace("$body", "$mine")})
      (type $own_response {_RESPONSE.replace("$payload", "$own_payload")})"""
    main = main.replace("$payload", "$own_payload").replace("$response", "$own_response")
    rest = rest.replace("(type $body)", "(type $mine)").replace("(type $payload)", "(type $own_payload)")
    rest = rest.replace("(type $response)", "(type $own_response)")
    # What an exported function names has to be exported, too.
    shim, fetch, functions = shim.partition('(export "fetch"')
    shim = (
        shim[: shim.index("(export $exception2")]
        + f"""
      (export $body2 "body" (type $body))
      (type $payload2 {_PAYLOAD.replace("$body", "$body2")})
      (export $payload3 "payload" (type $payload2))
      (type $response2 {_RESPONSE.replace("$payload", "$payload3")})
      (export $response3 "response" (type $response2))
      (export $exception2 "exception" (type $exception0))
      (type $outcome1 {_OUTCOME.replace("$payload", "$payload3")})
      (export $outcome2 "outcome" (type $outcome1))"""
    )
    functions = functions.replace("$payload)", "$payload3)").replace("(result $response ", "(result $response3 ")
    return head + own + main + shim + fetch + functions + instance + rest
