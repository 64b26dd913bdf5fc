"""Processes of a measurement: pinned to a core, waited for, ended, and what they used."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil

__all__ = ["LOAD_CORE", "SERVER_CORE", "CannotStart", "Running", "free_port", "running", "seconds_until", "start"]

_CORES = sorted(os.sched_getaffinity(0))
# The server has one core to itself; everything that loads it shares the other. (On one core the ratios still say
# something, the figures do not.)
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]

_READY_S = 20.0


class CannotStart(Exception):
    """A server did not come up; the text holds what it said."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def start(command: Sequence[str], core: int, **options: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
    os.sched_setaffinity(process.pid, {core})  # before it has threads or children: those inherit it
    return process  # type: ignore[no-any-return]


def _cpu(pid: int) -> float:
    # The clock of another process (what clock_getcpuclockid(3) returns): exact, where /proc counts ticks of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


class Running:
    """A server under measurement, its worker processes included."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Seconds of processor time used so far, all threads included."""
        return sum(_cpu(process.pid) for process in self._all())

    def memory(self) -> int:
        """Bytes resident now."""
        return sum(process.memory_info().rss for process in self._all())

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


@contextmanager
def running(
    command: Sequence[str], port: int, *, env: Mapping[str, str] | None = None, core: int = SERVER_CORE
) -> Iterator[Running]:
    """The server, once its port accepts connections. Raises CannotStart."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryDirectory() as elsewhere:
        # Elsewhere: a .env or yeoul.toml of the developer's would be read from the working directory.
        environment = {**_clean_environment(), **(env or {})}
        process = start(command, core, stdout=said, stderr=said, env=environment, cwd=elsewhere)
        try:
            _wait_until_it_listens(process, port, command[0], said)
            yield Running(process.pid, port)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def seconds_until(text: str, command: Sequence[str], *, core: int = SERVER_CORE) -> float:
    """Starts the server, ends it, and returns the seconds until `text` stood on its stderr. Raises CannotStart."""
    with tempfile.TemporaryDirectory() as elsewhere:
        began = time.monotonic()
        process = start(command, core, stderr=subprocess.PIPE, env=_clean_environment(), cwd=elsewhere)
        assert process.stderr is not None
        said = ""
        try:
            for line in process.stderr:
                if text in line:
                    return time.monotonic() - began
                said += line
        finally:
            process.terminate()
            process.communicate()
    raise CannotStart(f"{command[0]} ended without {text!r}: {said[-2000:]}")


def _clean_environment() -> dict[str, str]:
    """The environment without settings of the developer's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("YEOUL_", "OPENAI_", "HF_"))}


def _wait_until_it_listens(process: subprocess.Popen[str], port: int, name: str, said: object) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)  # another process: its port is the only sign there is
    said.seek(0)  # type: ignore[attr-defined]
    raise CannotStart(f"{name} did not come up: {said.read()[-2000:]}")  # type: ignore[attr-defined]
