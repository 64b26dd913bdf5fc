"""`yeoul listen`: follows a stream as `EventSource` does, and reports what happens to the connection."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated

import aiohttp
import typer

from ..client import EventStream, Timeouts, new_session, open_stream
from ..errors import UpstreamError, UpstreamGarbage, UpstreamRefused
from ..observe import logger
from ..printable import json_line, printable
from ..sse import Event
from ..stream.retry import RETRYABLE_STATUSES, RetryPolicy
from .console import note
from .remote import DEFAULT_URL, BaseUrl, Remote, Token

__all__ = ["listen"]

# Seconds of silence after which a connection is taken for dead: four of the server's heartbeats.
_IDLE = 60.0
# Between two attempts, while a server cannot be reached: it may be away for as long as it likes.
_AWAY = RetryPolicy(attempts=1 << 30, base=1.0, cap=15.0)
# The first connection: a typing error should not wait for ever.
_FIRST = RetryPolicy(attempts=3, base=0.3)
# One attempt each: the loop here decides about others, and reports them.
_ONCE = RetryPolicy(attempts=1)
# Seconds between a stream's end and the next connection, where the server has named no time.
_RETRY = 2.0
# Bounds on the one that it names: neither a storm, nor gone for good.
_LEAST_RETRY, _MOST_RETRY = 0.1, 600.0

_OVER, _SENT_AWAY = 0, 3


def listen(
    what: Annotated[
        list[str], typer.Argument(metavar="TOPIC…|PATH|URL", help="Topics, or one path (/sse/chat) or URL of a stream.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line: id, type, data.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Only the data, unchanged, including escape sequences.")] = False,
    newest: Annotated[int, typer.Option(min=0, help="Start with this many kept events of each topic.")] = 0,
    last: Annotated[str, typer.Option("--last-event-id", metavar="ID", help="Continue after this event.")] = "",
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Exit after this many events.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing about the connection.")] = False,
    url: BaseUrl = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Follow topics or any stream; after each cut, reconnect and continue where it was.

    Exit codes: 0 the stream is complete, 1 it was refused or cannot be reached, 3 the server has closed it for good,
    130 Ctrl-C.
    """
    if as_json and raw:
        raise typer.BadParameter("--json and --raw exclude each other")
    if not (last.isascii() and last.isprintable()):
        raise typer.BadParameter("an event id is printable ASCII text", param_hint="--last-event-id")
    remote, address = _target(what, newest, Remote(url, token))
    show = _show_json if as_json else _show_raw if raw else _show
    logger.addHandler(logging.NullHandler())  # reported here, in other words
    listener = _Listener(remote, address, show, last, count, quiet)
    try:
        code = asyncio.run(listener.run())
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of our output has closed it. What is still buffered must not fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    raise typer.Exit(code)


def _target(what: list[str], newest: int, remote: Remote) -> tuple[Remote, str]:
    """Where the stream is. The token goes to the server of `--url` alone: it may be in a variable, and a URL on the
    command line may lead to anybody."""
    first = what[0]
    if first.startswith(("http://", "https://", "/")):
        if len(what) > 1:
            raise typer.BadParameter("give one URL, or one path, or any number of topics")
        if newest:
            raise typer.BadParameter("--newest is for topics: put a parameter of another stream into its URL")
        if first.startswith("/"):
            return remote, remote.url.rstrip("/") + first
        origin = "/".join(first.split("/", 3)[:3])
        own = origin == "/".join(remote.url.split("/", 3)[:3])
        return Remote(origin, remote.token if own else None), first
    if len(what) == 1:
        return remote, remote.address(f"/topics/{first}", {"newest": newest or None})
    return remote, remote.address("/stream", {"topic": what, "newest": newest or None})


