"""`cloister tail`: a worker's calls as they happen, from the WebSocket that the management API gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click

from runtime.cli.errors import CommandError, ExitCode
from runtime.cli.options import connected, server_options

_PROTOCOL = "trace-v1"
_EVENT_BYTES_MAX = 64 * 1024 * 1024
_HEARTBEAT_S = 15.0


@click.command()
@click.argument("name")
@click.option("--status", type=int, multiple=True, help="An HTTP status, or 1 to 5 for its hundred. Can be repeated.")
@click.option("--outcome", multiple=True, help="ok, exception, exceededCpu, ... Can be repeated.")
@click.option("--method", multiple=True, help="An HTTP method. Can be repeated.")
@click.option("--search", metavar="TEXT", help="In a message, an exception or the address.")
@click.option("--sampling-rate", type=click.FloatRange(0, 1, min_open=True), help="Which part of the calls to show.")
@click.option("--count", type=click.IntRange(1), help="End after so many calls.")
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each call.")
def tail(
    name: str,
    status: tuple[int, ...],
    outcome: tuple[str, ...],
    method: tuple[str, ...],
    search: str | None,
    sampling_rate: float | None,
    count: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Show the calls of the tenant NAME live, with what it logs, until Ctrl-C. Filters must all fit."""
    filters = list(_filters({"status": status, "outcome": outcome, "method": method}, search, sampling_rate))
    client, namespace = connected(**where)
    opened = client.call_script("POST", namespace, name, "/tails", content={"filters": filters})
    # The way to the server is the one that has just answered, whatever name the server goes by.
    address = f"ws://127.0.0.1:{client.port}{urlsplit(opened['url']).path}"
    click.echo(f"Watching {name} ...", err=True)
    asyncio.run(_watch(address, count, as_json))


def _filters(
    lists: dict[str, tuple[Any, ...]], search: str | None, sampling_rate: float | None
) -> Iterator[dict[str, Any]]:
    for name, wanted in lists.items():
        if wanted:
            yield {name: list(wanted)}
    if search:
        yield {"query": search}
    if sampling_rate is not None:
        yield {"sampling_rate": sampling_rate}


async def _watch(address: str, count: int | None, as_json: bool) -> None:
    import aiohttp

    seen = 0
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                address, protocols=(_PROTOCOL,), heartbeat=_HEARTBEAT_S, max_msg_size=_EVENT_BYTES_MAX
            ) as socket,
        ):
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                # `message.data` is one line: JSON escapes line ends.
                click.echo(message.data if as_json else "\n".join(_lines(json.loads(message.data))))
                seen += 1
                if seen == count:
                    return
    except (aiohttp.ClientError, OSError) as error:
        raise _ended(str(error) or type(error).__name__) from error
    raise _ended("the server closed it")


def _ended(reason: str) -> CommandError:
    return CommandError("The tail has ended.", reason, exit_code=ExitCode.UNREACHABLE)


def _lines(event: dict[str, Any]) -> Iterator[str]:
    """A call for people. What comes from the worker and its callers is hostile: control characters are escaped."""
    from runtime.telemetry.text import harmless

    time = datetime.fromtimestamp(event["eventTimestamp"] / 1000, UTC).strftime("%H:%M:%S")
    outcome = click.style(event["outcome"], fg="green" if event["outcome"] == "ok" else "red")
    took = f"cpu_ms={event['cpuTime']:g}, wall_ms={event['wallTime']:g}, request={event['requestId']}"
    yield f"{time} {harmless(_called(event['event']))} {outcome} ({harmless(took)})"
    for entry in event["logs"]:
        for line in "\n".join(map(str, entry["message"])).split("\n"):
            yield f"  {entry['level']}: {harmless(line)}"
    for exception in event["exceptions"]:
        for line in (exception["stack"] or f"{exception['name']}: {exception['message']}").split("\n"):
            yield "  " + click.style(harmless(line), fg="red")
    if left_out := event.get("leftOut"):
        yield click.style(f"  {left_out} calls before this one were left out", fg="yellow")


def _called(event: dict[str, Any]) -> str:
    if "rpcMethod" in event:
        return f"{event['rpcMethod']}()"
    status = event["response"]["status"] if "response" in event else "-"
    return f"{status} {event['request']['method']} {event['request']['url']}"
