// Runs lists of operations, see tests/parity/__init__.py.
import { Buffer } from "node:buffer";

const LONG = 64 * 1024;

// The response to a request with operations. `reset(binding)` empties the binding first. `describe(value)` gives a plain
// object for a value of the binding's own classes, and undefined for others.
export async function serve(request, binding, { reset = async () => {}, describe = () => undefined } = {}) {
  const operations = await request.json();
  await reset(binding);
  const values = [];
  const results = [];
  for (const operation of operations) {
    let value;
    try {
      value = await perform(operation, binding, values);
      results.push({ value: (await encode(value, describe)) ?? null });
    } catch (error) {
      value = undefined;
      results.push({ error: error.message, type: error.name });
    }
    values.push(value);
  }
  return Response.json(results);
}

async function perform({ on, calls }, target, values) {
  let value = on === undefined ? target : decode(on, values);
  for (const [name, ...given] of calls) {
    if (value === null || value === undefined) return null;
    if (name.startsWith(".")) value = value[name.slice(1)];
    else if (typeof value[name] !== "function") throw new TypeError(`no method ${name}`);
    else value = await value[name](...given.map((argument) => decode(argument, values)));
  }
  return value;
}

const SPECIAL = {
  $bytes: (base64) => new Uint8Array(Buffer.from(base64, "base64")),
  $number: (text) => Number(text),
  $date: (milliseconds) => new Date(milliseconds),
  $buffer: (base64) => new Uint8Array(Buffer.from(base64, "base64")).buffer,
  $stream: (base64) => new Response(Buffer.from(base64, "base64")).body,
  $repeat: ([text, times]) => text.repeat(times),
  $fill: ([byte, length]) => new Uint8Array(length).fill(byte),
  $headers: (pairs) => new Headers(pairs),
  $blob: ([base64, type]) => new Blob([Buffer.from(base64, "base64")], { type }),
  $undefined: () => undefined,
  $result: ([index, ...path], values) => path.reduce((value, name) => value?.[name], values[index]),
};

function decode(value, values) {
  if (Array.isArray(value)) return value.map((element) => decode(element, values));
  if (value === null || typeof value !== "object") return value;
  const [name] = Object.keys(value);
  if (Object.hasOwn(SPECIAL, name)) return SPECIAL[name](value[name], values);
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, decode(member, values)]));
}

async function encode(value, describe) {
  if (value === undefined || value === null || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : { $number: String(value) };
  if (typeof value === "string") return value.length > LONG / 4 ? await text(value) : value;
  const described = describe(value);
  if (described !== undefined) return encode(described, describe);
  if (value instanceof Date) return { $date: value.getTime() };
  if (value instanceof ReadableStream) return bytes(await new Response(value).arrayBuffer());
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return bytes(value);
  if (Array.isArray(value)) return Promise.all(value.map(async (item) => (await encode(item, describe)) ?? null));
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  const encoded = await Promise.all(entries.map(async ([name, member]) => [name, await encode(member, describe)]));
  return Object.fromEntries(encoded.filter(([, member]) => member !== undefined));
}

async function text(value) {
  const encoded = Buffer.from(value, "utf-8");
  return encoded.byteLength > LONG ? digest(encoded) : value;
}

async function bytes(value) {
  const found = ArrayBuffer.isView(value)
    ? Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    : Buffer.from(value);
  return found.byteLength > LONG ? digest(found) : { $bytes: found.toString("base64") };
}

async function digest(value) {
  const hash = await crypto.subtle.digest("SHA-256", value);
  return { $digest: Buffer.from(hash).toString("hex"), length: value.byteLength };
}
