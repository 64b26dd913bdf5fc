"""A TCP proxy that behaves as bad networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fate", "Proxy", "proxying", "reset"]


@dataclass(frozen=True)
class Fate:
    """What becomes of one connection's response.

    After `cut_after` bytes (the head's included) it is cut with a `how`, a reset or an end; after `stall_after` nothing
    comes any more. `piece` is the most that is handed on in one write, `pause` the seconds between two writes.
    """

    cut_after: int | None = None
    how: Literal["rst", "fin"] = "rst"
    stall_after: int | None = None
    piece: int = 65_536
    pause: float = 0.0


@dataclass
class Proxy:
    """`next_fate` is asked once per connection."""

    port: int
    target: int
    next_fate: Callable[[], Fate]
    connections: int = 0
    cuts: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fate = self.next_fate()
        with suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            asking = asyncio.create_task(_copy(reader, up_writer))
            try:
                await self._answer(up_reader, writer, fate)
            finally:
                asking.cancel()
                reset(up_writer)

    async def _answer(self, source: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: Fate) -> None:
        sent = 0
        while piece := await source.read(fate.piece):
            if fate.cut_after is not None and sent + len(piece) >= fate.cut_after:
                writer.write(piece[: fate.cut_after - sent])
                self.cuts += 1
                if fate.how == "rst":
                    # What the kernel has not sent is lost with a reset; what it has, the client may still lose.
                    await writer.drain()
                    reset(writer)
                return
            if fate.stall_after is not None and sent + len(piece) >= fate.stall_after:
                writer.write(piece[: fate.stall_after - sent])
                await writer.drain()
                await asyncio.get_running_loop().create_future()
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            if fate.pause:
                await asyncio.sleep(fate.pause)


@asynccontextmanager
async def proxying(target: int, next_fate: Callable[[], Fate] = Fate) -> AsyncIterator[Proxy]:
    """A proxy in front of the port `target`, on a free port."""
    tasks: set[asyncio.Task[None]] = set()
    proxy = Proxy(0, target, next_fate)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda task: writer.close())  # also where it was cancelled before its first step

    server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1_000)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the loop's next turn


def reset(writer: asyncio.StreamWriter) -> None:
    """The end of a connection without a word."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65_536):
            target.write(piece)
            await target.drain()
