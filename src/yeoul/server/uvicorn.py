"""Everything of uvicorn's that is not its documented API: a test names each of its members that is used here.

uvicorn runs the application's lifespan, handles signals and drains connections. `Service` is what a connection needs of
it; `Server` adds an acceptor of its own, a callback when the server is ready, and a drain before the one of uvicorn.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.server import ServerState

from .acceptor import Acceptor
from .deadlines import Deadlines
from .forwarded import TrustedProxies
from .turns import turns_of

if TYPE_CHECKING:
    from .protocol import Protocol

__all__ = ["Server", "Service", "service_of"]

# When the garbage collector runs: less often than by default, since a full collection walks everything that all
# connections hold. In a wave of 5000 connections it held the loop four times, for up to 0.29 s; like this, not once.
_COLLECT = (5_000, 10, 20)

# Seconds for closing what is open, such as databases, where a second signal has cut the drain short.
_LAST_S = 1.0

# The attribute of uvicorn's ServerState that holds the Service.
_SERVICE = "yeoul_service"


class Service:
    """What all connections of one server share.

    `app`: the application, with uvicorn's middleware around it; `connections` and `tasks`: what uvicorn waits for when
    it shuts down; `heads` and `idle`: the deadlines of connections that have not sent a complete head, and of those
    between two requests.

    An application with a true attribute `eager` is run up to its first wait before there is a task for it: it must not
    ask for the current task (`asyncio.timeout` does) before it has waited once. What answers without waiting then costs
    no task at all.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        *,
        header_timeout: float,
        proxies: TrustedProxies | None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.config = config
        self.app = cast(ASGIApp, config.loaded_app)
        self.eager = bool(getattr(self.app, "eager", False))
        self.loop = loop
        self.turns = turns_of(loop)
        self.connections = cast("set[Protocol]", state.connections)
        self.tasks = state.tasks
        self.app_state = app_state
        self.asgi = {"version": config.asgi_version, "spec_version": "2.3"}
        self.root_path = config.root_path
        self.proxies = proxies
        self.reset_contextvars: bool = getattr(config, "reset_contextvars", False)  # of later versions
        self.websockets = config.ws_protocol_class
        self.heads: Deadlines[Protocol] = Deadlines(loop, header_timeout, lambda each: each.head_is_late())
        self.idle: Deadlines[Protocol] = Deadlines(loop, config.timeout_keep_alive, lambda each: each.close())
        access_log = logging.getLogger("uvicorn.access")
        self.access_log = access_log if access_log.hasHandlers() and config.access_log else None
        self._state = state
        self._limit = config.limit_concurrency
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""

    @property
    def full(self) -> bool:
        """Whether there are as many connections or tasks as uvicorn's `limit_concurrency` allows."""
        limit = self._limit
        return limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit)

    def default_lines(self) -> bytes:
        """The header lines that each response has (uvicorn renews the date once a second)."""
        defaults = self._state.default_headers
        if defaults is not self._defaults:
            self._defaults = defaults
            self._default_lines = b"".join(b"%b: %b\r\n" % pair for pair in defaults)
        return self._default_lines

    def count_request(self) -> None:
        """For uvicorn's `limit_max_requests`."""
        self._state.total_requests += 1

    def log_access(self, scope: Scope, status: int) -> None:
        assert self.access_log is not None
        client = ":".join(map(str, scope["client"])) if scope["client"] else ""
        target = quote(scope["path"]) + (f"?{scope['query_string'].decode('ascii')}" if scope["query_string"] else "")
        self.access_log.info('%s - "%s %s HTTP/%s" %d', client, scope["method"], target, scope["http_version"], status)

    def upgrade(self, connection: Protocol, head: bytes) -> None:
        """Hands a connection over to uvicorn's WebSocket protocol, which reads the request's head again."""
        self.connections.discard(connection)
        make: Any = self.websockets
        websocket = make(config=self.config, server_state=self._state, app_state=self.app_state)
        websocket.connection_made(connection.transport)
        websocket.data_received(head)
        connection.transport.set_protocol(websocket)


def service_of(
    config: uvicorn.Config,
    state: ServerState,
    app_state: dict[str, Any],
    loop: asyncio.AbstractEventLoop | None,
    *,
    header_timeout: float,
    proxies: TrustedProxies | None,
) -> Service:
    """The one of the server with this state, made for its first connection."""
    service: Service | None = vars(state).get(_SERVICE)
    if service is None:
        loop = loop or asyncio.get_event_loop()
        service = Service(config, state, app_state, loop, header_timeout=header_timeout, proxies=proxies)
        vars(state)[_SERVICE] = service
    return service


class Server(uvicorn.Server):
    """`on_ready` is called once requests are served; `drain` is awaited beside uvicorn's own shutdown, whatever has
    begun that: a signal, `should_exit`, `limit_max_requests`.

    The first signal begins the drain, a second one of any kind cuts it short.
    """

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], drain: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._drain = drain
        self._acceptors: list[Acceptor] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # without sockets: it would accept one connection in each turn of the loop
        if self.started:
            loop = asyncio.get_running_loop()
            self._acceptors = [Acceptor(loop, sock, self._protocol) for sock in sockets or []]
            # What the start has made stays until the end: walking it again in every full collection was measured to
            # hold the loop for 33 ms, in the midst of an answer.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_COLLECT)
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for acceptor in self._acceptors:
            acceptor.close()
        drain = asyncio.ensure_future(self._drain())
        try:
            await super().shutdown(sockets)
            if self.force_exit:
                await self._end_now()
            else:
                await drain
        finally:
            drain.cancel()

    async def _end_now(self) -> None:
        """uvicorn leaves the lifespan out when it is forced to exit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_S):
                await self.lifespan.shutdown()
        logging.getLogger("uvicorn.error").disabled = True  # it would log a traceback of what is cancelled now

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    def _protocol(self, client: Any, server: Any) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            client=client,
            server=server,
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
