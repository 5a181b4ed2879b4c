// One operation, n times in a request; benchmarks/workers/stores/src/entry.py does the same in Python.
const VALUE = "v".repeat(100);
const OBJECT = VALUE.repeat(10);
const key = (i) => "key-" + String(i).padStart(7, "0");
const INSERT = "INSERT INTO rows (content) VALUES (?)";

const operations = {
  async "kv-get"(env, i) {
    if ((await env.KV.get(key(i))) !== VALUE) throw new Error("a wrong value");
  },
  "kv-put": (env, i) => env.KV.put(key(i), VALUE),
  async "kv-list"(env, i) {
    const page = await env.KV.list({ prefix: "key-" + String(i % 1000).padStart(4, "0") });
    if (page.keys.length !== 1000) throw new Error(`${page.keys.length} keys`);
  },
  "r2-put": (env, i) => env.R2.put(key(i), OBJECT),
  async "r2-get"(env, i) {
    if ((await (await env.R2.get(key(i))).text()).length !== OBJECT.length) throw new Error("a wrong object");
  },
  async "r2-list"(env, i) {
    const page = await env.R2.list({ prefix: "key-" + String(i % 1000).padStart(4, "0") });
    if (page.objects.length !== 1000) throw new Error(`${page.objects.length} objects`);
  },
  async "d1-read"(env, i) {
    const found = await env.DB.prepare("SELECT content FROM rows WHERE id = ?").bind(i + 1).first("content");
    if (found !== VALUE) throw new Error("a wrong row");
  },
  "d1-insert": (env) => env.DB.prepare(INSERT).bind(VALUE).run(),
  "d1-batch": (env) => env.DB.batch(Array.from({ length: 100 }, () => env.DB.prepare(INSERT).bind(VALUE))),
};

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const asked = (name, otherwise) => Number(url.searchParams.get(name) ?? otherwise);
    if (url.pathname === "/object") {
      const name = url.searchParams.get("key");
      if (request.method === "PUT") {
        await env.R2.put(name, request.body);
        return new Response("done");
      }
      return new Response((await env.R2.get(name)).body);
    }
    const [n, from, step] = [asked("n", 1), asked("from", 0), asked("step", 1)];
    if (url.searchParams.get("op") === "d1-prepare") {
      await env.DB.prepare("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, content TEXT)").run();
      await env.DB.batch(Array.from({ length: n }, () => env.DB.prepare(INSERT).bind(VALUE)));
      return new Response("done");
    }
    const operation = operations[url.searchParams.get("op")];
    for (let i = 0; i < n; i++) await operation(env, from + i * step);
    return new Response("done");
  },
};
