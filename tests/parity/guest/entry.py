import d1
import kv
import r2
from operations import serve

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = request.url.rpartition("/")[2]
        if name == "kv":
            return await serve(request, self.env.KV, reset=kv.reset)
<<<<<<< HEAD
        if name == "d1":
            return await serve(request, self.env.D1, reset=d1.reset, describe=d1.describe)
=======
        if name == "r2":
            return await serve(request, self.env.R2, reset=r2.reset, describe=r2.describe)
>>>>>>> 4051e93 (Read options and refuse arguments as Cloudflare's runtime does, to the letter)
        return Response("no such binding", status=404)
