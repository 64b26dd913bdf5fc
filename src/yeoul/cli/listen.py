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

import typer

from ..client import EventStream, State, Stream, connect
from ..errors import UpstreamCut, UpstreamError, UpstreamRefused
from ..observe import logger
from ..printable import json_line, printable
from ..sse import Event
from .console import note
from .remote import DEFAULT_URL, BaseUrl, Remote, Token

__all__ = ["listen"]

# Seconds: a connection that is silent for two and a half times as long is taken for dead.
_HEARTBEAT = 24.0
# Seconds between two attempts, where the server has named no time, and at most.
_RETRY, _MAX_RETRY = 1.0, 15.0
# Of the first connection: a typing error should not wait for ever.
_FIRST_ATTEMPTS = 3

_OVER, _REFUSED, _SENT_AWAY = 0, 1, 3


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
    _stream: Stream = field(init=False)
    _connected: bool = field(default=False, init=False)  # has ever been
    _attempts: int = field(default=0, init=False)  # of the first connection
    _reported: bool = field(default=False, init=False)  # why it waits

    async def run(self) -> int:
        self._stream = connect(
            self.address,
            token=self.remote.token,
            last_event_id=self.last_event_id,
            reconnect_interval=_RETRY,
            max_reconnect_interval=_MAX_RETRY,
            heartbeat=_HEARTBEAT,
            name=self.remote.shown,
            on_state=self._on_state,
            on_open=self._on_open,
            on_control=self._take,
            on_error=self._on_error,
        )
        with suppress(UpstreamError):  # `_on_error` has reported it
            async with self._stream as stream:
                async for event in stream:
                    self._take(event)
                    sys.stdout.flush()
                    if self.left == 0:
                        return _OVER
        closed = self._stream.closed
        match closed.reason if closed is not None else "client":
            case "end" | "complete":
                self._say("the stream is complete")
                return _OVER
            case "bye":
                return _SENT_AWAY
        return _REFUSED

    def _on_open(self, _: EventStream) -> None:
        self._say("connected" if not self._connected else f"reconnected after {self._position or 'no event'}")
        self._connected = True

    def _on_state(self, state: State) -> None:
        if state is State.WAITING:
            if not self._reported:
                self._say(f"the connection was closed; reconnecting in {self._stream.retry_in:.1f} s")
            self._reported = False
        elif state is State.CONNECTING and not self._position.isprintable():  # no header may hold it
            note(f"its last event's id cannot be sent back: {self._position}")
            self._stream.close()

    def _on_error(self, error: UpstreamError, retry_in: float | None) -> None:
        text = self._explained(error)
        self._attempts += 1
        if retry_in is None or (not self._connected and self._attempts == _FIRST_ATTEMPTS):
            note(text)
            self._stream.close()
            return
        again = "reconnecting" if isinstance(error, UpstreamCut) and self._connected else "retrying"
        self._say(f"{text}; {again} in {retry_in:.1f} s")
        self._reported = True

    @property
    def _position(self) -> str:
        return self._stream.last_event_id

    def _explained(self, error: UpstreamError) -> str:
        """What the server itself says is shown: its operator and this command's user are one person."""
        status = getattr(error, "status", None)
        if not isinstance(error, UpstreamRefused) or status is None or status < 400:
            return error.full
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
        said = f"{self.remote.shown} answered {status} {phrase}".rstrip()
        return f"{said}: {error.said}" if error.said else said

    def _take(self, event: Event) -> None:
        """Shows it."""
        control = event.type.startswith("stream.")
        if not control or self.show is _show_json:
            self.show(event)
        if control:
            self._say(_told(event.type, _fields(event)))
        elif self.left is not None:
            self.left -= 1

    def _say(self, text: str) -> None:
        if not self.quiet:
            sys.stdout.flush()  # in the order in which things happened, where both go to one terminal
            note(text)


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
