"""`yeoul serve` as a process, and its parts under other people's servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from support.machine import budget
from support.polling import eventually, metrics
from support.reader import RawStream, ask, open_stream, publish
from support.serving import Served, free_port, listening, yeoul_serve
from support.settings import make_data_dir
from support.tokens import bearer, demo_token

# Seconds from the signal to the end of the process where nothing has to be waited for.
PROMPT = 3.0

FAST = {"YEOUL_DEMO_PACE_S": "0.02", "YEOUL_DRAIN_GENERATIONS_S": "10"}


async def stop(served: Served, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    served.signal(number)
    return await asyncio.to_thread(served.wait)


async def open_many(port: int, path: str, count: int) -> list[RawStream]:
    gate = asyncio.Semaphore(50)

    async def one() -> RawStream:
        async with gate:
            stream = await open_stream(port, path)
            await stream.take(1)
            return stream

    return list(await asyncio.gather(*(one() for _ in range(count))))


def bye_of(stream: RawStream) -> dict[str, object]:
    assert stream.events[-1].type == "stream.bye", stream.events[-3:]
    said: dict[str, object] = json.loads(stream.events[-1].data)
    return said


# --- the end of a server


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_thousand_streams_get_everything_and_a_farewell_and_the_server_ends(number: signal.Signals) -> None:
    with yeoul_serve() as served:
        streams = await open_many(served.port, "/topics/a", 1_000)
        for part in range(10):
            await publish(served.port, "a", str(part))
        began = time.monotonic()
        served.signal(number)
        await asyncio.gather(*(stream.rest() for stream in streams))
        code, err = await asyncio.to_thread(served.wait)
        took = time.monotonic() - began
    assert (code, err.count("Traceback")) == (0, 0), err
    assert took < budget(PROMPT)
    for stream in streams:
        assert stream.data[1:-1] == [str(part) for part in range(10)]
        assert bye_of(stream) == {"reason": "drain", "reconnect": True}
        await stream.close()


async def test_a_server_without_streams_ends_at_once() -> None:
    with yeoul_serve() as served:
        assert (await ask(served.port, "/readyz")).status == 200
        began = time.monotonic()
        code, err = await stop(served)
    assert (code, err.count("Traceback")) == (0, 0), err
    assert time.monotonic() - began < budget(PROMPT)


async def test_a_client_that_reads_nothing_does_not_hold_up_the_end() -> None:
    with yeoul_serve() as served, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        stuck.connect(("127.0.0.1", served.port))
        stuck.sendall(b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await eventually(lambda: _connections(served.port, 1))
        for _ in range(40):
            await publish(served.port, "a", "x" * 100_000)
        samples = await metrics(served.port)
        assert samples["yeoul_lagging_readers"] == 1
        began = time.monotonic()
        code, err = await stop(served)
        took = time.monotonic() - began
    assert (code, err.count("Traceback")) == (0, 0), err
    assert took < budget(PROMPT + 2)


async def _connections(port: int, count: int) -> bool:
    return (await metrics(port))["yeoul_connections"] == count


async def test_a_running_answer_is_given_its_grace() -> None:
    with yeoul_serve(env=FAST) as served:
        stream = await open_stream(served.port, "/sse/chat?message=hello&provider=demo")
        await stream.take(3)
        began = time.monotonic()
        served.signal()
        events = await stream.rest()
        await stream.close()
        code, err = await asyncio.to_thread(served.wait)
        took = time.monotonic() - began
    assert (code, err.count("Traceback")) == (0, 0), err
    assert events[-1].data == "[DONE]"
    assert "".join(stream.data[:-1]).startswith("This is a demo answer")
    assert took < 10


@pytest.mark.parametrize(
    ("dialect", "ending"),
    [
        ("plain", [("failure", '"state": "interrupted"')]),
        ("json", [("message", '"error"')]),
        ("envelope", [("error", '"status": 500')]),
        ("openai", [("message", '"type": "interrupted"'), ("message", "[DONE]")]),
    ],
)
async def test_an_answer_whose_grace_is_over_ends_with_the_last_event_of_its_dialect(
    dialect: str, ending: list[tuple[str, str]]
) -> None:
    with yeoul_serve(env={"YEOUL_DRAIN_GENERATIONS_S": "0.3", "YEOUL_DEMO_PACE_S": "0"}) as served:
        body = {"prompt": "hello", "provider": "demo", "model": "demo-stall"}
        created = await ask(served.port, "/generations", method="POST", json_body=body)
        stream = await open_stream(served.port, f"{created.headers['location']}/stream?dialect={dialect}")
        await stream.take(8)
        began = time.monotonic()
        served.signal()
        events = await stream.rest()
        await stream.close()
        code, err = await asyncio.to_thread(served.wait)
        took = time.monotonic() - began
    assert (code, err.count("Traceback")) == (0, 0), err
    last = events[-len(ending) :]
    assert [event.type for event in last] == [kind for kind, _ in ending]
    assert all(part in event.data for event, (_, part) in zip(last, ending, strict=True)), last
    assert took < budget(PROMPT)


async def test_a_server_that_shuts_down_accepts_no_new_clients() -> None:
    with yeoul_serve(env={"YEOUL_DRAIN_GENERATIONS_S": "5"}) as served:
        body = {"prompt": "hello", "provider": "demo", "model": "demo-stall"}
        created = await ask(served.port, "/generations", method="POST", json_body=body)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        endless = await open_stream(served.port, "/topics/a")
        served.signal()
        await endless.rest()
        await endless.close()
        writer.write(b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await reader.read(1_000)
        assert b" 503 " in head.split(b"\r\n")[0] or head == b""
        writer.close()
        assert created.status == 201
        served.process.kill()


SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
async def test_a_second_signal_of_any_kind_ends_the_grace(first: signal.Signals, second: signal.Signals) -> None:
    with yeoul_serve(env={"YEOUL_DRAIN_GENERATIONS_S": "600", "YEOUL_DEMO_PACE_S": "0"}) as served:
        body = {"prompt": "hello", "provider": "demo", "model": "demo-stall"}
        created = await ask(served.port, "/generations", method="POST", json_body=body)
        answer = await open_stream(served.port, f"{created.headers['location']}/stream?dialect=plain")
        endless = await open_stream(served.port, "/topics/a")
        await answer.take(3)
        served.signal(first)
        await endless.rest()  # the drain has begun
        began = time.monotonic()
        served.signal(second)
        code, err = await asyncio.to_thread(served.wait)
        took = time.monotonic() - began
        await answer.close()
        await endless.close()
    assert (code, err.count("Traceback"), err.count("ERROR")) == (0, 0, 0), err
    assert took < budget(PROMPT)


STOPPED_BY_A_THREAD = """
import sys
import threading

