"""An application of a user's own ends its streams with a farewell, however its server comes to end, on each server."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support.reader import RawStream, ask, open_stream
from support.serving import free_port, listening

APP = """
import asyncio, os, threading
from fastapi import FastAPI, Request
from yeoul import Event, EventStream, Hub

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)
outer = FastAPI()  # nobody runs the lifespan of what is mounted in it
outer.mount("/in", app)


@app.get("/topics/{topic}")
async def follow(topic: str, request: Request):
    return EventStream(hub, topic, request)


@app.post("/topics/{topic}")
async def publish(topic: str, text: str):
    return {"id": str(await hub.publish(topic, Event(text)))}
"""

# With less patience for a worker that ends, and heartbeats that show that time has passed.
IMPATIENT = APP.replace(
    "hub = Hub()", "from yeoul.hub import hub as module\nmodule._HANDOVER = 0.2\nhub = Hub(heartbeat=1)"
)

# A server that other code runs, and ends from a thread.
EMBEDDED = """
import sys, threading, uvicorn
from app import {app}

server = uvicorn.Server(uvicorn.Config({app}, port=int(sys.argv[1]), http="{http}", log_level="info"))


def end():
    sys.stdin.readline()
    server.should_exit = True


threading.Thread(target=end, daemon=True).start()
server.run()
"""

DIRECT = "yeoul.server.protocol:Protocol"


async def farewell_of(stream: RawStream) -> Any:
    await stream.rest()
    assert stream.events[-1].type == "stream.bye"
    return json.loads(stream.events[-1].data)


@pytest.mark.parametrize("http", ["httptools", DIRECT])
@pytest.mark.parametrize(("app", "path"), [("app", "/topics/a"), ("outer", "/in/topics/a")])
async def test_at_a_limit_of_requests_streams_have_their_farewell(
    tmp_path: Path, http: str, app: str, path: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    limit = ["--limit-max-requests", "2", "--http", http]  # those that are complete
    command = [sys.executable, "-m", "uvicorn", f"app:{app}", "--port", str(port), *limit]
    with listening(command, port, cwd=tmp_path) as served:
        streams = [await open_stream(port, path) for _ in range(2)]
        for stream in streams:
            await stream.take(1)
        for text in ("1", "2"):
            assert (await ask(port, f"{path}?text={text}", method="POST")).status == 200
        for stream in streams:
            assert await farewell_of(stream) == {"reason": "drain", "reconnect": True}
            assert stream.data[1:-1] == ["1", "2"]
            await stream.close()
        _, err = await asyncio.to_thread(served.wait)
    assert "Traceback" not in err
    assert err.count("this hub is used without its lifespan") == (app == "outer")


@pytest.mark.parametrize("http", ["httptools", DIRECT])
@pytest.mark.parametrize(("app", "path"), [("app", "/topics/a"), ("outer", "/in/topics/a")])
async def test_ended_from_a_thread_a_server_has_its_streams_say_farewell(
    tmp_path: Path, http: str, app: str, path: str
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "embedded.py").write_text(EMBEDDED.format(app=app, http=http))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "embedded.py", str(port), cwd=tmp_path, stdin=asyncio.subprocess.PIPE
    )
    try:
        while True:
            try:
                stream = await open_stream(port, path)
                break
            except OSError:
                assert process.returncode is None
                await asyncio.sleep(0.02)  # another process: its port is the only sign there is
        await stream.take(1)
        assert process.stdin is not None
        process.stdin.write(b"\n")
        assert await farewell_of(stream) == {"reason": "drain", "reconnect": True}
        await stream.close()
        async with asyncio.timeout(60):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_without_a_lifespan_a_signal_is_noticed_too(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:outer", "--port", str(port)]
    with listening(command, port, cwd=tmp_path) as served:
        stream = await open_stream(port, "/in/topics/a")
        await stream.take(1)
        served.signal()
        assert await farewell_of(stream) == {"reason": "drain", "reconnect": True}
        await stream.close()
        _, err = await asyncio.to_thread(served.wait)
    assert "Traceback" not in err


FORKING = """
import asyncio, os, sys, uvicorn
from app import app, hub
from yeoul import Event

