"""`yeoul publish`: an event from the command line, or one per line of a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import aiohttp
import typer

from ..printable import printable
from ..stream.retry import RETRYABLE_STATUSES, RetryPolicy
from .console import fail, note
from .remote import DEFAULT_URL, BaseUrl, Refused, Remote, Token, Unreachable

__all__ = ["publish"]

# What is read of a pipe at once.
_READ_BYTES = 64 * 1024
# What a request with several events has at most: below what it may have (1 MiB by default). As JSON, short lines are
# many times as long.
_MAX_BODY_BYTES = 512 * 1024
_MAX_LINES = 10_000
# One line; over it the server would refuse the event anyway (256 KiB by default).
_MAX_LINE_BYTES = 512 * 1024


def publish(
    topic: Annotated[str, typer.Argument(help="such as chat/general")],
    data: Annotated[str | None, typer.Argument(help="The event's data; without it, or as `-`, stdin.")] = None,
    *,
    type: Annotated[str, typer.Option("--type", "-t", help="The event's type.")] = "message",
    as_json: Annotated[bool, typer.Option("--json", help="The data is JSON: checked, and sent as such.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="One event per line of stdin, as the lines come.")] = False,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Idempotency-Key: the same key publishes once, so it is also tried again."),
    ] = None,
    url: BaseUrl = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Publish to a topic, and print the event's id (with --lines, the last id of each request)."""
    remote = Remote(url, token)
    if lines and data not in (None, "-"):
        raise typer.BadParameter("--lines reads stdin: leave DATA out")
    if lines and key is not None:
        raise typer.BadParameter("--key is for one event: lines come in batches, each of which would need its own")
    try:
        if lines:
            for batch in _batches(sys.stdin.fileno()):
                for events in _requests([_event(line, type, as_json, f"line {n}: ") for n, line in batch]):
                    _send(remote, topic, events, None)
        else:
            _send(remote, topic, [_event(_data(data), type, as_json)], key)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _data(given: str | None) -> str:
    if given is not None and given != "-":
        return given
    if sys.stdin.isatty():
        note("type the data, end it with Ctrl-D on a line of its own")
    return _text(sys.stdin.buffer.read(), "").removesuffix("\n").removesuffix("\r")


def _event(text: str, type: str, as_json: bool, where: str = "") -> bytes:
    try:
        data = json.loads(text) if as_json else text
    except ValueError as error:
        fail(f"{where}the data is not JSON: {error}", 2)
    return json.dumps({"data": data, "type": type}).encode()


def _requests(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for event in events:
        if some and (size + len(event) > _MAX_BODY_BYTES or len(some) == _MAX_LINES):
            yield some
            some, size = [], 0
        some.append(event)
        size += len(event) + 1
    if some:
        yield some


def _send(remote: Remote, topic: str, events: list[bytes], key: str | None) -> None:
    try:
        answer = asyncio.run(_post(remote, topic, events, key))
    except Refused as refused:
        fail(str(refused))
    except Unreachable as error:
        fail(str(error))
    typer.echo(printable(str(answer["id"])))


async def _post(remote: Remote, topic: str, events: list[bytes], key: str | None) -> Any:
    """Tried again only with a key: without one, an answer that was lost on its way would make two events of one."""
    headers = {"Content-Type": "application/x-ndjson" if len(events) > 1 else "application/json"}
    if key is not None:
        headers["Idempotency-Key"] = key
    policy = RetryPolicy(attempts=1 if key is None else 4)
    async with aiohttp.ClientSession() as session:
        for delay in (*policy.delays(), None):
            try:
                return await remote.ask(session, "POST", f"/topics/{topic}", headers=headers, body=b"\n".join(events))
            except Refused as refused:
                wait = refused.retry_after if refused.retry_after is not None else delay
                if delay is None or wait is None or refused.status not in RETRYABLE_STATUSES or wait > 30:
                    raise
            except Unreachable:
                if delay is None:
                    raise
                wait = delay
            await asyncio.sleep(wait)
    raise AssertionError("the last delay is None")


def _batches(source: int) -> Iterator[list[tuple[int, str]]]:
    """Numbered lines as they come: what one read of the pipe has completed, empty ones left out."""
    rest, number = b"", 0
    while True:
        piece = os.read(source, _READ_BYTES)
        *whole, rest = (rest + piece).split(b"\n")
        if not piece and rest:
            whole, rest = [rest], b""
        if len(rest) > _MAX_LINE_BYTES:
            fail(f"line {number + len(whole) + 1} has more than {_MAX_LINE_BYTES} bytes", 2)
        texts = [_text(line.removesuffix(b"\r"), f"line {number + n}: ") for n, line in enumerate(whole, 1)]
        yield [(number + n, text) for n, text in enumerate(texts, 1) if text]
        number += len(whole)
        if not piece:
            return


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fail(f"{where}the data is not UTF-8 (byte {error.start})", 2)
