"""Publishes for some seconds: each connection posts, waits for the answer, posts again.

    python publisher.py PORT PATH CONNECTIONS SECONDS [PAUSE] [-H "Name: value"] [-d BODY]

With PAUSE (seconds) a connection posts at most that often. The body is what the subscribers look for: a stamp
(monotonic nanoseconds), then 100 characters; with -d it is JSON, in which STAMP stands for that. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from functools import partial

import uvloop

_PAD = " " + "x" * 100


class Publisher(asyncio.Protocol):
    """`head`: the request's, up to its length, which comes last; `body`: with STAMP in it."""

    def __init__(self, head: str, body: str, until: float, pause: float, done: asyncio.Future[None]) -> None:
        self.published = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        self._pause = pause
        self._head = head.encode()
        self._body = body
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
        body = self._body.replace("STAMP", f"{time.monotonic_ns()}{_PAD}").encode()
        self._transport.write(self._head + b"%d\r\n\r\n" % len(body) + body)


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    _, named, rest = head.lower().partition(b"content-length:")
    if named:
        return len(body) >= int(rest.split(b"\r\n", 1)[0])
    return body.endswith(b"0\r\n\r\n")


async def main(asked: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    kind = "application/json" if asked.body else "text/plain"
    headers = ["Host: 127.0.0.1", f"Content-Type: {kind}", *asked.header, "Content-Length: "]
    make = partial(
        Publisher,
        f"POST {asked.path} HTTP/1.1\r\n" + "\r\n".join(headers),
        asked.body or "STAMP",
        began + asked.seconds,
        asked.pause,
    )
    waits: list[asyncio.Future[None]] = [loop.create_future() for _ in range(asked.connections)]
    made = [await loop.create_connection(partial(make, done), "127.0.0.1", asked.port) for done in waits]
    await asyncio.gather(*waits)
    published = sum(protocol.published for _, protocol in made)
    print(json.dumps({"published": published, "seconds": loop.time() - began}))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("pause", type=float, nargs="?", default=0.0)
    parser.add_argument("-H", dest="header", action="append", default=[])
    parser.add_argument("-d", dest="body")
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main(_asked()))
