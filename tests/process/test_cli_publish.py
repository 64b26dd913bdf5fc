"""`yeoul publish` against a server that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

from support.command import started, yeoul
from support.reader import open_stream
from support.serving import free_port, yeoul_serve
from support.tokens import demo_token
from yeoul.sse import Event

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    # Everything that a test publishes is kept: a reader on a busy machine is late, and must be able to catch up.
    retention = {"YEOUL_RETENTION_EVENTS": "100000", "YEOUL_RETENTION_BYTES": "100000000"}
    with yeoul_serve(env={"YEOUL_OWN_DOCUMENTS": "false", **retention}) as served:
        yield served.port


async def kept(port: int, topic: str, count: int) -> list[Event]:
    async with await open_stream(port, f"/topics/{topic}?newest=100") as stream:
        return (await stream.take(count + 1))[1:]


async def test_an_event_is_published_and_its_id_printed(server: int) -> None:
    done = yeoul("publish", "one/a", "안녕 하세요", "--type", "greeting", "--url", f"http://127.0.0.1:{server}")
    assert (done.returncode, done.stderr) == (0, "")
    (event,) = await kept(server, "one/a", 1)
    assert (event.id, event.type, event.data) == (done.stdout.strip(), "greeting", "안녕 하세요")


@pytest.mark.parametrize("argument", [[], ["-"]])
async def test_data_comes_from_a_pipe_without_its_last_line_end(server: int, argument: list[str]) -> None:
    topic = f"pipe/{len(argument)}"
    done = yeoul("publish", topic, *argument, given="two\nlines\n", YEOUL_URL=f"http://127.0.0.1:{server}")
    assert done.returncode == 0, done.stderr
    assert [event.data for event in await kept(server, topic, 1)] == ["two\nlines"]


async def test_json_is_sent_as_json(server: int) -> None:
    done = yeoul("publish", "--json", "json/a", '{"a":[1, "김"]}', YEOUL_URL=f"http://127.0.0.1:{server}")
    assert done.returncode == 0, done.stderr
    (event,) = await kept(server, "json/a", 1)
    assert json.loads(event.data) == {"a": [1, "김"]}


async def test_lines_are_events_as_they_come(server: int) -> None:
    url = f"http://127.0.0.1:{server}"
    async with await open_stream(server, "/topics/lines/a") as stream:
        await stream.take(1)
        with started("publish", "--lines", "lines/a", YEOUL_URL=url) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("first\r\n")
            process.stdin.flush()
            await stream.take(2)  # before the pipe has ended
            process.stdin.write("\nsecond\nthi")
            process.stdin.flush()
            await stream.take(3)
            process.stdin.write("rd")
            process.stdin.close()
            await stream.take(4)
            assert await asyncio.to_thread(process.wait, 10) == 0
            assert process.stdout.read().split() == [event.id for event in stream.events[1:]]
    assert stream.data[1:] == ["first", "second", "third"]


async def publish_lines(port: int, topic: str, lines: str) -> list[Event]:
    """Publishes the lines; the events that a reader gets who was there before."""
    async with await open_stream(port, f"/topics/{topic}") as stream:
        await stream.take(1)
        done = await asyncio.to_thread(
            yeoul, "publish", "--lines", topic, given=lines, YEOUL_URL=f"http://127.0.0.1:{port}"
        )
        assert done.returncode == 0, done.stderr
        return (await stream.take(lines.count("\n") + 1))[1:]


async def test_many_lines_are_all_published_in_order(server: int) -> None:
    count = 30_000
    lines = "".join(f"{number:05d} {'x' * 20}\n" for number in range(count))
    events = await publish_lines(server, "lines/many", lines)
    assert [int(event.data[:5]) for event in events] == list(range(count))


async def test_short_lines_are_no_longer_than_a_request_may_be(server: int) -> None:
    """Each takes twenty times as much as JSON: 64 KiB of them are over a MiB."""
    events = await publish_lines(server, "lines/short", "y\n" * 40_000)
    assert {event.data for event in events} == {"y"}


@pytest.mark.parametrize(
    ("arguments", "given", "code", "said"),
    [
        (["publish", "bad topic", "x"], "", 1, "422 Unprocessable Entity: topic name 'bad topic' has the character"),
        (["publish", "t", "x", "--type", "stream.bye"], "", 1, "begin with 'stream.' belong to the server"),
        (["publish", "t", "{bad", "--json"], "", 2, "the data is not JSON"),
        (["publish", "t", "--lines", "--json"], '{"a": 1}\n{bad\n', 2, "line 2: the data is not JSON"),
        (["publish", "t"], b"\xff\xfe", 2, "the data is not UTF-8 (byte 0)"),
        (["publish", "t", "x", "--lines"], "", 2, "leave DATA out"),
        (["publish", "t", "--lines", "--key", "k"], "", 2, "--key is for one event"),
        (["publish", "t", "x", "--token", "two words"], "", 2, "ASCII characters only"),
    ],
)
def test_what_is_wrong_is_said(server: int, arguments: list[str], given: str, code: int, said: str) -> None:
    done = yeoul(*arguments, given=given, YEOUL_URL=f"http://127.0.0.1:{server}", COLUMNS="200")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_that_is_refused_is_not_shown(server: int) -> None:
    done = yeoul("publish", "t", "x", YEOUL_TOKEN="s3cr3t-t0ken", YEOUL_URL=f"http://127.0.0.1:{server}")
    assert done.returncode == 1
    assert "401 Unauthorized" in done.stderr
    assert "s3cr3t-t0ken" not in done.stderr


async def test_a_token_says_who_publishes(server: int) -> None:
    done = yeoul(
        "publish", "notifications/u2", "x", YEOUL_TOKEN=demo_token("u1"), YEOUL_URL=f"http://127.0.0.1:{server}"
    )
    assert done.returncode == 1
    assert "403 Forbidden" in done.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://"])
def test_an_invalid_url_is_refused(url: str) -> None:
    done = yeoul("publish", "t", "x", "--url", url, COLUMNS="200")
    assert done.returncode == 2
    assert "write it as http://host:port" in done.stderr


def test_a_server_that_is_not_there_is_told_of() -> None:
    done = yeoul("publish", "t", "x", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot be reached: connection refused" in done.stderr


async def test_with_a_key_it_waits_for_a_server_that_comes_back() -> None:
    """Once, however often it had to try."""
    answers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        answers.append(head)
        if len(answers) == 1:
            writer.transport.abort()
            return
        status = b"503 Service Unavailable\r\nRetry-After: 0" if len(answers) == 2 else b"202 Accepted"
        body = b'{"id": "e-1", "count": 1, "detail": "busy"}'
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await asyncio.to_thread(yeoul, "publish", "t", "x", "--key", "order-1", YEOUL_URL=url)
        assert (done.returncode, done.stdout) == (0, "e-1\n"), done.stderr
        assert len(answers) == 3
        assert all(b"Idempotency-Key: order-1\r\n" in head for head in answers)

        answers.clear()
        done = await asyncio.to_thread(yeoul, "publish", "t", "x", YEOUL_URL=url)
        assert done.returncode == 1
        assert len(answers) == 1
