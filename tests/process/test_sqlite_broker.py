"""Events outlive the process, however it ends; a file that cannot be used is refused with the reason."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from support.command import environment
from support.follower import Follower
from support.polling import generation
from support.reader import ask, open_stream
from support.serving import Served, yeoul_serve
from yeoul.hub import SqliteBroker
from yeoul.llm.dialects import DIALECTS
from yeoul.stream import Cursor, Retention

HEADERS = {"Content-Type": "application/json"}

# Publishes to several topics until it is killed, and says what has been acknowledged.
PUBLISHER = """
import asyncio, sys
from yeoul.hub import SqliteBroker
from yeoul.sse import Event
from yeoul.stream import Retention

async def publish(broker, number):
    topic = ("generations/" if number % 2 else "") + f"t{number}"
    for count in range(1_000_000):
        events = [Event(f"{number}/{count}/{part}") for part in range(1 + count % 3)]
        cursor = await broker.publish(topic, events)
        first = cursor.offset - len(events) + 1
        sys.stdout.write("".join(f"{first + at} {topic} {event.data}\\n" for at, event in enumerate(events)))
        sys.stdout.flush()

async def main():
    broker = SqliteBroker(sys.argv[1], lambda topic: Retention(events=1_000_000, bytes=1 << 40))
    await broker.open(lambda topic, frames: None)
    await asyncio.gather(*(publish(broker, number) for number in range(8)))

asyncio.run(main())
"""


def nobody(topic: str, frames: object) -> None:
    """A sink."""


async def test_nothing_that_was_acknowledged_is_lost_and_no_offset_used_twice_by_a_kill_at_any_moment(
    tmp_path: Path,
) -> None:
    path, chance = tmp_path / "broker.db", random.Random(7)
    acknowledged: dict[int, tuple[str, str]] = {}
    for _ in range(8):
        lines = chance.randrange(1, 3_000)
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(path)], env=environment(), stdout=subprocess.PIPE, text=True
        )
        with publisher:
            assert publisher.stdout is not None
            for count, line in enumerate(publisher.stdout):
                if not line.endswith("\n"):
                    break
                offset, topic, data = line.split()
                assert int(offset) not in acknowledged, "an offset was given out twice"
                acknowledged[int(offset)] = topic, data
                if count == lines:
                    publisher.send_signal(signal.SIGKILL)
    broker = SqliteBroker(path, lambda topic: Retention(events=1_000_000, bytes=1 << 40))
    await broker.open(nobody)
    kept = {
        frame.offset: (topic, frame.event.data)
        for topic in await broker.topics("")
        for frame in (await _frames(broker, topic))
    }
    await broker.close()
    assert len(acknowledged) > 2_000
    assert {offset: kept.get(offset) for offset in acknowledged} == acknowledged


async def _frames(broker: SqliteBroker, topic: str) -> Any:
    journal = await broker.attach(topic)
    frames = journal.kept()
    broker.detach(topic)
    assert [frame.previous for frame in frames[1:]] == [frame.offset for frame in frames[:-1]], "a hole"
    return frames


def publish_until_cut(name: str, port: int, acknowledged: dict[str, str], enough: threading.Event) -> None:
    """Publishes events one after the other, and notes those that are acknowledged: id → data."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for count in range(1_000_000):
            data = f"{name}/{count}"
            try:
                connection.request("POST", "/topics/news", json.dumps({"data": data}), HEADERS)
                answer = connection.getresponse()
                body = json.loads(answer.read())
            except (OSError, HTTPException):
                return
            assert answer.status == 202, body
            acknowledged[body["id"]] = data
            if count == 40:
                enough.set()


