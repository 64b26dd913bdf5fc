"""What is measured: Yeoul, the physical limit, and peers. Each is a context that gives a running server."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .build import HERE, tool
from .processes import LOAD_CORE, Running, free_port, running

__all__ = [
    "LIMIT",
    "NCHAN",
    "PORTABLE",
    "QUEUES",
    "YEOUL",
    "Fanout",
    "answers",
    "limit",
    "queues",
    "upstream",
    "yeoul",
    "yeoul_answers",
]

_NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_UVICORN = (sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log")
# Enough for every event of a measurement: a reader that is starved of its core misses none, so all can be counted.
# More readers than the server takes by default, too.
_KEEP_ALL = {
    "YEOUL_RETENTION_EVENTS": "200000",
    "YEOUL_RETENTION_BYTES": "100000000",
    "YEOUL_RETENTION_S": "600",
    "YEOUL_MAX_REPLAY_BYTES": "100000000",
    "YEOUL_MAX_NEWEST": "200000",
    "YEOUL_MAX_CONNECTIONS": "100000",
}


@dataclass(frozen=True)
class Fanout:
    """A server that events are published to and followed on."""

    name: str
    run: Callable[[], AbstractContextManager[Running]]
    publish: str
    follow: str
    missing: str | None = None


@contextmanager
def yeoul(**settings: str) -> Iterator[Running]:
    """`yeoul serve`: the direct outlet."""
    port = free_port()
    command = (sys.executable, "-m", "yeoul", "serve", "--port", str(port))
    with running(command, port, env={**_KEEP_ALL, **settings}) as server:
        yield server


@contextmanager
def _portable() -> Iterator[Running]:
    port = free_port()
    command = (*_UVICORN, "--backlog", "4096", "--port", str(port), "--factory", "yeoul.app:create_app")
    with running(command, port, env=_KEEP_ALL) as server:
        yield server


@contextmanager
def limit() -> Iterator[Running]:
    port = free_port()
    with running((str(tool("limit")), str(port)), port) as server:
        yield server


@contextmanager
def queues(**environment: str) -> Iterator[Running]:
    port = free_port()
    peers = ("--app-dir", str(HERE / "peers"))
    with running(
        (*_UVICORN, *peers, "--backlog", "4096", "--port", str(port), "queues:app"), port, env=environment
    ) as server:
        yield server


@contextmanager
def _nchan() -> Iterator[Running]:
    port = free_port()
    directory = HERE / "out" / "nchan"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    text = (HERE / "peers" / "nchan.conf").read_text()
    config = directory / "nginx.conf"
    config.write_text(text.replace("DIRECTORY", str(directory)).replace("PORT", str(port)))
    command = ("nginx", "-p", str(directory), "-e", str(directory / "nginx.log"), "-c", str(config))
    with running(command, port) as server:
        yield server


def _nchan_missing() -> str | None:
    if shutil.which("nginx") is None or not _NCHAN_MODULE.exists():
        return "not installed (Debian: nginx libnginx-mod-nchan)"
    return None


YEOUL = Fanout("Yeoul", yeoul, "/topics/bench", "/topics/bench")
PORTABLE = Fanout("Yeoul, portable outlet", _portable, "/topics/bench", "/topics/bench")
LIMIT = Fanout("C, one send() each", limit, "/publish", "/follow")
QUEUES = Fanout("sse-starlette, queues", queues, "/publish", "/follow")
NCHAN = Fanout("Nchan (nginx)", _nchan, "/publish", "/follow", _nchan_missing())


@contextmanager
def upstream(tokens: int, pause: float) -> Iterator[str]:
    """The base URL of a model server, on the core of the load."""
    port = free_port()
    command = (sys.executable, str(HERE / "load" / "upstream.py"), str(port), str(tokens), str(pause))
    with running(command, port, core=LOAD_CORE):
        yield f"http://127.0.0.1:{port}/v1"


def yeoul_answers(url: str) -> AbstractContextManager[Running]:
    upstreams = {"bench": {"kind": "openai-chat", "url": url, "model": "bench", "key": "bench"}}
    return yeoul(YEOUL_UPSTREAMS=json.dumps(upstreams), YEOUL_PROVIDER="bench")


@contextmanager
def answers(url: str) -> Iterator[Running]:
    """The plain way: the SDK's stream through a StreamingResponse."""
    port = free_port()
    command = (*_UVICORN, "--app-dir", str(HERE / "peers"), "--port", str(port), "answers:app")
    with running(command, port, env={"BENCH_UPSTREAM": url}) as server:
        yield server
