"""What our own server offers an application beyond ASGI, in `scope["extensions"]` (server/exchange.py).

Each is a method of the object whose `send` and `receive` the application was given. It is only for an application that
was given these two as they are: what stands between would not see what passes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from starlette.types import Scope

from ..hub import Subscription
from ..sse import Event

__all__ = ["BODY", "DIRECT", "RESPOND", "Detach", "Respond", "TakeBody", "offered"]

# Writes a stream: called after the head was sent, with the reader, the events that open the stream, and the bytes that
# come before them. False declines.
DIRECT = "yeoul.direct"
Detach = Callable[[Subscription, Sequence[Event], bytes], bool]

# Writes a whole response in one step: its status, a function that returns its headers (a tuple where they are always
# the same), and its body, whose length the server adds where the headers do not have it. False declines: the function
# was not called then, and nothing written.
RESPOND = "yeoul.respond"
Respond = Callable[[int, Callable[[], Iterable[tuple[bytes, bytes]]], bytes], bool]

# The whole body of the request; None where it has to be received, because it is not all there, or was taken before.
BODY = "yeoul.body"
TakeBody = Callable[[], bytes | None]


def offered(scope: Scope, name: str, channel: Any) -> Any:
    """The extension of this name; None where the server has none, or where `channel`, which is the `send` or `receive`
    that the application has, is not the server's own."""
    extensions = scope.get("extensions")
    method = None if extensions is None else extensions.get(name)
    if method is None or getattr(channel, "__self__", None) is not method.__self__:
        return None
    return method