async def test_readers_go_on_without_a_gap_when_the_server_is_killed_and_started_again(tmp_path: Path) -> None:
    env = {"YEOUL_DATA_DIR": str(tmp_path), "YEOUL_RETENTION_EVENTS": "100000"}
    acknowledged: dict[str, str] = {}
    up = asyncio.Event()
    followers = [Follower(0, path) for path in ("/topics/news", "/stream?topic=news&topic=other")]
    for follower in followers:
        follower.before_return = lambda: asyncio.ensure_future(_wait(up))
    reading: list[asyncio.Task[None]] = []
    for round in range(3):
        with yeoul_serve(env=env) as served:
            for follower in followers:
                follower.port = served.port
            up.set()
            if not reading:
                reading = [asyncio.create_task(follower.run()) for follower in followers]
            for follower in followers:
                greeted = round + 1
                await follower.until(lambda events, n=greeted: sum(e.type == "stream.hello" for e in events) >= n)
            enough = threading.Event()
            publishing = [
                asyncio.to_thread(publish_until_cut, f"{round}/{number}", served.port, acknowledged, enough)
                for number in range(4)
            ]
            gathered = asyncio.gather(*publishing)
            await asyncio.to_thread(enough.wait, 60)
            up.clear()
            served.signal(signal.SIGKILL)
            await gathered
    with yeoul_serve(env=env) as served:
        for follower in followers:
            follower.port = served.port
        up.set()
        last = (await ask(served.port, "/topics/news", method="POST", json_body={"data": "last"})).json()["id"]
        for follower in followers:
            await follower.until(lambda events: events and events[-1].data == "last")
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    epochs = {id.partition("-")[0] for id in (*acknowledged, last)}
    assert len(epochs) == 1
    for follower in followers:
        assert [event for event in follower.events if event.type == "stream.gap"] == []
        got = [(event.id, event.data) for event in follower.events if not event.type.startswith("stream.")]
        offsets = [Cursor.parse(id or "").offset for id, _ in got]
        assert offsets == sorted(set(offsets)), "in order, each once"
        assert acknowledged.items() <= set(got)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.parametrize("dialect", ["plain", "openai"])
async def test_an_answer_that_a_kill_cut_short_is_read_on_to_an_honest_end(tmp_path: Path, dialect: str) -> None:
    env = {"YEOUL_DATA_DIR": str(tmp_path), "YEOUL_DEMO_PACE_S": "0"}
    asked = {"prompt": "hello", "provider": "demo", "model": "demo-stall"}
    with yeoul_serve(env=env) as served:
        created = await ask(served.port, "/generations", method="POST", json_body=asked)
        address = created.headers["location"]
        stream = await open_stream(served.port, f"{address}/stream?dialect={dialect}")
        await stream.take(8)
        before = (await ask(served.port, address)).json()
        served.signal(signal.SIGKILL)
        with suppress(ConnectionError):
            await stream.rest()
        await stream.close()
    with yeoul_serve(env=env) as served:
        back = await open_stream(
            served.port, f"{address}/stream?dialect={dialect}", last_event_id=stream.events[4].id or ""
        )
        rest = await back.rest()
        await back.close()
        assert [(e.id, e.data) for e in rest[:3]] == [(e.id, e.data) for e in stream.events[5:8]]
        assert any("interrupted" in event.data for event in rest[-2:])
        after = (await ask(served.port, address)).json()
        assert (after["state"], after["retryable"], after["readers"]) == ("interrupted", True, 0)
        assert after["text"].startswith(before["text"])
        assert (after["provider"], after["model"], after["created"]) == ("demo", "demo-stall", before["created"])
        over = await ask(
            served.port, f"{address}/stream?dialect={dialect}", headers={"Last-Event-ID": back.events[-1].id or ""}
        )
        assert over.status == 204
        served.signal()
        assert (await asyncio.to_thread(served.wait))[0] == 0


async def test_an_answer_that_was_done_is_there_after_a_restart(tmp_path: Path) -> None:
    env = {"YEOUL_DATA_DIR": str(tmp_path), "YEOUL_DEMO_PACE_S": "0"}
    with yeoul_serve(env=env) as served:
        stream = await open_stream(served.port, "/sse/chat?message=hello&provider=demo")
        events = await stream.rest()
        await stream.close()
        served.signal()
        assert (await asyncio.to_thread(served.wait))[0] == 0
    with yeoul_serve(env=env) as served:
        back = await open_stream(served.port, "/sse/chat?message=hello&provider=demo", last_event_id=events[2].id or "")
        rest = await back.rest()
        await back.close()
        assert [(e.id, e.data) for e in rest] == [(e.id, e.data) for e in events[3:]]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_after_a_restart_a_snapshot_of_an_answer_has_its_end(tmp_path: Path, dialect: str) -> None:
    env = {"YEOUL_DATA_DIR": str(tmp_path), "YEOUL_DEMO_PACE_S": "0"}

    async def snapshot(port: int, location: str) -> list[str]:
        async with await open_stream(port, f"{location}/stream?dialect={dialect}&from=snapshot") as stream:
            return [event.data for event in await stream.rest()]

    with yeoul_serve(env=env) as served:
        asked = {"prompt": "hello", "provider": "demo", "model": "demo-parts"}
        answer = await ask(served.port, "/generations", method="POST", json_body=asked)
        location = answer.headers["location"]
        before = await generation(served.port, location, "done")
        shown = await snapshot(served.port, location)
        served.signal()
        assert (await asyncio.to_thread(served.wait))[0] == 0
    with yeoul_serve(env=env) as served:
        assert (await generation(served.port, location, "done"))["parts"] == before["parts"]
        assert await snapshot(served.port, location) == shown


