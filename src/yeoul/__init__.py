"""Yeoul: streams to browsers over Server-Sent Events that survive a dropped connection.

The names below are the library. Each is imported when it is first used, so that `yeoul.sse` and `yeoul.client` work
without FastAPI.
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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found: object = getattr(import_module(_HOMES[name], __name__), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", __name__):
            raise
        raise ImportError(
            f"yeoul.{name} needs the package {missing!r}, which is not installed: "
            f'pip install "yeoul[fastapi]" (or "yeoul[server]", with `yeoul serve`)',
            name=missing,
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
