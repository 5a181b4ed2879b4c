import d1
import kv
from operations import serve

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = request.url.rpartition("/")[2]
        if name == "kv":
            return await serve(request, self.env.KV, reset=kv.reset)
        if name == "d1":
            return await serve(request, self.env.D1, reset=d1.reset, describe=d1.describe)
        return Response("no such binding", status=404)
