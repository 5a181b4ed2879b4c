"""One operation, `n` times in a request: ?op=kv-get&n=100&from=0. Objects go through whole: /object?key=…

benchmarks/peers/stores.js does the same in JavaScript.
"""

from urllib.parse import parse_qs, urlsplit

from workers import Response, WorkerEntrypoint

VALUE = "v" * 100
KEY = "key-{:07d}".format
INSERT = "INSERT INTO rows (content) VALUES (?)"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/object":
            return await self.object(request, asked["key"])
        await OPERATIONS[asked["op"]](self.env, int(asked["n"]), int(asked.get("from", 0)), int(asked.get("step", 1)))
        return Response("done")

    async def object(self, request, key):
        if request.method == "PUT":
            await self.env.R2.put(key, request.body)
            return Response("done")
        found = await self.env.R2.get(key)
        return Response(found.body)


async def kv_get(env, n, start, step):
    for i in range(n):
        if await env.KV.get(KEY(start + i * step)) != VALUE:
            raise ValueError("a wrong value")


async def kv_put(env, n, start, step):
    for i in range(n):
        await env.KV.put(KEY(start + i * step), VALUE)


async def kv_list(env, n, start, step):
    for i in range(n):
        page = await env.KV.list(prefix=f"key-{(start + i * step) % 1000:04d}")
        if len(page["keys"]) != 1000:
            raise ValueError(f"{len(page['keys'])} keys")


async def r2_put(env, n, start, step):
    for i in range(n):
        await env.R2.put(KEY(start + i * step), VALUE * 10)


async def r2_get(env, n, start, step):
    for i in range(n):
        found = await env.R2.get(KEY(start + i * step))
        if len(await found.text()) != len(VALUE) * 10:
            raise ValueError("a wrong object")


async def r2_list(env, n, start, step):
    for i in range(n):
        page = await env.R2.list(prefix=f"key-{(start + i * step) % 1000:04d}")
        if len(page.objects) != 1000:
            raise ValueError(f"{len(page.objects)} objects")


async def d1_prepare(env, n, start, step):
    await env.DB.prepare("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, content TEXT)").run()
    await env.DB.batch([env.DB.prepare(INSERT).bind(VALUE) for _ in range(n)])


async def d1_read(env, n, start, step):
    statement = env.DB.prepare("SELECT content FROM rows WHERE id = ?")
    for i in range(n):
        if await statement.bind(start + i * step + 1).first("content") != VALUE:
            raise ValueError("a wrong row")


async def d1_insert(env, n, start, step):
    for _ in range(n):
        await env.DB.prepare(INSERT).bind(VALUE).run()


async def d1_batch(env, n, start, step):
    for _ in range(n):
        await env.DB.batch([env.DB.prepare(INSERT).bind(VALUE) for _ in range(100)])


OPERATIONS = {
    "kv-get": kv_get,
    "kv-put": kv_put,
    "kv-list": kv_list,
    "r2-put": r2_put,
    "r2-get": r2_get,
    "r2-list": r2_list,
    "d1-prepare": d1_prepare,
    "d1-read": d1_read,
    "d1-insert": d1_insert,
    "d1-batch": d1_batch,
}