@dataclass
class _Listener:
    remote: Remote
    address: str
    show: Callable[[Event], None]
    last_event_id: str
    left: int | None  # events to come until it ends by itself
    quiet: bool
    retry: float = _RETRY
    connected: bool = field(default=False, init=False)  # has ever been
    # The stream of an answer has ended as it should: the server is asked at once whether it was the last of it.
    _asks_at_once: bool = field(default=False, init=False)

    async def run(self) -> int:
        delays = _FIRST.delays()
        async with new_session(connections=1) as session:
            while True:
                wait: float | None
                try:
                    code = await self._connection(session)
                    if code is not None:
                        return code
                    # It was there: the next failure is the first of its kind.
                    delays, wait = _AWAY.delays(), 0.0 if self._asks_at_once else self.retry
                except _Failed as failed:
                    wait = failed.wait if failed.wait is not None else next(delays, None)
                    if failed.final or wait is None:
                        note(str(failed))
                        return 1
                    self._say(f"{failed}; retrying in {wait:.1f} s")
                await asyncio.sleep(wait)

    async def _connection(self, session: aiohttp.ClientSession) -> int | None:
        """One connection to its end: an exit code where it was the last, None to come back. Raises _Failed."""
        if not self.last_event_id.isprintable():  # no header may hold it
            raise _Failed(f"its last event's id cannot be sent back: {self.last_event_id}", final=True)
        try:
            async with open_stream(
                session,
                "GET",
                self.address,
                name=self.remote.shown,
                headers=self.remote.headers,
                last_event_id=self.last_event_id,
                timeouts=Timeouts(connect=10.0, first_byte=_IDLE, idle=_IDLE),
                retry=_ONCE,
                secrets=self.remote.secrets,
            ) as stream:
                self._say(
                    "connected" if not self.connected else f"reconnected after {self.last_event_id or 'no event'}"
                )
                self.connected = True
                return await self._read(stream)
        except UpstreamRefused as refused:
            if refused.status == 204:
                self._say("the stream is complete")
                return _OVER
            passing = refused.status is None or refused.status in RETRYABLE_STATUSES
            raise _Failed(self._explained(refused), refused.retry_after, final=not passing) from refused
        except UpstreamGarbage as error:
            raise _Failed(error.full, final=True) from error
        except UpstreamError as error:
            raise _Failed(error.full) from error

    def _explained(self, refused: UpstreamRefused) -> str:
        """What the server itself says is shown: its operator and this command's user are one person."""
        if refused.status is None or refused.status < 400:
            return refused.full
        phrase = HTTPStatus(refused.status).phrase if refused.status in set(HTTPStatus) else ""
        said = f"{self.remote.shown} answered {refused.status} {phrase}".rstrip()
        return f"{said}: {refused.said}" if refused.said else said

    async def _read(self, stream: EventStream) -> int | None:
        bye: Mapping[str, object] | None = None
        self._asks_at_once = False
        try:
            async for events in stream:
                for event in events:
                    bye = self._take(event) or bye
                    if self.left == 0:
                        return _OVER
                sys.stdout.flush()
            # An answer's ids are `<work>.<epoch>-<offset>`, and its stream ends with the answer.
            self._asks_at_once = stream.last_event_id not in ("", self.last_event_id) and "." in stream.last_event_id
        except UpstreamError as error:
            self._say(error.full)
        finally:
            self.last_event_id = stream.last_event_id
            if stream.retry_ms is not None:
                self.retry = min(max(stream.retry_ms / 1000, _LEAST_RETRY), _MOST_RETRY)
        if bye is not None and bye.get("reconnect") is False:
            return _SENT_AWAY
        if not self._asks_at_once:
            self._say(f"the connection was closed; reconnecting in {self.retry:.1f} s")
        return None

    def _take(self, event: Event) -> Mapping[str, object] | None:
        """Shows it; the farewell where it is one."""
        control = event.type.startswith("stream.")
        if not control or self.show is _show_json:
            self.show(event)
        if not control:
            if self.left is not None:
                self.left -= 1
            return None
        said = _fields(event)
        self._say(_told(event.type, said))
        return said if event.type == "stream.bye" else None

    def _say(self, text: str) -> None:
        if not self.quiet:
            sys.stdout.flush()  # in the order in which things happened, where both go to one terminal
            note(text)


class _Failed(Exception):
    """No stream. `wait`: the server's Retry-After in seconds; `final`: another attempt would not help."""

    def __init__(self, text: str, wait: float | None = None, *, final: bool = False) -> None:
        super().__init__(text)
        self.wait = wait
        self.final = final


def _fields(event: Event) -> Mapping[str, object]:
    with suppress(ValueError):
        said = json.loads(event.data)
        if isinstance(said, dict):
            return said
    return {}


def _told(type: str, said: Mapping[str, object]) -> str:
    match type:
        case "stream.hello":
            return f"at {said.get('cursor')}, heartbeat every {said.get('heartbeat')} s"
        case "stream.gap":
            return f"GAP: events after {said.get('requested')} are lost ({said.get('reason')})"
        case "stream.bye":
            back = "" if said.get("reconnect") is not False else ", and asks not to reconnect"
            return f"the server closes this stream: {said.get('reason')}{back}"
        case "stream.reauth":
            return f"the token expires in {said.get('in')} s"
    return f"{type} {dict(said)}"


def _show(event: Event) -> None:
    """`<time> <type> <id>`, then the data; further lines of it are indented."""
    head = f"{time.strftime('%H:%M:%S')} {printable(event.type)} {printable(event.id or '-')}"
    data = printable(event.data.replace("\r\n", "\n").replace("\r", "\n"), keep="\n").replace("\n", "\n    ")
    typer.echo(f"{typer.style(head, dim=True)}  {data}")


def _show_json(event: Event) -> None:
    typer.echo(json_line({"id": event.id, "type": event.type, "data": event.data}))


def _show_raw(event: Event) -> None:
    sys.stdout.write(event.data + "\n")
