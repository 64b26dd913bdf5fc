"""What is measured: Yeoul, the physical limit, and peers. Each is a context manager that yields a running server."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import jwt

from .build import HERE, tool
from .processes import LOAD_CORE, Running, free_port, running

__all__ = [
    "CENTRIFUGO",
    "LIMIT",
    "MERCURE",
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
    "yeoul_command",
]

_NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_UVICORN = (sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log")
# One core is measured: the Go runtime is to plan for one, and not for those of the machine.
_ONE_CORE = {"GOMAXPROCS": "1"}
_MERCURE_KEY = "bench" * 8
# Every event of a measurement is kept: a reader that does not get its core for a while loses none, so all can be
# counted. More readers than the server accepts by default, too.
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
    """A server to which events are published and on which they are followed.

    `publish` and `follow` are paths, `publish_options` and `follow_options` what the load tools need beside them;
    `missing` says why the server cannot take part (None: it can).
    """

    name: str
    run: Callable[[], AbstractContextManager[Running]]
    publish: str
    follow: str
    missing: str | None = None
    publish_options: tuple[str, ...] = ()
    follow_options: tuple[str, ...] = ()


def yeoul_command(port: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "yeoul", "serve", "--port", str(port))


@contextmanager
def yeoul(**settings: str) -> Iterator[Running]:
    """`yeoul serve`: the direct outlet."""
    port = free_port()
    with running(yeoul_command(port), port, env={**_KEEP_ALL, "YEOUL_BROKER": "memory://", **settings}) as server:
        yield server


@contextmanager
def _portable() -> Iterator[Running]:
    port = free_port()
    command = (*_UVICORN, "--backlog", "4096", "--port", str(port), "--factory", "yeoul.app:create_app")
    with running(command, port, env={**_KEEP_ALL, "YEOUL_BROKER": "memory://"}) as server:
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


def _configured(name: str, port: int) -> Path:
    """A fresh directory with the configuration `peers/<name>` in it, port and directory filled in. Returns its path."""
    directory = HERE / "out" / Path(name).stem
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    text = (HERE / "peers" / name).read_text()
    for placeholder, value in (("DIRECTORY", str(directory)), ("PORT", str(port)), ("KEY", _MERCURE_KEY)):
        text = text.replace(placeholder, value)
    config = directory / name
    config.write_text(text)
    return config


@contextmanager
def _nchan() -> Iterator[Running]:
    port = free_port()
    config = _configured("nchan.conf", port)
    log = str(config.with_name("nginx.log"))
    with running(("nginx", "-p", str(config.parent), "-e", log, "-c", str(config)), port) as server:
        yield server


def _nchan_missing() -> str | None:
    if shutil.which("nginx") is None or not _NCHAN_MODULE.exists():
        return "not installed (Debian: nginx libnginx-mod-nchan)"
    return None


@contextmanager
def _centrifugo() -> Iterator[Running]:
    port = free_port()
    config = _configured("centrifugo.json", port)
    with running((os.environ["BENCH_CENTRIFUGO"], "-c", str(config)), port, env=_ONE_CORE) as server:
        yield server


@contextmanager
def _mercure() -> Iterator[Running]:
    port = free_port()
    config = _configured("mercure.caddy", port)
    command = (os.environ["BENCH_MERCURE"], "run", "--config", str(config), "--adapter", "caddyfile")
    home = {name: str(config.parent) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    with running(command, port, env={**_ONE_CORE, **home}) as server:
        yield server


def _binary_missing(variable: str) -> str | None:
    """`variable` is the environment variable that names the program."""
    path = os.environ.get(variable)
    if not path:
        return f"not given ({variable}=/path/to/binary)"
    return None if os.access(path, os.X_OK) else f"{variable}={path} is not a program"


def _mercure_token() -> str:
    return jwt.encode({"mercure": {"publish": ["*"], "subscribe": ["*"]}}, _MERCURE_KEY, "HS256")


YEOUL = Fanout("Yeoul", yeoul, "/topics/bench", "/topics/bench")
PORTABLE = Fanout("Yeoul, portable outlet", _portable, "/topics/bench", "/topics/bench")
LIMIT = Fanout("C, one send() each", limit, "/publish", "/follow")
QUEUES = Fanout("sse-starlette, queues", queues, "/publish", "/follow")
NCHAN = Fanout("Nchan (nginx)", _nchan, "/publish", "/follow", _nchan_missing())
CENTRIFUGO = Fanout(
    "Centrifugo",
    _centrifugo,
    "/api/publish",
    "/connection/uni_sse?cf_connect=" + quote('{"subs":{"bench":{}}}'),
    _binary_missing("BENCH_CENTRIFUGO"),
    publish_options=("-d", '{"channel": "bench", "data": "STAMP"}'),
    follow_options=("-a", '"data":"'),
)
MERCURE = Fanout(
    "Mercure",
    _mercure,
    "/.well-known/mercure",
    "/.well-known/mercure?topic=bench",
    _binary_missing("BENCH_MERCURE"),
    publish_options=(
        "-H",
        f"Authorization: Bearer {_mercure_token()}",
        "-H",
        "Content-Type: application/x-www-form-urlencoded",
        "-d",
        "topic=bench&data=STAMP",
    ),
)


@contextmanager
def upstream(tokens: int, pause: float) -> Iterator[str]:
    """The base URL of a model server, on the core of the load."""
    port = free_port()
    command = (sys.executable, str(HERE / "load" / "upstream.py"), str(port), str(tokens), str(pause))
    with running(command, port, core=LOAD_CORE):
        yield f"http://127.0.0.1:{port}/v1"


def yeoul_answers(url: str, **settings: str) -> AbstractContextManager[Running]:
    upstreams = {"bench": {"kind": "openai-chat", "url": url, "model": "bench", "key": "bench"}}
    return yeoul(YEOUL_UPSTREAMS=json.dumps(upstreams), YEOUL_PROVIDER="bench", **settings)


@contextmanager
def answers(url: str) -> Iterator[Running]:
    """The plain way: the SDK's stream through a StreamingResponse."""
    port = free_port()
    command = (*_UVICORN, "--app-dir", str(HERE / "peers"), "--port", str(port), "answers:app")
    with running(command, port, env={"BENCH_UPSTREAM": url}) as server:
        yield server