import yeoul.server.run as run
from yeoul.cli.main import main


class Server(run.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self):
        sys.stdin.readline()
        self.should_exit = True


run.Server = Server
sys.argv = ["yeoul", "serve", "--port", sys.argv[1]]
main()
"""


async def test_a_server_that_is_stopped_without_a_signal_says_farewell_too() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STOPPED_BY_A_THREAD, str(port)),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "YEOUL_DATA_DIR": make_data_dir()},
    )
    assert process.stdin is not None
    assert process.stderr is not None
    while b"ready" not in await process.stderr.readline():
        pass
    stream = await open_stream(port, "/topics/a")
    process.stdin.write(b"\n")
    await stream.rest()
    await stream.close()
    assert bye_of(stream) == {"reason": "drain", "reconnect": True}
    async with asyncio.timeout(budget(PROMPT)):
        await process.communicate()
    assert process.returncode == 0


# --- under a path


@pytest.mark.parametrize("path", ["", "/yeoul"], ids=["removed by the proxy", "kept by the proxy"])
async def test_under_a_root_path_it_is_found_whether_the_proxy_removes_that_or_not(path: str) -> None:
    with yeoul_serve("--root-path", "/yeoul") as served:
        assert any(f":{served.port}/yeoul\n" in line for line in served.first_lines), served.first_lines
        assert (await ask(served.port, f"{path}/livez")).status == 200
        document = (await ask(served.port, f"{path}/openapi.json")).json()
        assert document["servers"] == [{"url": "/yeoul"}]
        home = await ask(served.port, "/yeoul")
        assert (home.status, home.headers["location"]) == (307, f"http://127.0.0.1:{served.port}/yeoul/")
        session = await ask(served.port, f"{path}/auth/session", method="POST", headers=bearer(demo_token("u1")))
        assert "; Path=/yeoul; " in session.headers["set-cookie"]


@pytest.mark.parametrize("path", ["yeoul", "/yeoul/", "/a b", "//a"])
async def test_an_invalid_root_path_is_refused(path: str) -> None:
    code, err = await _fails("--root-path", path)
    assert code == 2
    assert "root_path" in err


# --- killed without a word


async def test_after_a_kill_and_a_restart_a_reader_is_told_the_end_once_and_nothing_is_asked_again() -> None:
    port = free_port()
    path = "/sse/chat?message=hello&provider=demo"
    with yeoul_serve("--port", str(port), env={"YEOUL_DEMO_PACE_S": "0.05"}) as served:
        stream = await open_stream(port, path)
        await stream.take(5)
        position = stream.last_event_id
        served.process.kill()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await stream.rest()
        await stream.close()
    with yeoul_serve("--port", str(port)) as served:
        async with await open_stream(port, path, last_event_id=position) as back:
            events = await back.rest()
        assert [event.type for event in events] == ["failure"]
        assert json.loads(events[0].data)["state"] == "interrupted"
        again = await ask(port, path, headers={"Last-Event-ID": back.last_event_id})
        assert (again.status, again.body) == (204, b"")
        assert (await metrics(port))["yeoul_generations_started_total"] == 0


async def test_after_a_kill_and_a_restart_a_follower_is_told_of_the_gap() -> None:
    port = free_port()
    with yeoul_serve("--port", str(port)) as served:
        position = await publish(port, "a", "1")
        served.process.kill()
    with yeoul_serve("--port", str(port)):
        async with await open_stream(port, "/topics/a", last_event_id=position) as stream:
            await stream.until(lambda events: any(event.type == "stream.gap" for event in events))
            gap = stream.events[-1]
            assert json.loads(gap.data) == {"requested": position, "oldest": None, "reason": "epoch"}
            await publish(port, "a", "2")
            assert (await stream.take(3))[-1].data == "2"


# --- a start that fails


async def test_a_port_in_use_is_said_and_the_exit_code_is_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, err = await _fails("--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "--port" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"YEOUL_HEARTBEAT_S": "-1"}, "heartbeat_s"),
        ({"YEOUL_RETENTION": "{broken"}, "retention"),
        ({"YEOUL_BROKER": "carrier-pigeon://"}, "carrier-pigeon://"),
        ({"YEOUL_WORKERS": "7"}, "workers"),
        ({"YEOUL_PORT": "99999"}, "port"),
        (
            {"YEOUL_HEARTBEET_S": "5"},
            "unknown setting YEOUL_HEARTBEET_S in the environment",
        ),
    ],
)
async def test_a_wrong_setting_is_named_and_the_exit_code_is_2(env: dict[str, str], named: str) -> None:
    code, err = await _fails(env=env)
    assert code == 2
    assert named in err
    assert "Traceback" not in err


async def test_an_unknown_setting_may_be_allowed() -> None:
    with yeoul_serve(env={"YEOUL_HEARTBEET_S": "5", "YEOUL_ALLOW_UNKNOWN_SETTINGS": "true"}) as served:
        assert "did you mean YEOUL_HEARTBEAT_S?" in "".join(served.first_lines)


async def test_a_full_disk_under_the_log_is_said_on_stdout_and_the_server_serves() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_shell(
        f"exec {sys.executable} -m yeoul serve --port {port} 2>/dev/full",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "YEOUL_DATA_DIR": make_data_dir()},
    )
    assert process.stdout is not None
    async with asyncio.timeout(budget(20)):
        while b"stderr cannot be written to: No space left" not in (line := await process.stdout.readline()):
            assert line
        while b"yeoul ready on" not in await process.stdout.readline():
            pass
    assert (await ask(port, "/livez")).status == 200
    process.terminate()
    async with asyncio.timeout(budget(20)):
        await process.communicate()
    assert process.returncode == 0


async def test_a_disk_that_was_full_for_a_while_loses_lines_and_not_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    port = free_port()
    with log.open("w") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "yeoul", "serve", "--port", str(port)),
            stderr=file,
            # The limit is one for all files: an index or events that are written meanwhile would log that they failed.
            env={
                **os.environ,
                "YEOUL_DATA_DIR": make_data_dir(),
                "YEOUL_OWN_DOCUMENTS": "false",
                "YEOUL_BROKER": "memory://",
            },
        )

    async def logged(text: str) -> bool:
        return text in log.read_text()

    async def cut() -> bool:
        return log.read_bytes()[-1:] != b"\n"

    await eventually(lambda: logged("yeoul ready"))

    async def visit() -> None:
        async with await open_stream(port, "/topics/a") as stream:
            await stream.take(1)

    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 20, resource.RLIM_INFINITY))
    for _ in range(3):
        await visit()
    await eventually(cut)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await visit()
    await eventually(lambda: logged("lines could not be written"))
    process.terminate()
    assert await process.wait() == 0
    lines = log.read_text().splitlines()
    assert re.search(r"WARNING yeoul: [1-9]\d* lines could not be written: ", "\n".join(lines))
    assert "stream ended" in lines[-2], "whole, on a line of its own"


async def _fails(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("YEOUL_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "yeoul", "serve", *arguments),
        env={**clean, **(env or {})},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    return process.returncode or 0, err.decode()


# --- as a library

LIBRARY_APP = """
import asyncio