@asynccontextmanager
async def publishing(tmp_path: Path) -> AsyncIterator[tuple[Served, Any]]:
    with yeoul_serve(env={"YEOUL_DATA_DIR": str(tmp_path), "YEOUL_RETENTION_EVENTS": "100000"}) as served:

        async def publish(data: str) -> Any:
            return await ask(served.port, "/topics/news", method="POST", json_body={"data": data})

        yield served, publish


async def test_a_full_disk_is_told_to_publishers_and_to_probes_and_passes(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (served, publish):
        assert (await publish("first")).status == 202
        follower = await open_stream(served.port, "/topics/news")
        soft, hard = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
        size = max(path.stat().st_size for path in tmp_path.glob("broker.db*"))
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (size + 40_000, hard))
        acknowledged = ["first"]
        while (answer := await publish(f"{len(acknowledged)} {'x' * 5_000}")).status == 202:
            acknowledged.append(f"{len(acknowledged)} {'x' * 5_000}")
        assert answer.status == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("the broker's file cannot be written at the moment: its disk")
        assert "check that disk, and the room on it" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        assert str(tmp_path) not in answer.text
        while (await ask(served.port, "/readyz")).status != 503:  # an outcome holds for a second
            await asyncio.sleep(0.1)
        assert (await ask(served.port, "/livez")).status == 200
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
        assert (await publish("last")).status == 202
        while (await ask(served.port, "/readyz")).status != 200:
            await asyncio.sleep(0.1)
        await follower.until(lambda events: events and events[-1].data == "last")
        assert [e.data for e in follower.events if e.type == "message"] == [*acknowledged[1:], "last"]
        await follower.close()


async def test_a_file_that_another_program_locks_is_told_to_publishers_and_passes(tmp_path: Path) -> None:
    async with publishing(tmp_path) as (_, publish):
        assert (await publish("first")).status == 202
        with closing(sqlite3.connect(tmp_path / "broker.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = await publish("refused")
        assert refused.status == 503
        assert "another program is writing to it and does not finish; stop that program" in refused.json()["detail"]
        assert (await publish("last")).status == 202
        texts = [text for (text,) in _rows(tmp_path, "SELECT data FROM events WHERE topic = 'news' ORDER BY offset")]
        assert texts == ["first", "last"]


def _rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "broker.db")) as connection:
        return connection.execute(sql).fetchall()


async def test_a_second_server_on_the_same_file_is_refused_with_one_clear_error(tmp_path: Path) -> None:
    file = f"sqlite:///{tmp_path / 'events.db'}"
    with yeoul_serve("--broker", file) as served:
        second = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "yeoul", "serve", "--port", "0", "--broker", file],
            env=environment(YEOUL_DATA_DIR=str(tmp_path / "second")),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode != 0
        assert f"in use by another Yeoul server (process {served.process.pid})" in second.stderr
        assert "several workers that share events need Redis" in second.stderr
        assert "Traceback" not in second.stderr
        answer = await ask(served.port, "/topics/news", method="POST", json_body={"data": "still here"})
        assert answer.status == 202
    assert (tmp_path / "events.db").is_file()


@pytest.mark.parametrize(
    "url", ["redis://localhost", "sqlite://", "sqlite:///", "sqlite:///x.db?mode=ro", "x.db", "SQLITE:///x"]
)
def test_a_broker_that_is_not_known_is_named_with_those_that_are(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yeoul", "serve", "--port", "0", "--broker", url],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (2, 0)
    assert f"unknown broker {url!r}" in " ".join(done.stderr.split())
    assert "sqlite:///FILE" in done.stderr


async def test_by_default_events_are_in_the_data_directory_and_with_memory_nowhere(tmp_path: Path) -> None:
    for folder, arguments in (("a", ()), ("b", ("--broker", "memory://"))):
        with yeoul_serve(*arguments, env={"YEOUL_DATA_DIR": str(tmp_path / folder)}) as served:
            answer = await ask(served.port, "/topics/news", method="POST", json_body={"data": json.dumps(folder)})
            assert answer.status == 202
            served.signal()
            assert (await asyncio.to_thread(served.wait))[0] == 0
    assert [row[0] for row in _rows(tmp_path / "a", "SELECT data FROM events WHERE topic = 'news'")] == ['"a"']
    assert not (tmp_path / "b" / "broker.db").exists()
