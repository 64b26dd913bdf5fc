"""Upstreams of the gateway, and the routes that lead to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.polling import eventually, metrics
from support.reader import RawStream, open_stream
from support.upstream import Exchange, Upstream

__all__ = [
    "DONE",
    "KEY",
    "MARKED",
    "WORDS",
    "Says",
    "cut",
    "dead",
    "eof",
    "hang",
    "nobody_reads",
    "reading",
    "reset",
    "route",
    "told",
]

KEY = "sk-test-SECRETSECRET"
WORDS = ("양파", "와", " 감자", "\\n", "로", " 끓인", " 🍲", " 👩‍🍳", " 수프")
DONE = b'data: {"done": true}\n\n'
MARKED = {"end": [{"field": "done"}, {"field": "error"}]}

Ending = Callable[[Exchange], Awaitable[None]]


async def eof(exchange: Exchange) -> None:
    await exchange.end()


async def reset(exchange: Exchange) -> None:
    exchange.cut(rst=True)


async def cut(exchange: Exchange) -> None:
    await exchange.write(b"100\r\ndata: {")
    exchange.cut(rst=False)


async def hang(exchange: Exchange) -> None:
    await exchange.request.closed.wait()


async def dead(exchange: Exchange) -> None:
    """Not even a head."""
    exchange.cut(rst=True)


@dataclass
class Says:
    """A script: these bytes as chunks, then the ending. `begin`: before the head waits for it; `hold`: before the piece
    of this index waits for the event. `headers`: of the answer."""

    pieces: Sequence[bytes] = (*(f'data: {{"content": "{word}"}}\n\n'.encode() for word in WORDS), DONE)
    ending: Ending = eof
    begin: asyncio.Event | None = None
    hold: tuple[int, asyncio.Event] | None = None
    headers: dict[str, str] = field(default_factory=dict)

    async def __call__(self, exchange: Exchange) -> None:
        if self.begin is not None:
            await self.begin.wait()
        await exchange.head(**self.headers)
        for index, piece in enumerate(self.pieces):
            if self.hold is not None and self.hold[0] == index:
                await self.hold[1].wait()
            await exchange.chunk(piece)
        await self.ending(exchange)


def route(upstream: Upstream | str, path: str = "/relay", **values: Any) -> dict[str, Any]:
    """A route as the table has it; `target`: fields of its upstream."""
    base = upstream if isinstance(upstream, str) else f"http://127.0.0.1:{upstream.port}"
    target = {"url": f"{base}/stream", "body": {"q": "$q"}, **values.pop("target", {})}
    return {"path": path, "parameters": {"q": "string"}, "upstream": target, **values}


def told(stream: RawStream) -> str:
    """The one failure that a stream ends with."""
    assert stream.status == 200
    *before, last = stream.data
    assert not any("error" in data for data in before)
    return str(json.loads(last)["error"])


async def reading(port: int, path: str, **options: Any) -> RawStream:
    stream = await open_stream(port, path, **options)
    await stream.rest()
    await stream.close()
    return stream


async def nobody_reads(port: int) -> None:
    async def none() -> bool:
        return (await metrics(port))["yeoul_connections"] == 0

    await eventually(none)
