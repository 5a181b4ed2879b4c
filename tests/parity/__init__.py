"""Parity: the same operations on Cloister, through a guest component, and on Miniflare (real workerd).

The operations are JSON, and so are their results. Both programs get the same list in one request, run it one operation
after the other, and their answers are compared field by field once `normalise` has taken out what must differ.

An operation is a chain of calls on the binding, or on an earlier result:

    {"calls": [["put", "a", "1", {"metadata": [1]}]]}
    {"calls": [["prepare", "SELECT ?"], ["bind", 5], ["all"]]}
    {"on": {"$result": [3]}, "calls": [["uploadPart", 1, {"$bytes": "AAE="}]]}

Method names are JavaScript's; the guest calls them in snake_case. A call without arguments whose name begins with a dot
(`[".body"]`) reads a field; a call on null gives null. Special values in arguments, and in results the
first three of them and `$digest`:

    {"$bytes": "base64"}           Uint8Array, bytes (an ArrayBuffer and a stream give the same in results)
    {"$number": "NaN"}             NaN, Infinity, -Infinity
    {"$date": 1700000000000}       Date, datetime, in milliseconds
    {"$digest": "…", "length": 5}  only in results: SHA-256 of text or bytes that are longer than 64 KiB
    {"$buffer": "base64"}          ArrayBuffer, memoryview
    {"$stream": "base64"}          ReadableStream
    {"$headers": [["a", "b"]]}     Headers
    {"$blob": ["base64", "type"]}  Blob
    {"$repeat": ["ab", 100]}       a text, repeated
    {"$fill": [255, 1000]}         a Uint8Array, bytes: one byte, repeated
    {"$undefined": true}           undefined, None
    {"$result": [3, "cursor"]}     a field of the fourth operation's result, or the result itself

A result is {"value": …} or {"error": message, "type": the error's class in JavaScript}. undefined counts as null.

There is one guest (`guest/`) and one worker (`worker/`) with all bindings; the request's path names the binding. To add
one:

- `guest/NAME.py`, `worker/NAME.js`: `reset` empties the binding before each list; `describe` turns values of its own
  classes into plain objects; `entry.py` and `worker.js` name the module;
- `NAME/conftest.py`: a fixture that gives `sides.parity("NAME")`;
- `NAME/test_*.py`: `results = kv([{"calls": …}, …])` runs a list on both sides, fails with the first operation whose
  results differ, and returns Cloister's results, for a test to look at: two sides that fail alike would agree as well;
- in `normalise.py` what must differ, and in docs/bindings.md, with its reason, what differs deliberately.

Without Node.js the tests are skipped, and the summary says that parity was not checked; where CI=true they fail.
"""
