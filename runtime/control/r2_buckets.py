"""R2 buckets: create, list, show, delete."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from runtime.control import resources
from runtime.control.envelope import Code, ControlError
from runtime.control.routes import Call, JsonBody, NoQuery, Result, Route
from runtime.control.shapes import timestamp
from runtime.registry import ResourceRecord

COLLECTION = "/accounts/{account}/r2/buckets"
BUCKET = f"{COLLECTION}/{{bucket}}"

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])")
_RESERVED = re.compile(r"t-[0-9a-f]{32}")
"""The form of the names by which the operator knows tenants' own buckets."""


class NewBucket(msgspec.Struct, frozen=True):
    """Where the bucket lies and of which class it is have no meaning on one machine; they are let pass."""

    name: str
    storageClass: str | None = None
    locationHint: str | None = None


class BucketResult(msgspec.Struct, frozen=True):
    """`tenant`: whose own it is, None for the platform's."""

    name: str
    creation_date: str
    location: str = "LOCAL"
    storage_class: str = "Standard"
    jurisdiction: str = "default"
    tenant: str | None = None
    binding_name: str | None = None


class BucketsResult(msgspec.Struct, frozen=True):
    buckets: list[BucketResult]


class BucketsQuery(msgspec.Struct, frozen=True):
    name_contains: str = ""
    start_after: str = ""
    cursor: str = ""
    per_page: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    direction: Literal["asc", "desc"] = "asc"


class BucketsInfo(msgspec.Struct, frozen=True):
    cursor: str
    per_page: int


async def list_buckets(call: Call[BucketsQuery, None]) -> Result:
    query = call.query
    shown = [_result(record, call) for record in await resources.visible(call, "r2_bucket")]
    shown = sorted((each for each in shown if query.name_contains in each.name), key=lambda each: each.name)
    after = query.cursor or query.start_after
    if query.direction == "desc":
        shown = [each for each in reversed(shown) if not after or each.name < after]
    else:
        shown = [each for each in shown if each.name > after]
    page = shown[: query.per_page]
    cursor = page[-1].name if len(shown) > len(page) else ""
    return Result(BucketsResult(page), BucketsInfo(cursor, query.per_page))


async def create_bucket(call: Call[NoQuery, NewBucket]) -> Result:
    name = call.body.name
    if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
        raise ControlError(
            400,
            Code.R2_INVALID_BUCKET_NAME,
            f"The bucket name {name[:80]!a} is not valid: 3 to 63 lower-case letters, digits and '-', beginning and "
            "ending with a letter or digit, and not of the form of a tenant's own (t- and 32 hex digits).",
        )
    return Result(_result(await resources.create(call, "r2_bucket", name, name), call))


async def get_bucket(call: Call[NoQuery, None]) -> Result:
    return Result(_result(await find(call), call))


async def change_bucket(call: Call[NoQuery, None]) -> Result:
    """The storage class, in a header, is what can be changed elsewhere; on one machine there is one."""
    record = await find(call)
    resources.check_owner(call, record)
    return Result(_result(record, call))


async def delete_bucket(call: Call[NoQuery, None]) -> Result:
    """It must be empty."""
    record = await find(call)
    resources.check_owner(call, record)
    page = await call.parts.resources.r2(record.owner, record.resource_id).list(limit=1)
    if page.objects:
        raise ControlError(409, Code.R2_BUCKET_NOT_EMPTY, "The bucket you tried to delete is not empty.")
    await resources.delete(call, record)
    return Result({})


async def find(call: Call[Any, Any]) -> ResourceRecord:
    return await resources.find(call, "r2_bucket", call.path["bucket"])


def _result(record: ResourceRecord, call: Call[Any, Any]) -> BucketResult:
    owner = f"{record.owner.namespace}/{record.owner.script}" if record.owner else None
    name = resources.shown_id(record, call.access)
    return BucketResult(name, timestamp(record.created_on), tenant=owner, binding_name=record.resource_id)


ROUTES = (
    Route(
        "GET",
        COLLECTION,
        list_buckets,
        "List R2 buckets",
        "read",
        "own",
        BucketsResult,
        query=BucketsQuery,
        info=BucketsInfo,
    ),
    Route(
        "POST",
        COLLECTION,
        create_bucket,
        "Create an R2 bucket",
        "data",
        "own",
        BucketResult,
        body=JsonBody(NewBucket),
        statuses=(409,),
    ),
    Route("GET", BUCKET, get_bucket, "Show an R2 bucket", "read", "resource", BucketResult),
    Route("PATCH", BUCKET, change_bucket, "Change an R2 bucket", "data", "resource", BucketResult),
    Route("DELETE", BUCKET, delete_bucket, "Delete an empty R2 bucket", "data", "resource", dict, statuses=(409,)),
    *resources.grant_routes("r2_bucket", BUCKET, "bucket"),
)
