"""Requests that one server would take for one and another for two: what stands in front may let the second through."""

from __future__ import annotations

import pytest

from support.attacks import exchange
from support.tokens import bearer, make_jwt

SECOND = "GET /auth/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

AMBIGUOUS = {
    "a length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "the same length twice": "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": "Content-Length: 5, 5\r\n\r\nabcde",
    "a length with a sign": "Content-Length: +5\r\n\r\nabcde",
    "a negative length": "Content-Length: -5\r\n\r\nabcde",
    "a length in base 16": "Content-Length: 0x5\r\n\r\nabcde",
    "a length beyond all numbers": "Content-Length: 99999999999999999999\r\n\r\nabcde",
    "almost chunked": "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not the last": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded header": "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a bare CR in a header": "X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "a bare LF after a header": "X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a header": "X: a\0b\r\n\r\n",
    "a header without a name": ": x\r\n\r\n",
    "a bare LF after a chunk's size": "Transfer-Encoding: chunked\r\n\r\n5;x\nabcde\r\n0\r\n\r\n",
    "a chunk beyond all numbers": "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabcde\r\n0\r\n\r\n",
    "a chunk with a sign": "Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde\r\n0\r\n\r\n",
}

# How a request must not begin.
LINES = [
    "GET /livez HTTP/1.1\n",
    "GET /livez HTTP/1.2\r\n",
    "GET /livez\tHTTP/1.1\r\n",
    "GET /li\0vez HTTP/1.1\r\n",
    "\0",
]


async def test_what_is_ambiguous_is_refused_and_the_connection_ended(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    who = "".join(f"{name}: {value}\r\n" for name, value in bearer(make_jwt("root", roles=["admin"])).items())
    for name, rest in AMBIGUOUS.items():
        head = f"POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\n{who}Content-Type: text/plain\r\n"
        told = await exchange(port, (head + rest + SECOND).encode("latin-1"))
        assert told.startswith(b"HTTP/1.1 400 "), name
        assert b'"user"' not in told, name
    assert "Exception in ASGI application" not in caplog.text, "what a client breaks off is no fault of this server"


@pytest.mark.parametrize("line", LINES)
async def test_an_invalid_line_is_refused(port: int, line: str) -> None:
    told = await exchange(port, f"{line}Host: 127.0.0.1\r\n\r\n{SECOND}".encode())
    assert told.startswith(b"HTTP/1.1 400 ")
    assert b'"user"' not in told


async def test_an_unread_body_is_not_taken_for_a_request(port: int) -> None:
    head = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(SECOND)}\r\n\r\n"
    told = await exchange(port, (head + SECOND).encode())
    assert told.startswith(b"HTTP/1.1 200 ")
    assert told.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("extra", ["Connection: upgrade\r\nUpgrade: h2c\r\n", "Connection: upgrade\r\nUpgrade: x\r\n"])
async def test_behind_a_switch_of_protocols_that_is_not_made_nothing_is_read(port: int, extra: str) -> None:
    told = await exchange(port, f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}\r\n{SECOND}".encode())
    assert told.count(b"HTTP/1.1 ") == 1
    tunnel = await exchange(port, f"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n{SECOND}".encode())
    assert tunnel.startswith(b"HTTP/1.1 400 ")


async def test_methods_that_tell_a_request_back_or_override_another_have_no_effect(port: int) -> None:
    told = await exchange(port, b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: yeoul_token=secret\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 405 ")
    assert b"secret" not in told
