"""Requests that are answered in one step between gate and server are treated like all others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from support.polling import eventually
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from yeoul.app import create_app
from yeoul.server.exchange import Exchange

BODY = b"hello"
ANSWER = b"HTTP/1.1 202 "


class Wrapper:
    """ASGI around the application that looks at both directions."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.received: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def wrapped_receive() -> Message:
            message = await receive()
            self.received.append(message.get("body", b""))
            return message

        async def wrapped_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-wrapped", b"yes")]}
            await send(message)

        if scope["type"] == "http":
            await self.app(scope, wrapped_receive, wrapped_send)
        else:
            await self.app(scope, receive, send)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])
async def test_what_stands_around_the_application_sees_request_and_response(direct: bool) -> None:
    wrapper = Wrapper(create_app(make_settings()))
    async with serving(wrapper, direct=direct) as port:
        answer = await ask(port, "/topics/a", method="POST", headers={"Content-Type": "text/plain"}, body=BODY)
    assert (answer.status, answer.headers["x-wrapped"]) == (202, "yes")
    assert wrapper.received == [BODY]


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])
@pytest.mark.parametrize("pieces", [1, 2], ids=["in one write", "in two"])
async def test_a_body_of_unknown_length_is_bounded(direct: bool, pieces: int) -> None:
    head = (
        b"POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    body = b"1001\r\n" + b"x" * 4_097 + b"\r\n0\r\n\r\n"
    async with serving(create_app(make_settings(max_body_bytes=4_096)), direct=direct) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if pieces == 1:
            writer.write(head + body)
        else:
            writer.write(head)
            await writer.drain()
            writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()
        await writer.wait_closed()


async def test_a_publisher_that_reads_no_response_is_made_to_wait() -> None:
    """Else its responses would fill the memory of the server."""
    exchanges: list[Exchange] = []
    app = create_app(make_settings())

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchanges.append(send.__self__)  # type: ignore[attr-defined]
        await app(scope, receive, send)

    async def published() -> bool:
        return bool(app.state.hub.stats.published == 2)

    async with serving(noting) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = (
            b"POST /topics/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx"
        )
        writer.write(request)
        assert (await reader.readuntil(b"}")).startswith(ANSWER)
        connection = exchanges[0]._protocol
        connection.pause_writing()  # as the transport does with what a client does not take
        writer.write(request)
        await eventually(published)
        assert not exchanges[1].complete
        connection.resume_writing()
        assert (await reader.readuntil(b"}")).startswith(ANSWER)
        assert exchanges[1].complete
        writer.close()
        await writer.wait_closed()
