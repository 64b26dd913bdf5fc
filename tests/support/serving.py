"""Real servers: uvicorn and granian, in this process or in one of their own, on a free port."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import uvicorn

from support.settings import make_data_dir
from yeoul.server.protocol import Protocol

# For a test whose subject does not depend on the outlet: the `port` fixture then has one of the two.
one_outlet = pytest.mark.parametrize("port", ["direct"], indirect=True)

READY_S = 60.0
_READY = re.compile(r"yeoul ready on http://\S+?:(\d+)\b")


class _InProcess(uvicorn.Server):
    """Leaves the signals of the test runner alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    def capture_signals(self) -> Any:
        return nullcontext()

    async def main_loop(self) -> None:
        """Without uvicorn's tick of 0.1 s: there is one server per test."""
        await self.on_tick(0)
        await self.stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Without its pause of 0.1 s where nothing is left that could need it."""
        for _ in range(3):
            await asyncio.sleep(0)  # connections that the test has closed are noticed
        if self.server_state.connections or self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        await self.lifespan.shutdown()


@asynccontextmanager
async def serving(app: Any, *, direct: bool = True, header_timeout: float = 10.0, **options: Any) -> AsyncIterator[int]:
    """Serves the application on this event loop; the value is its port. `direct` chooses the outlet."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    http: Any = partial(Protocol, header_timeout=header_timeout) if direct else "httptools"
    config = uvicorn.Config(
        app, http=http, ws="none", lifespan="on", log_config=None, timeout_graceful_shutdown=5, **options
    )
    server = _InProcess(config)
    task = asyncio.create_task(server.serve([sock]))
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.005)  # uvicorn has no event for it
        yield sock.getsockname()[1]
    finally:
        server.stop.set()
        await task


@dataclass
class Served:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    first_lines: list[str]

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> tuple[int, str]:
        """Its exit code, and what it wrote to stderr after the ready line."""
        _, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, err or ""


@contextmanager
def yeoul_serve(
    *arguments: str, env: dict[str, str] | None = None, cwd: Any = None, python: str = sys.executable
) -> Iterator[Served]:
    """`yeoul serve --port 0 …`, once it has said that it is ready. `python`: of another installation than this one."""
    command = [python, "-m", "yeoul", "serve", "--port", "0", *arguments]
    own = ("YEOUL_", "OPENAI_", "HF_") if python == sys.executable else ("YEOUL_", "OPENAI_", "HF_", "PYTHON")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    with _process(command, {**clean, "YEOUL_DATA_DIR": make_data_dir(), **(env or {})}, cwd) as process:
        lines: list[str] = []
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if ready := _READY.search(line):
                yield Served(process, int(ready[1]), lines)
                return
        raise AssertionError(f"it did not become ready: {''.join(lines)}")


@contextmanager
def listening(command: list[str], port: int, *, env: dict[str, str] | None = None, cwd: Any = None) -> Iterator[Served]:
    """Any server command, once its port accepts connections (for servers that do not say so)."""
    with _process(command, {**os.environ, "YEOUL_DATA_DIR": make_data_dir(), **(env or {})}, cwd) as process:
        _wait_for_port(process, port)
        yield Served(process, port, [])


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def _process(command: list[str], env: dict[str, str], cwd: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, env=env, cwd=cwd, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        # The whole group: a server's workers hold its stderr open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _wait_for_port(process: subprocess.Popen[str], port: int) -> None:
    import time

    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}: {process.communicate()[1]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)  # another process: its port is the only sign there is
    raise AssertionError("it did not listen in time")
