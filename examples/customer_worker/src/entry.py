"""The demo platform's tenant: a customer's files (R2), data (KV) and SQL database (D1), called by the dispatcher.

One source, deployed once for each customer and bound to that customer's own resources under the same names. USER_KV and
USER_R2 hold nothing but what the customer put there, and USER_DB is the customer's alone; the count of operations lives
in a database of its own, ACTIVITY_DB, which no method gives access to. Every number in `get_stats` is exact: files are
counted where they are, and an operation is counted by one atomic statement.
"""

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from workers import Response, WorkerEntrypoint

LIST_PAGE = 1000

# 18 digits: no object is longer, and Python refuses to read thousands of them.
BYTES_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

# Headers of a request that may have another answer than the whole file.
CONDITIONS = frozenset(("range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"))


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("The customer worker is running")

    # Files

    async def upload_file(self, key, body, content_type="application/octet-stream"):
        """Stores a file. Replaces one of the same key."""
        stored = await self.env.USER_R2.put(key, body, httpMetadata={"contentType": content_type})
        await self._count_operation()
        return {"success": True, "key": key, "size": stored.size}

    async def get_file(self, key, method="GET", headers=None):
        """The file as an answer to an HTTP request with these headers: whole, a range of it, or a status without it."""
        headers = {name.lower(): value for name, value in (headers or {}).items()}
        if method == "GET" and headers.keys().isdisjoint(CONDITIONS):
            # The common case: the whole file, in one call of the bucket.
            file = await self.env.USER_R2.get(key)
            return not_found() if file is None else Response(file.body, headers=file_headers(file))
        found = await self.env.USER_R2.head(key)
        if found is None:
            return not_found()
        answer = file_headers(found)
        status = precondition(headers, found)
        if status is not None:
            return Response(None, status=status, headers=answer)
        part = wanted_range(headers, found)
        if part == "unsatisfiable":
            return Response(None, status=416, headers={**answer, "content-range": f"bytes */{found.size}"})
        options = {"onlyIf": {"etagMatches": found.etag}}
        if part is not None:
            start, length = part
            answer["content-range"] = f"bytes {start}-{start + length - 1}/{found.size}"
            options["range"] = {"offset": start, "length": length}
        if method == "HEAD":
            answer["content-length"] = str(found.size if part is None else part[1])
            return Response(None, status=200 if part is None else 206, headers=answer)
        file = await self.env.USER_R2.get(key, options)
        if file is None:
            return not_found()
        if getattr(file, "body", None) is None:
            # The file was replaced between the two calls: its new version answers.
            return await self.get_file(key, method, headers)
        return Response(file.body, status=200 if part is None else 206, headers=answer)

    async def delete_file(self, key):
        await self.env.USER_R2.delete(key)
        await self._count_operation()
        return {"success": True}

    async def list_files(self):
        return [
            {"key": file.key, "size": file.size, "uploaded": file.uploaded.isoformat()}
            async for page in pages(self.env.USER_R2.list, "truncated", True)
            for file in page.objects
        ]

    # Data

    async def set_data(self, key, value):
        """Stores any JSON value."""
        await self.env.USER_KV.put(key, to_json(value))
        await self._count_operation()
        return {"success": True, "key": key}

    async def get_data(self, key):
        """The value, or None if there is none."""
        value = await self.env.USER_KV.get(key, "json")
        await self._count_operation()
        return value

    async def delete_data(self, key):
        await self.env.USER_KV.delete(key)
        await self._count_operation()
        return {"success": True}

    async def list_data(self):
        return [
            {"key": entry["name"], "metadata": entry.get("metadata")}
            async for page in pages(self.env.USER_KV.list, "list_complete", False)
            for entry in page["keys"]
        ]

    # SQL

    async def query_database(self, sql, params=()):
        statement = self.env.USER_DB.prepare(sql)
        if params:
            statement = statement.bind(*params)
        answer = await statement.all()
        return {"results": answer.results, "meta": answer.meta}

    # Figures

    async def get_stats(self):
        files = total_size = keys = 0
        async for page in pages(self.env.USER_R2.list, "truncated", True):
            files += len(page.objects)
            total_size += sum(file.size for file in page.objects)
        async for page in pages(self.env.USER_KV.list, "list_complete", False):
            keys += len(page["keys"])
        total, last = await self._activity()
        return {
            "files": {"count": files, "totalSize": total_size},
            "activity": {"totalOperations": total, "lastActivity": last},
            "storage": {"kvKeys": keys, "r2Objects": files},
        }

    async def _activity(self):
        """(operations so far, when the last one was)."""
        try:
            row = await self.env.ACTIVITY_DB.prepare("SELECT total, last FROM activity").first()
        except Exception as error:
            if "no such table" not in str(error):
                raise
            row = None
        return (row["total"], row["last"]) if row is not None else (0, None)

    async def _count_operation(self):
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        count = self.env.ACTIVITY_DB.prepare(COUNT_OPERATION).bind(now)
        try:
            await count.run()
        except Exception as error:
            if "no such table" not in str(error):
                raise
            await self.env.ACTIVITY_DB.prepare(CREATE_ACTIVITY).run()
            await count.run()


