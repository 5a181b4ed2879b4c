import d1
import kv
import r2
from operations import serve

from workers import Response, WorkerEntrypoint

BINDINGS = {"d1": d1, "kv": kv, "r2": r2}


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        name = request.url.rpartition("/")[2]
        binding = BINDINGS.get(name)
        if binding is None:
            return Response("no such binding", status=404)
        described = getattr(binding, "describe", None)
        return await serve(request, getattr(self.env, name.upper()), reset=binding.reset, describe=described)
