"""A model server that speaks the OpenAI-compatible API: every answer has TOKENS tokens, one each SECONDS.

    python upstream.py PORT TOKENS SECONDS

One write per token, as model servers do. A token is a stamp (monotonic nanoseconds), so that its reader at the
far end knows how long it took. Answers begin at a random part of the interval: tokens of different
answers do not arrive together.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_ABOUT = (
    b',"object":"chat.completion.chunk","created":1700000000,"model":"bench",'
    b'"system_fingerprint":"fp_1","choices":[{"index":0,"delta":'
)
# The stamp is the chunk's id, too: where the stream is relayed as it is, that is where readers find it.
_TOKEN = b'data: {"id":"%d"' + _ABOUT + b'{"content":"%d "},"logprobs":null,"finish_reason":null}]}\n\n'
_LAST = b'data: {"id":"last"' + _ABOUT + b'{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
_END = b"data: [DONE]\n\n"


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class Upstream(asyncio.Protocol):
    def __init__(self, tokens: int, pause: float) -> None:
        self._tokens = tokens
        self._pause = pause
        self._request = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, end, body = self._request.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if end and len(body) >= int(length or 0):
            self._request = b""
            self._answering = asyncio.create_task(self._answer())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()

    async def _answer(self) -> None:
        self._transport.write(_HEAD)
        await asyncio.sleep(random.random() * self._pause)
        for _ in range(self._tokens):
            stamp = time.monotonic_ns()
            self._transport.write(_chunk(_TOKEN % (stamp, stamp)))
            await asyncio.sleep(self._pause)
        self._transport.write(_chunk(_LAST) + _chunk(_END) + b"0\r\n\r\n")


async def main(port: int, tokens: int, pause: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(tokens, pause), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