from fastapi import FastAPI, Request

from yeoul import Event, EventStream, Hub, generate

hub = Hub()
app = FastAPI(lifespan=hub.lifespan)


@app.get("/topics/{topic}")
async def follow(topic: str, request: Request):
    return EventStream(hub, topic, request)


@app.post("/topics/{topic}")
async def publish(topic: str, text: str):
    return {"id": str(await hub.publish(topic, Event(text)))}


async def answer(pace: float):
    for number in range(20):
        yield str(number)
        await asyncio.sleep(pace)


@app.get("/chat")
async def chat(request: Request, pace: float = 0.02):
    return await generate(hub, request, lambda: answer(pace), dialect="plain")
"""

SERVERS = {
    "uvicorn": ["uvicorn", "app:app", "--port"],
    "uvicorn-direct": ["uvicorn", "app:app", "--http", "yeoul.server.protocol:Protocol", "--port"],
    "granian": ["granian", "app:app", "--interface", "asgi", "--port"],
}


@pytest.fixture(params=SERVERS)
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    (tmp_path / "app.py").write_text(LIBRARY_APP)
    name, *rest = SERVERS[request.param]
    return [str(Path(sys.executable).with_name(name)), *rest]


async def test_a_users_own_app_says_farewell_to_its_streams(command: list[str], tmp_path: Path) -> None:
    port = free_port()
    with listening([*command, str(port)], port, cwd=tmp_path) as served:
        streams = await open_many(port, "/topics/a", 20)
        for number in range(5):
            assert (await ask(port, f"/topics/a?text={number}", method="POST")).status == 200
        began = time.monotonic()
        served.signal()
        await asyncio.gather(*(stream.rest() for stream in streams))
        _, err = await asyncio.to_thread(served.wait)
        took = time.monotonic() - began
    assert took < budget(PROMPT), err
    assert "Traceback" not in err
    for stream in streams:
        assert stream.data[1:-1] == [str(number) for number in range(5)]
        assert bye_of(stream) == {"reason": "drain", "reconnect": True}
        await stream.close()


async def test_a_users_own_answer_ends_before_its_server_does(command: list[str], tmp_path: Path) -> None:
    port = free_port()
    with listening([*command, str(port)], port, cwd=tmp_path) as served:
        stream = await open_stream(port, "/chat?pace=0.03")
        await stream.take(3)
        served.signal()
        await stream.rest()
        await stream.close()
        _, err = await asyncio.to_thread(served.wait)
    assert stream.data[-1] == "[DONE]"
    assert "".join(stream.data[:-1]) == "".join(map(str, range(20)))
    assert "Traceback" not in err


BARE_APP = """
import asyncio, sys
from yeoul import Hub

async def main():
    hub = Hub()
    async def ending():
        await asyncio.sleep(0)
        print("ended", file=sys.stderr, flush=True)
    hub.before_close(ending)
    async with hub.lifespan(None):
        print("ready", file=sys.stderr, flush=True)
        await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""


async def test_a_process_without_a_handler_of_its_own_still_ends_after_its_hub_did() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BARE_APP, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    async with asyncio.timeout(20):
        assert await process.stderr.readline() == b"ready\n"
        process.terminate()
        assert await process.stderr.read() == b"ended\n"
        assert await process.wait() == -signal.SIGTERM
