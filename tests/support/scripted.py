"""A server that answers the n-th request with the n-th exchange of a case (clients/cases/README.md)."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["ScriptedServer", "Seen", "scripted"]


@dataclass(frozen=True)
class Seen:
    """A request. `headers`: names in lower case, values as ISO 8859-1. `at`: seconds of a monotonic clock."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str
    at: float


class ScriptedServer:
    """Over raw sockets, so that it can break off anywhere. `on_request` is called after each request."""

    def __init__(self, exchanges: Sequence[Mapping[str, Any]]) -> None:
        self.requests: list[Seen] = []
        self.port = 0
        self.on_request: Callable[[], None] = lambda: None
        self._exchanges = exchanges

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, path, _ = line.split(" ")
                number = len(self.requests)
                self.requests.append(Seen(method, path, headers, body.decode(), time.monotonic()))
                self.on_request()
                exchange = self._exchanges[number] if number < len(self._exchanges) else {"status": 418}
                await _respond(writer, exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(exchanges: Sequence[Mapping[str, Any]]) -> AsyncIterator[ScriptedServer]:
    script = ScriptedServer(exchanges)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(script.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    script.port = server.sockets[0].getsockname()[1]
    try:
        yield script
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _respond(writer: asyncio.StreamWriter, exchange: Mapping[str, Any]) -> None:
    if exchange.get("instead") == "silence":
        return
    if exchange.get("instead") == "cut":
        _reset(writer)
        raise ConnectionError
    status, then = exchange.get("status", 200), exchange.get("then", "end")
    bodiless = status in (204, 304)
    headers = dict(exchange.get("headers", {}))
    if then == "end":
        headers["Connection"] = "close"
    if not bodiless:
        headers["Transfer-Encoding"] = "chunked"
    if status == 200:
        headers.setdefault("Content-Type", "text/event-stream")
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {status} Scripted\r\n{fields}\r\n".encode("latin-1"))
    for chunk in exchange.get("chunks", ()):
        if isinstance(chunk, dict) and "pause" in chunk:
            await asyncio.sleep(chunk["pause"] / 1000)
            continue
        piece = _bytes(chunk)
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        await asyncio.sleep(0.002)  # so that the client reads it by itself
    if then == "cut":
        await asyncio.sleep(0.01)  # a reset overtakes what was not read yet
        _reset(writer)
        raise ConnectionError
    if then == "end":
        writer.write(b"" if bodiless else b"0\r\n\r\n")
        await writer.drain()
        writer.close()
        raise ConnectionError


def _bytes(chunk: Any) -> bytes:
    if isinstance(chunk, str):
        return chunk.encode()
    if "hex" in chunk:
        return bytes.fromhex(chunk["hex"])
    text, times = chunk["repeat"]
    return (text * times).encode()
