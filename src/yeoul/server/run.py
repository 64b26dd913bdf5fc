"""`yeoul serve`: uvicorn with the direct outlet, a ready line, and exit code 0 after a drain."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server

from ..settings import Settings
from .acceptor import Acceptor
from .protocol import Protocol

__all__ = ["CannotListen", "serve"]

# How long, after the grace for running answers, connections may take to close (seconds).
_CLOSE_S = 2

# Connections that wait to be accepted: as many as the kernel allows (net.core.somaxconn).
_BACKLOG = 65_535

# When the garbage collector runs: less often than by default, since a full collection walks whatever all connections
# hold. In a wave of 5000 it held the loop four times, for up to 0.29 s; like this, not once.
_COLLECT = (5_000, 10, 20)


class CannotListen(Exception):
    """The address cannot be listened on; the text says why, and what to do."""


def serve(app: ASGIApp, settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns. `on_ready` is given the URL once requests are served.

    Raises CannotListen.
    """
    sock = _listen(settings.host, settings.port)
    _allow_many_files()
    protocol: Any = partial(Protocol, header_timeout=settings.header_timeout_s)
    config = Config(
        app,
        http=protocol,
        # From anybody else X-Forwarded-For and X-Forwarded-Proto are not looked at. Of those that are trusted the last
        # address counts that is no proxy's: what a client has written itself stands before it.
        forwarded_allow_ips=list(settings.trusted_proxies),
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,  # its lines go where ours go: server/logs.py
        log_level="warning",
        access_log=False,  # its lines hold query strings, and those may hold secrets
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_generations_s) + _CLOSE_S,
    )
    _Server(config, lambda: on_ready(_url(sock))).run(sockets=[sock])


class _Server(Server):
    def __init__(self, config: Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # without sockets: it would accept one connection in each turn of the loop
        if self.started:
            loop = asyncio.get_running_loop()
            self._acceptors = [Acceptor(loop, sock, self._protocol) for sock in sockets or []]
            # What the start has made stays until the end: walking it again in every full collection was measured to
            # hold the loop for 33 ms, in the midst of somebody's answer.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_COLLECT)
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                # uvicorn raises the signal again after the drain, which would end the process with 143 instead of 0.
                self._captured_signals.clear()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error
    sock.listen(_BACKLOG)
    sock.set_inheritable(True)
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_many_files() -> None:
    """A connection is a file: the usual soft limit of 1024 is lifted as far as allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
