"""Yeoul: streams to browsers over Server-Sent Events that survive a dropped connection.

The names below are the library; each is imported on first use, so that `yeoul.client` works without the server's
dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .asgi.event_stream import EventStream
    from .asgi.generate import generate
    from .asgi.live_stream import live_stream
    from .hub.hub import Hub
    from .sse.event import Event
    from .stream.journal import Retention

__version__ = "0.1.0"
__all__ = ["Event", "EventStream", "Hub", "Retention", "generate", "live_stream"]

_HOMES = {
    "Event": ".sse.event",
    "EventStream": ".asgi.event_stream",
    "Hub": ".hub.hub",
    "Retention": ".stream.journal",
    "generate": ".asgi.generate",
    "live_stream": ".asgi.live_stream",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
