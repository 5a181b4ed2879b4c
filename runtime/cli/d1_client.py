"""D1's part of the management API, for the command line."""

from __future__ import annotations

import hashlib
import http.client
import shutil
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from runtime.cli.client import AdminClient
from runtime.cli.errors import CommandError, ExitCode

_TRANSFER_S = 600.0


class D1Client:
    """For one database, by id or name."""

    def __init__(self, client: AdminClient, database: str) -> None:
        self._client = client
        self._path = f"/{quote(database, safe='')}"

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Runs SQL as one transaction; {results, meta} of each statement."""
        results: list[dict[str, Any]] = self._post("/query", {"sql": sql})
        return results

    def export(self, path: Path, options: dict[str, Any]) -> None:
        """Writes the database as SQL text to a file."""
        exported = self._post("/export", {"output_format": "polling", "dump_options": options})
        with path.open("wb") as file:
            _transfer("GET", exported["result"]["signed_url"], received=file)

    def import_file(self, path: Path) -> dict[str, Any]:
        """Runs the SQL text in a file as one transaction; {num_queries, final_bookmark, meta}."""
        with path.open("rb") as file:
            etag = hashlib.file_digest(file, "md5").hexdigest()
        begun = self._post("/import", {"action": "init", "etag": etag})
        if begun.get("upload_url"):
            with path.open("rb") as file:
                _transfer("PUT", begun["upload_url"], sent=file, length=path.stat().st_size)
        ingest = {"action": "ingest", "etag": etag, "filename": begun["filename"]}
        result: dict[str, Any] = self._post("/import", ingest)["result"]
        return result

    def bookmark(self, timestamp: str | None) -> str:
        """Of the present state or of one at a time (ISO 8601)."""
        query = urlencode({} if timestamp is None else {"timestamp": timestamp})
        return str(
            self._client.call("GET", f"{self._path}/time_travel/bookmark?{query}", under="d1/database")["bookmark"]
        )

    def restore(self, moment: dict[str, str]) -> dict[str, Any]:
        """`moment` has a timestamp or a bookmark; {bookmark, previous_bookmark}."""
        path = f"{self._path}/time_travel/restore?{urlencode(moment)}"
        result: dict[str, Any] = self._client.call("POST", path, under="d1/database")
        return result

    def _post(self, path: str, content: object) -> Any:
        return self._client.call("POST", self._path + path, under="d1/database", content=content)


def _transfer(
    method: str, url: str, *, sent: BinaryIO | None = None, length: int = 0, received: BinaryIO | None = None
) -> None:
    """To or from an address that the server has given, and which needs no token."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TRANSFER_S)
    try:
        connection.request(method, parts.path, sent, {"Content-Length": str(length)} if sent is not None else {})
        answer = connection.getresponse()
        if answer.status != 200:
            raise CommandError("The file could not be transferred.", answer.read(4096).decode("utf-8", "replace"))
        if received is not None:
            shutil.copyfileobj(answer, received)
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            "The file could not be transferred.", str(error) or type(error).__name__, exit_code=ExitCode.UNREACHABLE
        ) from error
    finally:
        connection.close()
