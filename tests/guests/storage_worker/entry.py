"""A worker that shows what its bindings hold: GET /kv/KEY, /r2/KEY, /d1 (the number of rows in `t`), /env/NAME."""

from urllib.parse import urlsplit

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        kind, _, name = urlsplit(request.url).path.strip("/").partition("/")
        if kind == "kv":
            return Response(str(await self.env.KV.get(name)))
        if kind == "r2":
            found = await self.env.R2.get(name)
            return Response(await found.text() if found else "None")
        if kind == "d1":
            return Response(str(await self.env.DB.prepare("SELECT count(*) AS n FROM t").first("n")))
        return Response(str(getattr(self.env, name, None)))
