"""`yeoul listen` against servers that run, end, refuse and come back."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from support.command import started, yeoul
from support.polling import eventually, metrics
from support.proxy import Fate, proxying
from support.reader import publish
from support.serving import free_port, yeoul_serve
from support.tokens import demo_token

pytestmark = pytest.mark.timeout(240)

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with yeoul_serve(env={"YEOUL_OWN_DOCUMENTS": "false", "YEOUL_RETRY_MS": "100"}) as served:
        yield served.port


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).rstrip("\n")


async def said(process: subprocess.Popen[str], text: str) -> str:
    """The first note with this text."""
    assert process.stderr is not None
    while line := await asyncio.to_thread(process.stderr.readline):
        if text in line:
            return line
    raise AssertionError(f"it never said {text!r}")


async def test_events_are_shown_with_their_type_id_and_data(server: int) -> None:
    with started("listen", "show/a", YEOUL_URL=f"http://127.0.0.1:{server}") as process:
        await said(process, "heartbeat every")
        id = await publish(server, "show/a", "안녕", type="greeting")
        assert (await line_of(process)).split(" ", 1)[1] == f"greeting {id}  안녕"
        await publish(server, "show/a", "two\nlines")
        assert (await line_of(process)).endswith("  two")
        assert await line_of(process) == "    lines"


async def test_escape_sequences_in_events_do_not_reach_the_terminal(server: int) -> None:
    with started("listen", "esc/a", "-n", "1", YEOUL_URL=f"http://127.0.0.1:{server}") as process:
        await said(process, "heartbeat every")
        await publish(server, "esc/a", "\x1b[2J\x1b]0;title\x07 \u202e gone\x9b", type="t\x1b[1m")
        line = await line_of(process)
        assert line.isprintable()
        assert line.endswith("\\u001b[2J\\u001b]0;title\\u0007 \\u202e gone\\u009b")


async def test_raw_is_the_data_as_it_came(server: int) -> None:
    with started("listen", "raw/a", "--raw", "-n", "2", YEOUL_URL=f"http://127.0.0.1:{server}") as process:
        await said(process, "heartbeat every")
        await publish(server, "raw/a", "\x1b[1mbold\nnext")
        await publish(server, "raw/a", "last")
        out, _ = await asyncio.to_thread(process.communicate, None, 10)
        assert out == "\x1b[1mbold\nnext\nlast\n"


async def test_json_is_one_object_per_line_control_events_too(server: int) -> None:
    for data in ("1", "2\u2028\x1b"):
        await publish(server, "json/a", data)
    url = f"http://127.0.0.1:{server}"
    arguments = ("listen", "json/a", "json/b", "--json", "--newest", "5", "-n", "2", "-q")
    done = await asyncio.to_thread(yeoul, *arguments, YEOUL_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events] == ["stream.hello", "message", "message"]
    assert [event["data"] for event in events[1:]] == ["1", "2\u2028\x1b"]
    assert all(event["id"] for event in events)


async def test_it_comes_back_where_it_was_and_says_so(server: int) -> None:
    fates = iter([Fate(cut_after=700), Fate()])
    async with proxying(server, lambda: next(fates)) as proxy:
        with started("listen", "cut/a", "--raw", "-n", "20", YEOUL_URL=f"http://127.0.0.1:{proxy.port}") as process:
            await said(process, "heartbeat every")
            for number in range(20):
                await publish(server, "cut/a", f"{number} {'x' * 20}")
            lost = await said(process, "the connection was lost")
            assert "broke off" in lost
            assert "reconnecting in 0.1 s" in lost
            await said(process, "reconnected after ")
            out, _ = await asyncio.to_thread(process.communicate, None, 10)
            assert process.returncode == 0
    assert [int(line.split()[0]) for line in out.splitlines()] == list(range(20))
    assert proxy.cuts == 1


async def test_a_position_that_is_lost_is_told_as_a_gap(server: int) -> None:
    url = f"http://127.0.0.1:{server}"
    with started("listen", "gap/a", "--last-event-id", "0000000000-7", YEOUL_URL=url) as process:
        assert "GAP: events after 0000000000-7 are lost (epoch)" in await said(process, "GAP")


async def test_a_server_that_goes_away_and_comes_back_is_waited_for() -> None:
    port = free_port()
    env = {"YEOUL_PORT": str(port), "YEOUL_OWN_DOCUMENTS": "false", "YEOUL_RETRY_MS": "100"}
    with ExitStack() as stack:
        with yeoul_serve("--port", str(port), env=env) as served:
            arguments = ("listen", "t", "--raw", "-n", "1")
            process = stack.enter_context(started(*arguments, YEOUL_URL=f"http://127.0.0.1:{port}"))
            await said(process, "heartbeat every")
            served.signal()
            await said(process, "the server closes this stream: drain")
            await asyncio.to_thread(served.wait)
        await said(process, "connection refused; retrying")
        with yeoul_serve("--port", str(port), env=env):
            # Another server: the position that it had is no longer one.
            await said(process, "GAP")
            await publish(port, "t", "again")
            assert await line_of(process) == "again"
            assert await asyncio.to_thread(process.wait, 10) == 0


def test_a_stream_that_is_over_ends_it(server: int) -> None:
    done = yeoul("listen", "/sse/chat?message=hi&provider=demo", "--raw", YEOUL_URL=f"http://127.0.0.1:{server}")
    assert done.returncode == 0
    assert done.stdout.endswith("[DONE]\n")
    assert "the stream is complete" in done.stderr


def test_what_is_refused_ends_it(server: int) -> None:
    url = f"http://127.0.0.1:{server}"
    done = yeoul("listen", "notifications/u2", YEOUL_URL=url, YEOUL_TOKEN=demo_token("u1"))
    assert done.returncode == 1
    assert "403 Forbidden: the token does not allow following 'notifications/u2'" in done.stderr
    done = yeoul("listen", "/livez", YEOUL_URL=url)
    assert done.returncode == 1
    assert "not an event stream" in done.stderr


def test_a_server_that_was_never_there_ends_it() -> None:
    done = yeoul("listen", "t", YEOUL_URL=f"http://127.0.0.1:{free_port()}", YEOUL_TOKEN="s3cr3t-t0ken")
    assert done.returncode == 1
    assert done.stderr.count("connection refused") == 3
    assert "s3cr3t-t0ken" not in done.stderr
    assert "Traceback" not in done.stderr


@asynccontextmanager
async def answering(body: bytes, heads: list[bytes]) -> AsyncIterator[str]:
    """A server that answers everything so, and keeps what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_farewell_for_good_ends_it() -> None:
    bye = b'event: stream.bye\ndata: {"reason": "kicked", "reconnect": false}\n\n'
    async with answering(STREAM + bye, heads := []) as url:
        done = await asyncio.to_thread(yeoul, "listen", "t", YEOUL_URL=url)
    assert done.returncode == 3
    assert "closes this stream: kicked, and asks not to reconnect" in done.stderr
    assert len(heads) == 1


