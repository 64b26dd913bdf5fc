"""As many streams as may be, and no more; and a place is free again whatever became of its stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from faults.conftest import Server
from support.polling import eventually
from support.proxy import reset
from support.reader import RawStream, ask, open_stream, publish
from support.tokens import bearer, demo_token

FOLLOW = b"GET /topics/chat/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


def taken(server: Server) -> int:
    return server.hub._readers._limits.taken


async def all_given_back(server: Server) -> None:
    async def look() -> bool:
        return taken(server) == 0 and not server.hub.readers()

    await eventually(look)
    admission = server.hub._readers._limits
    assert admission.by_user == admission.by_address == {}


@contextlib.asynccontextmanager
async def streams(server: Server, count: int, **headers: str) -> AsyncIterator[list[RawStream]]:
    opened = [await open_stream(server.port, "/topics/chat/a", headers=headers) for _ in range(count)]
    try:
        assert [stream.status for stream in opened] == [200] * count
        yield opened
    finally:
        for stream in opened:
            await stream.close()


def forwarded(address: str, user: str = "ann") -> dict[str, str]:
    """As a proxy on this machine tells whom a request comes from."""
    return {**bearer(demo_token(user, roles="user")), "X-Forwarded-For": address}


@pytest.mark.settings(max_connections=10, heartbeat_s=0.5)
async def test_one_more_than_may_be_is_told_so_and_the_others_read_on(server: Server) -> None:
    async with streams(server, 10) as opened:
        for _ in range(3):
            answer = await ask(server.port, "/topics/chat/a", headers={"Accept": "text/event-stream"})
            assert answer.status == 429
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0
            assert "10 streams on this server" in answer.json()["detail"]
        assert server.hub.stats.refused == {"all": 3}
        await publish(server.port, "chat/a", "x")
        for stream in opened:
            assert (await stream.take(2))[1].data == "x"
        # Requests that are no streams are answered as ever.
        assert (await ask(server.port, "/livez")).status == 200
    await all_given_back(server)


@pytest.mark.settings(max_connections=3, heartbeat_s=0.5)
async def test_a_place_is_free_as_soon_as_one_has_left(server: Server) -> None:
    async with streams(server, 3) as opened:
        for number in range(5):
            leaving = opened.pop(0)
            if number % 2:
                leaving.cut()
            else:
                await leaving.close()

            async def free() -> bool:
                return taken(server) == 2

            await eventually(free)
            opened.append(await open_stream(server.port, "/topics/chat/a"))
            assert opened[-1].status == 200
            assert (await ask(server.port, "/topics/chat/a")).status == 429
    await all_given_back(server)


@pytest.mark.settings(max_connections=20, max_connections_per_address=20, heartbeat_s=0.2)
async def test_clients_that_are_gone_right_after_their_request_leave_no_place_taken(server: Server) -> None:
    async def visit(turns: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(FOLLOW)
        await writer.drain()
        for _ in range(turns):  # so that the server has come now so far with its answer, now so far
            await asyncio.sleep(0)
        reset(writer)

    for _ in range(10):
        await asyncio.gather(*(visit(turns) for turns in range(20)))
    await all_given_back(server)
    assert server.hub.stats.opened > 20
    async with streams(server, 20):
        assert taken(server) == 20
    await all_given_back(server)


@pytest.mark.settings(max_connections=5, heartbeat_s=0.2)
async def test_a_refused_reader_that_leaves_takes_no_place(server: Server) -> None:
    async with streams(server, 5):
        for number in range(1, 51):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(FOLLOW)

            async def refused(number: int = number) -> bool:
                return server.hub.stats.refused == {"all": number}

            await eventually(refused)
            reset(writer)
        assert taken(server) == 5
    await all_given_back(server)


@pytest.mark.settings(max_connections=2, heartbeat_s=0.5)
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/topics/chat/a%20b", {}),
        ("/generations/x/stream", {"Last-Event-ID": "nonsense"}),
        ("/stream?topic=", {}),
        ("/topics/relays/x", {}),
    ],
)
async def test_a_request_that_is_wrong_takes_no_place(server: Server, path: str, headers: dict[str, str]) -> None:
    for _ in range(4):
        assert 400 <= (await ask(server.port, path, headers=headers)).status < 429
    assert taken(server) == 0
    assert server.hub.stats.refused == {}


@pytest.mark.settings(max_connections=4, heartbeat_s=0.5)
async def test_what_fails_within_a_stream_leaves_no_place_taken(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(topic: str) -> None:
        raise RuntimeError("a broker with a bug")

    with monkeypatch.context() as broken:
        broken.setattr(server.hub.broker, "attach", failing)
        for _ in range(8):
            answer = await ask(server.port, "/topics/chat/a")
            assert answer.status == 500
            assert b"a broker with a bug" not in answer.body
    await all_given_back(server)
    async with streams(server, 4):
        pass
    await all_given_back(server)


@pytest.mark.settings(max_connections_per_user=2, heartbeat_s=0.5)
async def test_one_user_has_so_many_from_wherever(server: Server) -> None:
    opened = [await open_stream(server.port, "/topics/chat/a", headers=forwarded(f"192.0.2.{n}")) for n in (1, 2)]
    answer = await ask(server.port, "/topics/chat/a", headers=forwarded("192.0.2.3"))
    assert answer.status == 429
    assert "2 streams of one user" in answer.json()["detail"]
    assert server.hub.stats.refused == {"user": 1}
    other = await open_stream(server.port, "/topics/chat/a", headers=forwarded("192.0.2.1", "bob"))
    assert other.status == 200
    for stream in (*opened, other):
        await stream.close()
    await all_given_back(server)


@pytest.mark.settings(max_connections_per_address=2, heartbeat_s=0.5)
async def test_one_address_has_a_limit_for_all_its_users(server: Server) -> None:
    opened = [await open_stream(server.port, "/topics/chat/a", headers=forwarded("192.0.2.1", user)) for user in "ab"]
    answer = await ask(server.port, "/topics/chat/a", headers=forwarded("192.0.2.1", "c"))
    assert answer.status == 429
    assert "2 streams from one address" in answer.json()["detail"]
    opened.append(await open_stream(server.port, "/topics/chat/a", headers=forwarded("192.0.2.2", "a")))
    opened += [
        await open_stream(server.port, "/topics/chat/a", headers=forwarded(f"2001:db8::{n}", "a"))
        for n in ("1", "ffff:2")
    ]
    assert [stream.status for stream in opened] == [200] * 5
    assert (await ask(server.port, "/topics/chat/a", headers=forwarded("2001:db8:0:0:abc::3", "b"))).status == 429
    assert server.hub.stats.refused == {"address": 2}
    # Set on purpose, it holds for this machine, too.
    async with streams(server, 2):
        assert (await ask(server.port, "/topics/chat/a")).status == 429
    for stream in opened:
        await stream.close()
    await all_given_back(server)


@pytest.mark.settings(heartbeat_s=0.5)
async def test_by_default_this_machine_is_not_bounded_by_its_address(server: Server) -> None:
    admission = server.hub._readers._limits
    async with streams(server, 3):
        assert admission.by_address == {}
    stream = await open_stream(server.port, "/topics/chat/a", headers=forwarded("192.0.2.1"))
    assert admission.by_address == {"192.0.2.1": 1}
    await stream.close()
    await all_given_back(server)


@pytest.mark.settings(max_connections=1, heartbeat_s=0.5)
async def test_no_answer_is_begun_whose_stream_would_be_refused(server: Server) -> None:
    """Its tokens would be paid for, and nobody given them."""
    async with streams(server, 1):
        answer = await ask(server.port, "/sse/chat?message=hello&provider=demo")
        assert answer.status in (200, 429)
        assert b"1 streams on this server" in answer.body
        streamed = await ask(
            server.port,
            "/generations",
            method="POST",
            headers={"Accept": "text/event-stream"},
            json_body={"prompt": "hello", "provider": "demo"},
        )
        assert streamed.status == 429
        assert server.hub.stats.published == 0
        # One that is not streamed takes no place.
        kept = await ask(server.port, "/generations", method="POST", json_body={"prompt": "hello", "provider": "demo"})
        assert kept.status == 201