CREATE_ACTIVITY = (
    "CREATE TABLE IF NOT EXISTS activity (id INTEGER PRIMARY KEY CHECK (id = 1), total INTEGER, last TEXT)"
)

COUNT_OPERATION = (
    "INSERT INTO activity (id, total, last) VALUES (1, 1, ?) "
    "ON CONFLICT (id) DO UPDATE SET total = total + 1, last = max(last, excluded.last)"
)


async def pages(list_page, field, more):
    """The pages of a listing, to its end. `field` of a page equals `more` when there is another."""
    cursor = None
    while True:
        page = await list_page(limit=LIST_PAGE, cursor=cursor)
        yield page
        if page[field] is not more:
            return
        cursor = page["cursor"]


def not_found():
    return Response("File not found", status=404)


def file_headers(file):
    return {
        "etag": file.httpEtag,
        "last-modified": http_date(file.uploaded),
        "accept-ranges": "bytes",
        "content-type": file.httpMetadata.contentType or "application/octet-stream",
    }


@lru_cache(256)
def http_date(moment):
    return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")


def parse_http_date(text):
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def same_etag(listed, etag):
    """Whether a header with etags, weak ones included, has this one."""
    tags = [tag.strip() for tag in listed.split(",")]
    return "*" in tags or any(tag.removeprefix("W/") == etag for tag in tags)


def precondition(headers, file):
    """304 or 412 if the conditions of the request (RFC 9110, section 13.2.2) end it, else None."""
    uploaded = file.uploaded.replace(microsecond=0)
    if "if-match" in headers:
        if not same_etag(headers["if-match"], file.httpEtag):
            return 412
    elif "if-unmodified-since" in headers:
        since = parse_http_date(headers["if-unmodified-since"])
        if since is not None and uploaded > since:
            return 412
    if "if-none-match" in headers:
        if same_etag(headers["if-none-match"], file.httpEtag):
            return 304
    elif "if-modified-since" in headers:
        since = parse_http_date(headers["if-modified-since"])
        if since is not None and uploaded <= since:
            return 304
    return None


def wanted_range(headers, file):
    """(offset, length) of the one range that is asked for, None for the whole file, "unsatisfiable"."""
    if "range" not in headers:
        return None
    condition = headers.get("if-range")
    if condition is not None and condition != file.httpEtag and condition != http_date(file.uploaded):
        return None
    found = BYTES_RANGE.fullmatch(headers["range"].strip())
    if found is None or found[0] == "bytes=-":
        # Several ranges, or something else: RFC 9110 lets a server answer with the whole.
        return None
    first, last = found[1], found[2]
    if not first:
        length = min(int(last), file.size)
        return (file.size - length, length) if length else "unsatisfiable"
    start = int(first)
    end = min(int(last), file.size - 1) if last else file.size - 1
    if last and int(last) < start:
        return None
    return (start, end - start + 1) if start < file.size else "unsatisfiable"


def to_json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
