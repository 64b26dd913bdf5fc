"""Publishes for some seconds: each connection posts, waits for the answer, posts again.

    python publisher.py PORT PATH CONNECTIONS SECONDS [PAUSE]

With PAUSE (seconds) a connection posts at most that often. The body is what the subscribers look for: a stamp
(monotonic nanoseconds), then 100 characters. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial

import uvloop

_PAD = " " + "x" * 100


class Publisher(asyncio.Protocol):
    def __init__(self, path: str, until: float, pause: float, done: asyncio.Future[None]) -> None:
        self.published = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        self._pause = pause
        self._head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: ".encode()
        self._until = until
        self._done = done
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._post()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not _complete(self._answer):
            return
        if not self._answer.startswith(b"HTTP/1.1 2"):
            self._done.set_exception(RuntimeError(f"refused: {self._answer[:300]!r}"))
            self._transport.close()
            return
        self._answer = b""
        self.published += 1
        if self._loop.time() < self._until:
            self._again()
        else:
            self._done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError("the server closed a publisher's connection"))

    def _again(self) -> None:
        if self._pause:
            self._next += self._pause
            self._loop.call_at(self._next, self._post)
        else:
            self._post()

    def _post(self) -> None:
        body = f"{time.monotonic_ns()}{_PAD}".encode()
        self._transport.write(self._head + b"%d\r\n\r\n" % len(body) + body)


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    _, named, rest = head.lower().partition(b"content-length:")
    if named:
        return len(body) >= int(rest.split(b"\r\n", 1)[0])
    return body.endswith(b"0\r\n\r\n")


async def main(port: int, path: str, connections: int, seconds: float, pause: float = 0.0) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    waits: list[asyncio.Future[None]] = [loop.create_future() for _ in range(connections)]
    made = [
        await loop.create_connection(partial(Publisher, path, began + seconds, pause, done), "127.0.0.1", port)
        for done in waits
    ]
    await asyncio.gather(*waits)
    published = sum(protocol.published for _, protocol in made)
    print(json.dumps({"published": published, "seconds": loop.time() - began}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *map(float, sys.argv[4:])))
