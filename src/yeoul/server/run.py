"""`yeoul serve`: uvicorn with the direct outlet, a ready line, and exit code 0 after a drain."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config

from ..settings import Settings
from .forwarded import TrustedProxies
from .outlet import socket_options
from .protocol import Protocol
from .uvicorn import Server

__all__ = ["CannotListen", "serve"]

# How long, after the grace for running answers, connections may take to close (seconds).
_CLOSE_S = 2

# Connections that wait to be accepted: as many as the kernel allows (net.core.somaxconn).
_BACKLOG = 65_535


class CannotListen(Exception):
    """The address cannot be listened on; the text says why, and what to do."""


def serve(
    app: ASGIApp,
    settings: Settings,
    on_ready: Callable[[str], None],
    drain: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns. `on_ready` is given the URL once requests are served;
    `drain` ends the streams (`Hub.close`).

    Raises CannotListen.
    """
    sock = _listen(settings)
    _allow_many_files()
    protocol: Any = partial(
        Protocol,
        header_timeout=settings.header_timeout_s,
        proxies=TrustedProxies(settings.trusted_proxies),
        bounded=True,
    )
    config = Config(
        app,
        http=protocol,
        proxy_headers=False,  # the protocol sees to them
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,  # its lines go where ours go: server/logs.py
        log_level="warning",
        access_log=False,  # its lines hold query strings, and those may hold secrets
        server_header=False,
        root_path=settings.root_path,
        timeout_graceful_shutdown=int(settings.drain_generations_s) + _CLOSE_S,
    )
    Server(config, lambda: on_ready(_url(sock) + settings.root_path), drain).run(sockets=[sock])


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for level, option, value in socket_options(settings.send_timeout_s):  # accepted connections inherit them
        sock.setsockopt(level, option, value)
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