async def test_a_token_goes_to_its_own_server_alone() -> None:
    bye = b'event: stream.bye\ndata: {"reason": "kicked", "reconnect": false}\n\n'
    async with answering(STREAM + bye, heads := []) as url:
        for target in (f"{url}/x", "/x"):
            for base in (url, "http://127.0.0.1:1"):
                if target.startswith("http") or base == url:
                    await asyncio.to_thread(yeoul, "listen", target, YEOUL_URL=base, YEOUL_TOKEN="t0ken")
    assert [b"t0ken" in head for head in heads] == [True, False, True]


async def test_ctrl_c_ends_it(server: int) -> None:
    with started("listen", "t", YEOUL_URL=f"http://127.0.0.1:{server}") as process:
        await said(process, "heartbeat every")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.to_thread(process.communicate, None, 10)
        assert (process.returncode, err) == (130, "")


async def test_a_reader_of_its_output_that_has_had_enough_ends_it(server: int) -> None:
    with started("listen", "pipe/a", "--raw", YEOUL_URL=f"http://127.0.0.1:{server}") as process:
        await said(process, "heartbeat every")
        await publish(server, "pipe/a", "1")
        assert await line_of(process) == "1"
        assert process.stdout is not None
        process.stdout.close()

        async def ended() -> bool:
            await publish(server, "pipe/a", "more")
            return process.poll() is not None

        await eventually(ended)
        assert process.returncode == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    await eventually(lambda: _nobody(server))


async def _nobody(port: int) -> bool:
    return (await metrics(port))["yeoul_connections"] == 0


async def test_what_a_server_calls_its_events_is_not_obeyed() -> None:
    hostile = b"retry: 100\nid: \x1b[2J\nevent: stream.x\x1b[2J\ndata: {}\n\n"
    async with answering(STREAM + hostile, heads := []) as url:
        done = await asyncio.to_thread(yeoul, "listen", "t", YEOUL_URL=url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "its last event's id cannot be sent back: \\u001b[2J" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    assert len(heads) == 1
