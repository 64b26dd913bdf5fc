"""`yeoul top`: the state of a running server, live in the terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from ..client import new_session
from .console import fail
from .frame import Frame, draw
from .remote import DEFAULT_URL, BaseUrl, Refused, Remote, Token, Unreachable

__all__ = ["top"]

# Rows that are requested: more than any terminal shows.
_MOST_ROWS = 200
# The size without a terminal.
_WIDE, _TALL = 100, 60


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between updates.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print the state once and exit. The default without a terminal.")
    ] = False,
    url: BaseUrl = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Watch a server live: streams, topics, rates, lagging readers, answers and limits. Ctrl-C exits.

    Exit codes: 0; 1 if the server cannot be reached (with --once) or does not accept the token as an administrator's.
    """
    remote = Remote(url, token)
    try:
        if once or not sys.stdout.isatty():
            asyncio.run(_print_once(remote))
        else:
            asyncio.run(_watch(remote, interval))
    except Refused as refused:
        fail(_why(refused))
    except Unreachable as error:
        fail(str(error))
    except KeyboardInterrupt:
        pass


async def _print_once(remote: Remote) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=_WIDE, height=_TALL)
    async with new_session() as session:
        frame = await _fetch(remote, session)
    console.print(draw(frame, console.width, _TALL))


async def _watch(remote: Remote, interval: float) -> None:
    console = Console()
    screen = _Screen(remote.shown, console)
    task = asyncio.current_task()
    assert task is not None
    # As with Ctrl-C: the terminal is restored.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError), Live(console=console, screen=True, auto_refresh=False) as live:
        live.update(screen, refresh=True)
        async with new_session() as session:
            while True:
                try:
                    screen.frame, screen.trouble = await _fetch(remote, session), None
                    screen.seen = time.monotonic()
                except Unreachable as error:
                    screen.trouble = str(error)
                except Refused as refused:
                    if refused.status not in (429, 500, 502, 503, 504):
                        raise
                    screen.trouble = f"{remote.shown}: {refused}"
                live.update(screen, refresh=True)
                await asyncio.sleep(interval)


async def _fetch(remote: Remote, session: Any) -> Frame:
    """Raises Refused, Unreachable."""
    overview = await remote.ask(session, "GET", "/admin/overview")
    topics = await remote.ask(session, "GET", "/admin/topics", query={"limit": _MOST_ROWS})
    first = await remote.ask(session, "GET", "/admin/connections", query={"limit": _MOST_ROWS})
    slow = await remote.ask(session, "GET", "/admin/connections", query={"limit": _MOST_ROWS, "lagging": "true"})
    try:
        readers = {reader["id"]: reader for reader in slow["connections"] + first["connections"]}
        return Frame(remote.shown, overview, topics["topics"], topics["total"], list(readers.values()), time.time())
    except (TypeError, KeyError) as error:
        raise Unreachable(
            f"{remote.shown} runs another version of Yeoul, or something else: its response is not understood"
        ) from error


def _why(refused: Refused) -> str:
    if refused.status in (401, 403):
        return f"{refused} (`yeoul top` needs a token with the role `admin`: set YEOUL_TOKEN)"
    return str(refused)


@dataclass
class _Screen:
    """The last frame, and the error since then. Drawn for the terminal's current size."""

    url: str
    console: Console
    frame: Frame | None = None
    trouble: str | None = None
    seen: float = 0.0

    def __rich__(self) -> RenderableType:
        width, height = self.console.size
        ago = time.monotonic() - self.seen if self.frame is not None else None
        return draw(self.frame, width, height, trouble=self.trouble, ago=ago, url=self.url)
