"""Answers as little as possible, as peers/hello.js does."""

from workers import Response, WorkerEntrypoint

# The benchmark writes other digits here to get tenants whose code differs, without building each: see tenants.py.
VARIANT = "benchmark variant 0000000000"


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("hello", headers={"content-type": "text/plain"})

    async def variant(self):
        return VARIANT
