"""Names that a server is asked for by those who may have made them resolve to it."""

from __future__ import annotations

import asyncio

import pytest

from support.reader import ask, read_head
from support.serving import one_outlet


async def status(port: int, head: str) -> int:
    """Of a request with this head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
    async with await read_head(reader, writer) as answer:
        await answer.rest()
        return answer.status


@pytest.mark.parametrize("path", ["/", "/livez", "/topics/a", "/sse/chat?message=hi", "/metrics"])
async def test_a_name_that_was_made_to_point_here_is_no_name_of_this_server(port: int, path: str) -> None:
    for host in ("evil.example", "localhost.evil.example", f"127.0.0.1.nip.io:{port}"):
        answer = await ask(port, path, headers={"Host": host})
        assert answer.status == 421
        assert answer.headers["content-type"] == "application/problem+json"
        assert "YEOUL_ALLOWED_HOSTS" in answer.json()["detail"]


@one_outlet
@pytest.mark.parametrize("head", ["Host: [::1", "Host:", "X: y", "Host: localhost:8000@evil", "Host: a\r\nHost: a"])
async def test_a_request_without_one_host_is_wrong(port: int, head: str) -> None:
    assert await status(port, f"GET /livez HTTP/1.1\r\n{head}") == 400


@one_outlet
@pytest.mark.parametrize("host", ["localhost:1", "[::1]", "127.9.9.9:8000", "my.localhost"])
async def test_this_machines_names_are_its_own(port: int, host: str) -> None:
    assert (await ask(port, "/livez", headers={"Host": host})).status == 200


@one_outlet
async def test_on_loopback_http_1_0_names_the_host_too(port: int) -> None:
    assert await status(port, "GET /livez HTTP/1.0\r\nHost: localhost") == 200
    assert await status(port, "GET /livez HTTP/1.0") == 400


@one_outlet
@pytest.mark.parametrize("host", ["0.0.0.0", "0.0.0.0:8000", "[::]", "[::ffff:0.0.0.0]"])
async def test_the_unspecified_address_is_no_name_of_this_machine(port: int, host: str) -> None:
    """By which a page of another site reaches a server on loopback."""
    assert (await ask(port, "/livez", headers={"Host": host})).status == 421


@one_outlet
@pytest.mark.settings(allowed_hosts=["app.example.com"])
async def test_a_name_that_is_allowed_is_taken_and_is_its_pages_origin(port: int) -> None:
    host = {"Host": "App.example.com"}
    assert (await ask(port, "/livez", headers=host)).status == 200
    assert (await ask(port, "/livez", headers={**host, "Origin": "https://app.example.com"})).status == 200
    assert (await ask(port, "/livez", headers={**host, "Origin": "https://localhost"})).status == 403
    assert (await ask(port, "/livez", headers={"Host": "www.example.com"})).status == 421


@one_outlet
async def test_what_a_proxy_says_of_the_host_is_not_believed(port: int) -> None:
    forwarded = {"X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"}
    assert (await ask(port, "/livez", headers={"Host": "evil.example", **forwarded})).status == 421


@one_outlet
@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://evil.example/livez", "localhost", 421),
        ("http://evil.example:80/livez", "localhost", 421),
        ("http://localhost/livez", "evil.example", 200),
        ("http://localhost/livez", "localhost", 200),
        ("http://[::1]:8000/livez", "localhost", 200),
        ("http://user@localhost/livez", "localhost", 400),
        ("HTTP://EVIL.example/livez", "localhost", 421),
        ("http://evil.example/livez", "localhost\r\nHost: localhost", 400),
    ],
)
async def test_the_host_of_an_absolute_target_counts(port: int, target: str, host: str, expected: int) -> None:
    """RFC 9112, 3.2.2."""
    assert await status(port, f"GET {target} HTTP/1.1\r\nHost: {host}") == expected
