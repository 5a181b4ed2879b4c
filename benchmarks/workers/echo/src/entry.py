"""Parses a JSON body and answers with it, as peers/echo.js does."""

from workers import Response, WorkerEntrypoint


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response.json(await request.json())
