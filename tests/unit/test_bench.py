"""The load tools count what there is, and nothing else: a tool that miscounts makes any server look well."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from bench import __main__ as command
from bench.build import HERE, CannotBuild, tool
from bench.drive import Disturbed
from bench.processes import CannotStart, free_port, running, seconds_until
from bench.results import Row, Target, markdown, medians, read, show, write
from bench.rounds import QUICK, Bench, against, present
from bench.servers import Fanout
from rich.console import Console

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    """A server of one function per connection; it is over when its clients have left."""
    connections: set[asyncio.Task[None]] = set()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.create_task(closing(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*connections)


def streaming(*pieces: bytes, stay: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD)
        for piece in pieces:
            await writer.drain()
            await asyncio.sleep(0.002)
            writer.write(piece)
        await writer.drain()
        if stay:
            await reader.read()

    return serve


async def run(*arguments: object, stdin: bytes = b"", one_line: bool = False) -> tuple[int, list[dict[str, Any]], str]:
    """`one_line`: stdin ends once a line has come, otherwise with the process."""
    process = await asyncio.create_subprocess_exec(
        *map(str, arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(stdin)
    out = b""
    if one_line:
        out = await process.stdout.readline()
        process.stdin.close()
    out, err = out + await process.stdout.read(), await process.stderr.read()
    process.stdin.close()
    return await process.wait(), [json.loads(line) for line in out.splitlines()], err.decode()


async def subscribe(port: int, count: int, *options: object, **input: Any) -> dict[str, Any]:
    code, lines, err = await run(tool("subscribers"), "-t", 30, *options, port, "/follow", count, **input)
    assert code == 0, err
    assert lines[0]["ready"] is True
    return lines[-1]


def stamped(number: int = 0) -> bytes:
    return f"id: x-{number}\ndata: {time.monotonic_ns()} {'x' * 100}\n\n".encode()


class TestSubscribers:
    async def test_count_every_event_of_every_reader(self) -> None:
        async with served(streaming(*(stamped(n) for n in range(20)), stay=True)) as port:
            found = await subscribe(port, 7, "-n", 20)
        assert (found["events"], found["least"], found["closed"]) == (140, 20, 0)

    async def test_count_events_cut_anywhere(self) -> None:
        stream = b"".join(stamped(n) for n in range(3))
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        async with served(streaming(*pieces, stay=True)) as port:
            found = await subscribe(port, 1, "-n", 3)
        assert found["events"] == 3

    async def test_count_events_that_come_together(self) -> None:
        async with served(streaming(b"".join(stamped(n) for n in range(5_000)), stay=True)) as port:
            found = await subscribe(port, 1, "-n", 5_000)
        assert found["events"] == 5_000
        assert found["bytes"] > 5_000 * 100

    async def test_short_events_with_the_stamp_in_json(self) -> None:
        tokens = [b'data: {"content": "%d "}\n\n' % time.monotonic_ns() for _ in range(4)]
        async with served(streaming(b"".join(tokens))) as port:
            found = await subscribe(port, 1, "-n", 5)
        assert found["events"] == 4

    async def test_no_greetings_comments_or_end_markers(self) -> None:
        others = b': 1234567890123\n\nevent: stream.hello\ndata: {"heartbeat": 15.0}\n\ndata: [DONE]\n\ndata: 12345\n\n'
        async with served(streaming(others, stamped(), others)) as port:
            found = await subscribe(port, 1, "-n", 2)
        assert found["events"] == 1

    async def test_say_which_reader_had_least_and_who_was_closed(self) -> None:
        turn = iter(range(10))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await streaming(*[stamped()] * (next(turn) + 1))(reader, writer)

        async with served(serve) as port:
            found = await subscribe(port, 3, "-n", 9)
        assert (found["events"], found["least"], found["closed"]) == (6, 1, 3)

    async def test_latency_is_the_age_of_the_stamp(self) -> None:
        old = b"data: %d \n\n" % (time.monotonic_ns() - 50_000_000)
        async with served(streaming(old, stay=True)) as port:
            found = await subscribe(port, 2, "-n", 1)
        assert 50 <= found["p50_ms"] <= found["p99_ms"] <= found["max_ms"] < 5_000

    async def test_are_told_what_to_wait_for(self) -> None:
        async with served(streaming(stamped(), stamped(), stay=True)) as port:
            found = await subscribe(port, 2, stdin=b"2\n")
        assert found["least"] == 2
        assert found["elapsed"] < 20

    async def test_idle_ones_stay_until_the_end_of_stdin(self) -> None:
        async with served(streaming(stamped(), stay=True)) as port:
            found = await subscribe(port, 2, "-s", one_line=True)
        assert found["closed"] == 0

    async def test_ask_as_they_are_told(self) -> None:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(2))
            writer.write(HEAD + b"\n" + stamped())

        async with served(serve) as port:
            await subscribe(port, 1, "-X", "POST", "-d", "{}", "-H", "Content-Type: application/json", "-n", 1)
        assert asked[0].startswith(b"POST /follow HTTP/1.1\r\n")
        assert b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" in asked[0]

    async def test_each_is_a_user_of_its_own(self, tmp_path: Path) -> None:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(HEAD + b"\n" + stamped())

        tokens = tmp_path / "tokens"
        tokens.write_text("one.x\ntwo.y\nthree.z\n")
        async with served(serve) as port:
            await subscribe(port, 2, "-T", tokens, "-n", 1)
        assert sorted(request.split(b"Authorization: Bearer ")[1] for request in asked) == [
            b"one.x\r\n\r\n",
            b"two.y\r\n\r\n",
        ]

    async def test_more_readers_than_tokens_are_an_error(self, tmp_path: Path) -> None:
        tokens = tmp_path / "tokens"
        tokens.write_text("one.x\n")
        code, _, err = await run(tool("subscribers"), "-T", tokens, "-n", 1, 9, "/follow", 2)
        assert code == 1
        assert "has 1 tokens for 2 readers" in err

    async def test_the_last_reader_of_an_event_makes_its_age(self) -> None:
        event = stamped()
        turn = iter(range(10))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            late = next(turn) == 0
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD)
            if late:
                await asyncio.sleep(0.1)
            writer.write(event)
            await reader.read()

        async with served(serve) as port:
            found = await subscribe(port, 5, "-l", "-n", 1)
        assert found["rounds"] == 1
        assert found["p50_ms"] < found["last_p50_ms"] == found["last_p99_ms"] == found["max_ms"]
        assert found["last_p50_ms"] >= 100

    async def test_an_event_that_not_all_have_received_has_no_last_reader(self) -> None:
        both, late = stamped(), stamped(1)
        turn = iter(range(10))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await streaming(both, *([late] if next(turn) == 0 else []))(reader, writer)

        async with served(serve) as port:
            found = await subscribe(port, 2, "-l", "-n", 2)
        assert (found["events"], found["rounds"]) == (3, 1)

    async def test_other_events_for_other_readers_are_an_error(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await streaming(stamped())(reader, writer)

        async with served(serve) as port:
            code, _, err = await run(tool("subscribers"), "-l", "-n", 2, port, "/follow", 2)
        assert code == 1
        assert "different events" in err

    async def test_the_stamp_may_follow_a_text_anywhere_in_the_data(self) -> None:
        joined = b'data: {"at": 1234567890123}\n\n'
        said = b'data: {"at": 1234567890123, "by": {"id": "%s"}, "text": "%d"}\n\n'
        events = [joined, *(said % (b"u" * 200, time.monotonic_ns()) for _ in range(3))]
        stream = b"".join(events)
        async with served(streaming(*(stream[at : at + 7] for at in range(0, len(stream), 7)), stay=True)) as port:
            found = await subscribe(port, 1, "-a", '"text": "', "-n", 3)
        assert found["events"] == 3
        assert found["max_ms"] < 5_000

    async def test_heartbeats_of_idle_ones_are_counted_however_they_come(self) -> None:
        beats = b'7\r\n: beat\n\r\ndata: {"a": ":"}\n\n:\n'
        left = 2
        all_sent = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal left
            await streaming(*(beats[at : at + 1] for at in range(len(beats))))(reader, writer)
            left -= 1
            if not left:
                all_sent.set()
            await reader.read()

        async with served(serve) as port:
            process = await asyncio.create_subprocess_exec(
                *map(str, (tool("subscribers"), "-s", port, "/follow", 2)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert json.loads(await process.stdout.readline())["ready"]
            await all_sent.wait()
            process.stdin.close()
            found = json.loads(await process.stdout.read())
            await process.wait()
        assert found["comments"] == 2 * 2

    async def test_an_answer_that_is_no_stream_is_an_error(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        async with served(serve) as port:
            code, _, err = await run(tool("subscribers"), "-n", 1, port, "/nowhere", 1)
        assert code == 1
        assert "404 Not Found" in err


class TestPublisherAndLimit:
    async def test_what_is_published_arrives(self) -> None:
        sock = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = sock.sockets[0].getsockname()[1]
        sock.close()
        limit = await asyncio.create_subprocess_exec(str(tool("limit")), str(port))
        try:
            await _listening(port)
            readers = await asyncio.create_subprocess_exec(
                *map(str, (tool("subscribers"), port, "/follow", 5)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert readers.stdin is not None
            assert readers.stdout is not None
            assert json.loads(await readers.stdout.readline())["ready"]
            code, [published], err = await publish(port, 3, 0.2)
            assert code == 0, err
            readers.stdin.write(b"%d\n" % published["published"])
            found = json.loads(await readers.stdout.readline())
            readers.stdin.close()
            await readers.wait()
        finally:
            limit.kill()
            await limit.wait()
        assert published["published"] >= 3
        assert found["least"] * 5 == found["events"] == published["published"] * 5

    async def test_a_pause_is_kept(self) -> None:
        async with served(answering(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok")) as port:
            _, [published], _ = await publish(port, 1, 0.2, 0.05)
        assert 3 <= published["published"] <= 6

    async def test_connections_take_turns_in_a_pause(self) -> None:
        at: list[float] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            at.append(time.monotonic())
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

        async with served(serve) as port:
            await publish(port, 4, 0.0, 0.4)
        assert len(at) == 4
        assert at[-1] - at[0] >= 0.25

    async def test_responses_are_timed(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

        async with served(serve) as port:
            _, [published], _ = await publish(port, 2, 0.0)
        assert 50 <= published["p50_ms"] <= published["p99_ms"] < 5_000

    async def test_a_form_can_be_posted(self) -> None:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head + await reader.readexactly(int(head.split(b"Content-Length: ")[1])))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

        form = "Content-Type: application/x-www-form-urlencoded"
        async with served(serve) as port:
            code, _, err = await publish(port, 1, 0.0, "-H", form, "-d", "topic=t&data=STAMP")
        assert code == 0, err
        assert asked[0].count(b"Content-Type:") == 1
        assert asked[0].partition(b"\r\n\r\n")[2].startswith(b"topic=t&data=")

    async def test_a_body_without_a_stamp_is_an_error(self) -> None:
        code, _, err = await publish(1, 1, 0.0, "-d", "{}")
        assert code == 1
        assert "must contain STAMP" in err

    async def test_it_posts_as_it_is_told(self) -> None:
        asked: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            asked.append(head + await reader.readexactly(length))
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

        options = ("-H", "Authorization: Bearer t", "-d", '{"room": "r", "text": "STAMP"}')
        async with served(serve) as port:
            code, [published], err = await publish(port, 1, 0.0, *options)
        assert (code, published["published"]) == (0, 1), err
        head, _, body = asked[0].partition(b"\r\n\r\n")
        assert b"\r\nAuthorization: Bearer t\r\n" in head
        assert b"\r\nContent-Type: application/json\r\n" in head
        said = json.loads(body)
        assert said["room"] == "r"
        assert int(said["text"].split()[0]) <= time.monotonic_ns()

    async def test_chunked_answers_are_read_to_their_end(self) -> None:
        async with served(
            answering(b"HTTP/1.1 202 A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
        ) as port:
            _, [published], _ = await publish(port, 2, 0.05)
        assert published["published"] >= 2

    async def test_a_refusal_is_an_error(self) -> None:
        async with served(answering(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")) as port:
            code, _, err = await publish(port, 1, 0.1)
        assert code != 0
        assert "429 Too Many Requests" in err


async def test_the_upstream_sends_its_tokens_one_by_one() -> None:
    sock = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = sock.sockets[0].getsockname()[1]
    sock.close()
    upstream = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "load" / "upstream.py"), str(port), "5", "0.01"
    )
    try:
        await _listening(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    finally:
        upstream.kill()
        await upstream.wait()
    assert answer.count(b'"content":"') == 5
    assert answer.index(b'"finish_reason":"stop"') < answer.index(b"data: [DONE]")


def answering(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(answer)

    return serve


async def publish(port: int, *arguments: float | str) -> tuple[int, list[dict[str, Any]], str]:
    options = [argument for argument in arguments if isinstance(argument, str)]
    numbers = [argument for argument in arguments if not isinstance(argument, str)]
    return await run(tool("publisher"), *options, port, "/publish", *numbers)


async def _listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise AssertionError("it did not listen")


class TestResults:
    def test_medians_are_of_each_value(self) -> None:
        assert medians([{"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 9.0}, {"a": 2.0, "b": 2.0}]) == {"a": 2.0, "b": 2.0}

    @pytest.mark.parametrize(
        ("row", "met"),
        [
            (Row("A", "x", 4.0, "", "it", 2.0, Target(">=", 2)), True),
            (Row("A", "x", 3.9, "", "it", 2.0, Target(">=", 2)), False),
            (Row("E", "x", 1.0, "", "it", 4.0, Target("<=", 0.25)), True),
            (Row("E", "x", 1.1, "", "it", 4.0, Target("<=", 0.25)), False),
            (Row("D", "x", 12.0, "KB", target=Target("<=", 12)), True),
            (Row("F", "x", 12.0, "KB", "it", 3.0), None),
            (Row("E", "x", None, "", "it", None, Target("<=", 1)), False),
        ],
    )
    def test_a_target_is_of_the_ratio_or_of_the_value(self, row: Row, met: bool | None) -> None:
        assert row.met is met

    def test_the_table_and_the_file_say_the_same(self, tmp_path: Path) -> None:
        rows = [
            Row("A", "fan-out", 4.0, "events/s", "limit", 2.0, Target(">=", 3)),
            Row("A", "fan-out", 4.0, "events/s", "peer", 1.0, Target(">=", 3)),
        ]
        console = Console(width=150, record=True, file=(tmp_path / "table").open("w"))
        show(rows, console)
        console.file.close()
        shown = console.export_text()
        assert shown.count("fan-out") == 1
        assert "MISS" in shown
        assert "pass" in shown
        write(rows, {"A": []}, tmp_path / "out" / "results.json", 1.0)
        written = json.loads((tmp_path / "out" / "results.json").read_text())
        assert [(row["ratio"], row["met"], row["target"]) for row in written["rows"]] == [
            (2.0, False, ">= 3"),
            (4.0, True, ">= 3"),
        ]
        assert read(tmp_path / "out" / "results.json") == rows

    def test_the_markdown_table_has_a_column_for_each_server_that_is_in_several_lines(self) -> None:
        rows = [
            Row("A", "fan-out", 4.0, "events/s", "limit", 2.0, Target(">=", 3)),
            Row("A", "fan-out", 4.0, "events/s", "peer: not installed"),
            Row("K", "connect", 500.0, "µs", "limit", 50.0),
            Row("K", "connect", 500.0, "µs", "itself", 250.0),
            Row("M", "start-up", 1.5, "s"),
            Row("E", "lost", None, "", "limit", 2.0),
        ]
        assert markdown(rows).splitlines() == [
            "|  | Yeoul | limit | other |",
            "| --- | ---: | ---: | ---: |",
            "| fan-out, events/s | **4** | 2 (×0.5) | – |",
            "| connect, µs | **500** | 50 (×0.1) | itself: 250 (×0.5) |",
            "| start-up, s | **1.5** | – | – |",
            "| lost | – | 2 | – |",
        ]


class TestPeers:
    LEFT_OUT = Fanout("Peer", lambda: pytest.fail("it was started"), "/", "/", "not installed")

    def test_one_that_is_missing_is_named_and_misses_no_target(self) -> None:
        found = {"Yeoul": {"cpu": 8.0}}
        [row] = against("J", found, "publishing", "cpu", "µs", [(self.LEFT_OUT, Target("<=", 1))])
        assert (row.against, row.other, row.met) == ("Peer: not installed", None, None)
        assert present(self.LEFT_OUT) == []


class TestProcesses:
    def test_the_time_to_a_line_is_measured_and_the_process_ended(self) -> None:
        program = "import sys, time; time.sleep(0.2); print('x\\nready', file=sys.stderr, flush=True); time.sleep(99)"
        assert 0.2 <= seconds_until("ready", (sys.executable, "-c", program)) < 20

    def test_a_process_that_ends_early_is_an_error_with_what_it_said(self) -> None:
        program = "import sys; sys.exit('no such port')"
        with pytest.raises(CannotStart, match="no such port"):
            seconds_until("ready", (sys.executable, "-c", program))

    def test_cpu_is_that_of_another_process(self) -> None:
        port = free_port()
        program = (
            "import socket, sys, time\n"
            "while time.process_time() < 0.2: pass\n"
            f"listener = socket.create_server(('127.0.0.1', {port}))\n"
            "while True: listener.accept()"
        )
        with running((sys.executable, "-c", program), port) as server:
            assert 0.2 <= server.cpu() < 5
            assert server.memory() > 1_000_000


class TestRounds:
    def test_a_candidate_that_fails_twice_is_left_out(self) -> None:
        tries: list[int] = []

        def broken() -> dict[str, float]:
            tries.append(1)
            raise Disturbed("events were lost")

        said: list[str] = []
        bench = Bench(QUICK, said.append)
        assert bench.measure("A", {"good": lambda: {"rate": 2.0}, "broken": broken}) == {"good": {"rate": 2.0}}
        assert len(tries) == 2
        assert "A broken: events were lost" in said

    def test_a_candidate_that_fails_once_is_measured_again(self) -> None:
        outcomes: list[Sequence[float]] = [(), (5.0,)]

        def shaky() -> dict[str, float]:
            for rate in outcomes.pop(0):
                return {"rate": rate}
            raise Disturbed("a passing thing")

        assert Bench(QUICK, lambda text: None).measure("A", {"shaky": shaky}) == {"shaky": {"rate": 5.0}}


class TestCommand:
    def test_an_unknown_scenario_is_refused(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.setattr(sys, "argv", ["bench", "--only", "A,Z"])
        with pytest.raises(SystemExit) as exit_:
            command.main()
        assert exit_.value.code == 2
        assert "no scenario Z: there are A, B, C, D, E, F, G, H, I, J, K, L, M, N" in capsys.readouterr().err

    @pytest.mark.parametrize(("value", "code"), [(2.0, 0), (1.0, 1)])
    def test_a_missed_target_is_the_exit_code(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: float, code: int
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["bench", "--only", "a"])
        row = Row("A", "x", value, "", target=Target(">=", 2))
        monkeypatch.setattr(command, "SCENARIOS", {"A": lambda bench: [row]})
        monkeypatch.setattr(command, "OUT", tmp_path)
        assert command.main() == code

    def test_the_last_table_can_be_shown_again(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
    ) -> None:
        write([Row("A", "fan-out", 4.0, "events/s", target=Target(">=", 5))], {}, tmp_path / "results.json", 1.0)
        monkeypatch.setattr(sys, "argv", ["bench", "--last", "--markdown"])
        monkeypatch.setattr(command, "OUT", tmp_path)
        assert command.main() == 1
        assert "| fan-out, events/s | **4** |" in capsys.readouterr().out

    def test_without_a_compiler_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
        with pytest.raises(CannotBuild, match="install gcc"):
            tool("limit", tmp_path)
