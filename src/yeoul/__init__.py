"""Yeoul: streams to browsers over Server-Sent Events that survive a dropped connection.

The names below are the library. Each is imported when it is first used, so that `yeoul.sse` and `yeoul.client` work
without FastAPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import exports

if TYPE_CHECKING:
    from .asgi.ai_sdk import AiSdkChat, ChatTurn
    from .asgi.authentication import require_admin, require_publish, require_subscribe, require_user
    from .asgi.event_stream import EventStream
    from .asgi.generate import generate
    from .asgi.live_stream import live_stream
    from .asgi.routing import stream_route
    from .hub.hub import Hub
    from .hub.job import DisconnectPolicy
    from .hub.limits import Principal
    from .sse.event import Event
    from .stream.cursor import Cursor
    from .stream.journal import Retention

__version__ = "0.1.0"
__all__ = [
    "AiSdkChat",
    "ChatTurn",
    "Cursor",
    "DisconnectPolicy",
    "Event",
    "EventStream",
    "Hub",
    "Principal",
    "Retention",
    "generate",
    "live_stream",
    "require_admin",
    "require_publish",
    "require_subscribe",
    "require_user",
    "stream_route",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "AiSdkChat": ".asgi.ai_sdk",
        "ChatTurn": ".asgi.ai_sdk",
        "Cursor": ".stream.cursor",
        "DisconnectPolicy": ".hub.job",
        "Event": ".sse.event",
        "EventStream": ".asgi.event_stream",
        "Hub": ".hub.hub",
        "Principal": ".hub.limits",
        "Retention": ".stream.journal",
        "generate": ".asgi.generate",
        "live_stream": ".asgi.live_stream",
        "require_admin": ".asgi.authentication",
        "require_publish": ".asgi.authentication",
        "require_subscribe": ".asgi.authentication",
        "require_user": ".asgi.authentication",
        "stream_route": ".asgi.routing",
    },
)
