from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import typer

from support.serving import free_port
from yeoul.cli import remote as cli_remote
from yeoul.cli.remote import Refused, Remote, Unreachable


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def asked(url: str, **options: Any) -> Any:
    async with aiohttp.ClientSession() as session:
        return await Remote(url, "t0ken-s3cr3t").ask(session, "GET", "/x", **options)


def response(body: bytes, status: str = "200 OK", *fields: bytes) -> bytes:
    head = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status.encode(), len(body), head, body)


def test_addresses_are_encoded() -> None:
    remote = Remote("http://x:1/base/")
    assert remote.address("/topics/chat/김 a?b") == "http://x:1/base/topics/chat/%EA%B9%80%20a%3Fb"
    query = {"topic": ["a", "b&c"], "newest": None}
    assert remote.address("/stream", query) == "http://x:1/base/stream?topic=a&topic=b%26c"


def test_neither_a_token_nor_a_password_is_shown() -> None:
    remote = Remote("https://me:s3cr3t@x", "t0ken")
    assert remote.shown == "https://x"
    assert "t0ken" not in repr(remote)


@pytest.mark.parametrize("url", ["", "x", "x:80", "ftp://x", "http://", "https:///"])
def test_an_invalid_server_url_is_refused(url: str) -> None:
    with pytest.raises(typer.BadParameter):
        Remote(url)


@pytest.mark.parametrize("token", ["two words", "line\nend", "토큰"])
def test_an_invalid_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        Remote("http://x", token)
    assert token not in str(caught.value)


async def test_an_answer_is_its_json() -> None:
    async with answering(response(b'{"a": 1}')) as url:
        assert await asked(url) == {"a": 1}
    async with answering(response(b"", "204 No Content")) as url:
        assert await asked(url) is None


async def test_a_problem_is_told_in_its_own_words_without_the_token() -> None:
    body = b'{"title": "Conflict", "status": 409, "detail": "no \\u001b[2J for t0ken-s3cr3t"}'
    answer = response(body, "409 Conflict", b"Content-Type: application/problem+json", b"Retry-After: 3")
    async with answering(answer) as url:
        with pytest.raises(Refused) as caught:
            await asked(url)
    assert (caught.value.status, caught.value.retry_after) == (409, 3.0)
    assert str(caught.value) == "409 Conflict: no [2J for [redacted]"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (response(b"<html>"), "is it a Yeoul server?"),
        (response(b"x" * 2_000), "is it a Yeoul server?"),
        (b"", "the connection was lost"),
        (b"garbage\r\n\r\n", "cannot be reached"),
    ],
)
async def test_a_document_that_is_not_an_answer_is_reported(
    answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_remote, "_MAX_ANSWER", 1_000)
    async with answering(answer) as url:
        with pytest.raises(Unreachable) as caught:
            await asked(url)
    assert said in str(caught.value)


async def test_a_server_that_is_silent_is_not_waited_for_for_ever() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as url:
        with pytest.raises(Unreachable):
            await asked(url, seconds=0.2)


async def test_a_redirect_is_not_followed() -> None:
    async with answering(response(b"", "307 Temporary Redirect", b"Location: http://127.0.0.1:1/")) as url:
        with pytest.raises(Refused) as caught:
            await asked(url)
    assert caught.value.status == 307


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(Unreachable, match="connection refused"):
        await asked(f"http://127.0.0.1:{free_port()}")