asyncio.run(hub.publish("a", Event("before the fork")))  # as a server that loads the application before it forks
port = int(sys.argv[1]) if os.fork() else int(sys.argv[2])
uvicorn.run(app, port=port, log_level="error")
"""


async def test_forked_processes_do_not_share_an_epoch(tmp_path: Path) -> None:
    """A position of one is answered by a gap in the other, not by other events."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "forking.py").write_text(FORKING)
    ports = free_port(), free_port()
    command = [sys.executable, "forking.py", *map(str, ports)]
    with listening(command, ports[0], cwd=tmp_path):
        positions = []
        for port in ports:
            async with asyncio.timeout(60):
                while True:
                    try:
                        answer = await ask(port, "/topics/a?text=mine", method="POST")
                        break
                    except OSError:
                        await asyncio.sleep(0.02)  # another process: its port is the only sign there is
            positions.append(answer.json()["id"])
        epochs = {position.partition("-")[0] for position in positions}
        assert len(epochs) == 2
        async with await open_stream(ports[1], "/topics/a", last_event_id=positions[0]) as stream:
            gap = (await stream.take(2))[1]
        assert json.loads(gap.data)["reason"] == "epoch"
        async with await open_stream(ports[1], "/topics/a", last_event_id=positions[1]) as stream:
            assert (await ask(ports[1], "/topics/a?text=next", method="POST")).status == 200
            assert (await stream.take(2))[1].data == "next"


async def test_of_workers_with_a_hub_in_memory_one_says_that_they_share_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(IMPATIENT)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--workers", "3"]
    with listening(command, port, cwd=tmp_path) as served:
        streams = []
        epochs: set[str] = set()
        async with asyncio.timeout(60):
            while len(epochs) < 3:  # which of the workers accepts a connection is the kernel's choice
                streams.append(await open_stream(port, "/topics/a"))
                (hello,) = await streams[-1].take(1)
                epochs.add((hello.id or "").partition("-")[0])
        for stream in streams:
            while b": keep-alive" not in stream.raw:
                await stream.read()
        served.signal()
        for stream in streams:
            await stream.rest()
            await stream.close()
        _, err = await asyncio.to_thread(served.wait)
    assert err.count("several worker processes serve the same socket") == 1


async def test_a_single_worker_says_nothing_of_the_kind(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(IMPATIENT)
    port = free_port()
    with listening([sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)], port, cwd=tmp_path) as served:
        stream = await open_stream(port, "/topics/a")
        while b": keep-alive" not in stream.raw:
            await stream.read()
        served.signal()
        await stream.rest()
        await stream.close()
        _, err = await asyncio.to_thread(served.wait)
    assert "several worker processes" not in err


# Servers with worker processes of their own. gunicorn's worker of uvicorn is told of a limit of requests by its server.
GUNICORN = ["gunicorn", "app:app", "--worker-class", "uvicorn_worker.UvicornWorker", "--bind", "127.0.0.1:{port}"]
HYPERCORN = ["hypercorn", "app:app", "--workers", "1", "--bind", "127.0.0.1:{port}"]


@pytest.mark.parametrize(
    "command",
    [GUNICORN, [*GUNICORN, "--workers", "2", "--preload"], HYPERCORN, [*HYPERCORN, "--worker-class", "uvloop"]],
    ids=["gunicorn", "gunicorn preload", "hypercorn", "hypercorn uvloop"],
)
async def test_a_signal_to_a_server_with_workers_ends_streams_with_a_farewell(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    words = [sys.executable, "-m", *(word.format(port=port) for word in command)]
    with listening(words, port, cwd=tmp_path) as served:
        streams = [await open_stream(port, "/topics/a") for _ in range(4)]
        for stream in streams:
            await stream.take(1)
        served.signal()
        for stream in streams:
            assert await farewell_of(stream) == {"reason": "drain", "reconnect": True}
            await stream.close()
        _, err = await asyncio.to_thread(served.wait)
    assert "Traceback" not in err


async def test_a_worker_of_gunicorn_that_has_had_its_requests_is_replaced_at_once(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    words = [sys.executable, "-m", *(word.format(port=port) for word in GUNICORN), "--max-requests", "2"]
    with listening(words, port, cwd=tmp_path) as served:
        async with await open_stream(port, "/topics/a") as stream:
            await stream.take(1)
            for text in ("1", "2"):
                assert (await ask(port, f"/topics/a?text={text}", method="POST")).status == 200
            assert await farewell_of(stream) == {"reason": "drain", "reconnect": True}
            assert stream.data[1:-1] == ["1", "2"]
        async with await open_stream(port, "/topics/a", last_event_id=stream.last_event_id) as again:
            gap = (await again.take(2))[1]  # the next worker has nothing of what this one had
            assert json.loads(gap.data)["reason"] == "epoch"
        served.signal()
        await asyncio.to_thread(served.wait)
