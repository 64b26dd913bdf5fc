"""Readers and publishers: the load tools, from Python."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from .build import tool
from .processes import LOAD_CORE, start

__all__ = ["Arrived", "Disturbed", "Published", "Readers", "publish", "readers"]


class Disturbed(Exception):
    """A measurement that says nothing: events were lost, or a tool failed."""


@dataclass(frozen=True)
class Arrived:
    """What all readers together were given. Seconds are between the first and the last event."""

    events: int
    least: int  # of the reader that had the fewest
    closed: int
    bytes: int
    seconds: float
    elapsed: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu: float
    comments: int  # where they stayed: heartbeats, and what else is no event
    # With -l: of the events that everybody was given, the age of each when the last reader had it.
    rounds: int
    last_p50_ms: float
    last_p99_ms: float
    last_max_ms: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Published:
    """What was published, in how many seconds, and how long a response took."""

    published: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.published / self.seconds


class Readers:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.connected_in = float(self._line()["seconds"])

    def arrived(self, each: int | None = None) -> Arrived:
        """Waits until each reader has had so many events (None: as many as it was started with)."""
        assert self._process.stdin is not None
        if each is not None:
            with suppress(BrokenPipeError):  # then it has ended, and says nothing
                os.write(self._process.stdin.fileno(), f"{each}\n".encode())
        return Arrived(**self._line())

    def end(self) -> Arrived:
        """What has come so far. Those that were to stay are closed after this."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return Arrived(**self._line())

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Disturbed(f"the readers ended early (exit code {self._process.wait()})")
        parsed: dict[str, Any] = json.loads(line)
        return parsed


@contextmanager
def readers(
    port: int, path: str, count: int, *options: str, idle: bool = False, seconds: float = 30.0
) -> Iterator[Readers]:
    """So many readers, once each has the head of its answer. `idle`: they stay however little comes."""
    command = [str(tool("subscribers")), "-t", str(seconds), *(["-s"] if idle else []), *options]
    process = start([*command, str(port), path, str(count)], LOAD_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield Readers(process)
        finally:
            process.kill()


def publish(port: int, path: str, connections: int, seconds: float, pause: float = 0.0, *options: str) -> Published:
    """Publishes for `seconds` over keep-alive connections. `pause`: the least time between two requests of each."""
    arguments = (*options, *map(str, (port, path, connections, seconds, pause)))
    process = start((str(tool("publisher")), *arguments), LOAD_CORE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    if process.returncode != 0:
        raise Disturbed(f"the publisher failed: {err[-500:]}")
    return Published(**json.loads(out))
