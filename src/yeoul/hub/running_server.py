"""The server that runs the application, and whether it is shutting down.

Servers wait for open responses before they end the lifespan, which an endless stream never lets them finish. A
shutdown may begin by a signal (`drain.py`), but also by `should_exit` set by other code, by `--limit-max-requests`,
gunicorn's `--max-requests` or, in hypercorn's workers, an event; and an application that is mounted in another one has
no lifespan. All of these show in the server's own object. ASGI gives no access to it, so it is looked up where it
always is: in the frames of the tasks on its event loop. Nothing in it is changed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

__all__ = ["RunningServer", "find_server"]

# How deep coroutines are awaited in one another between a server's main task and its own frame, at most.
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class RunningServer:
    """`is_exiting`: whether it is shutting down. `socket_id`: of a socket that it listens on, the same in all workers;
    None where that is not known."""

    is_exiting: Callable[[], bool]
    socket_id: int | None = None


def find_server(loop: asyncio.AbstractEventLoop) -> RunningServer | None:
    """The server on this event loop; None where there is none, or one that is not known here. Where there are several,
    it is exiting once all of them are: which of them serves the application does not show. Looks at every task."""
    found: dict[int, RunningServer] = {}
    for task in asyncio.all_tasks(loop):
        for frame in _frames(task):
            for name, recognise in _SERVERS.items():
                candidate = frame.f_locals.get(name)
                server = recognise(candidate)
                if server is not None:
                    found[id(candidate)] = server
    servers = list(found.values())
    if len(servers) < 2:
        return servers[0] if servers else None
    return RunningServer(lambda: all(server.is_exiting() for server in servers))


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Those of the coroutines that the task is in, from the outermost on."""
    coroutine: Any = task.get_coro()
    for _ in range(_MAX_DEPTH):
        frame = getattr(coroutine, "cr_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = coroutine.cr_await


def _of_uvicorn(server: Any) -> RunningServer | None:
    """`uvicorn.Server`, also as gunicorn's worker runs it."""
    if not isinstance(getattr(server, "should_exit", None), bool) or not hasattr(server, "servers"):
        return None

    def is_exiting() -> bool:
        # At a limit of requests `should_exit` stays as it is: then the listening sockets are closed.
        listening: list[asyncio.Server] = server.servers
        return bool(server.should_exit) or (bool(listening) and not any(one.is_serving() for one in listening))

    for one in server.servers:
        for sock in one.sockets:
            return RunningServer(is_exiting, os.fstat(sock.fileno()).st_ino)
    return RunningServer(is_exiting)


def _of_hypercorn(context: Any) -> RunningServer | None:
    """`hypercorn.asyncio.worker_context.WorkerContext`, in each of its worker processes."""
    is_set = getattr(getattr(context, "terminated", None), "is_set", None)
    return RunningServer(lambda: bool(is_set())) if callable(is_set) else None


# By the name of the variable that has it in the server's own coroutine.
_SERVERS: dict[str, Callable[[Any], RunningServer | None]] = {"self": _of_uvicorn, "context": _of_hypercorn}
