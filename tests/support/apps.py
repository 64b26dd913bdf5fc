"""What the real-time apps' tests share: senders, and streams that are followed as a user."""

from __future__ import annotations

import json
from typing import Any

from support.reader import Answer, RawStream, ask, open_stream
from support.tokens import bearer, demo_token

__all__ = ["ADMIN", "HOSTILE", "SEED_TOKEN", "contents", "following", "received", "send"]

# The demo token that the documentation of the contract shows: user `test123`, roles user and admin.
SEED_TOKEN = "dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4="

ADMIN = demo_token("root", "Root", roles="admin")

# Values that other servers have taken for more than text: fields and events, ends of lines and of text, markup.
HOSTILE = [
    "a\ndata: b",
    "a\r\nevent: evil\r\n\r\n",
    "a\rid: 7\r\r",
    "\n\ndata: {}\n\n",
    "a\u2028data: b\u2029c\x85d",
    "a\x00b\x1b[31m\x7f",
    "<img src=x onerror=alert(1)>",
    '"}, "sender": {"id": "root"}, "x": {"',
    "\u202eevil\u200b",
]


async def send(port: int, path: str, body: Any, token: str | None = ADMIN) -> Answer:
    return await ask(port, path, method="POST", json_body=body, headers=bearer(token) if token else {})


async def following(port: int, path: str, token: str | None = ADMIN, last_event_id: str = "") -> RawStream:
    """A stream that has started: it gets what is sent from now on."""
    stream = await open_stream(port, path, headers=bearer(token) if token else {}, last_event_id=last_event_id)
    assert stream.status == 200, (stream.status, await stream.rest(), bytes(stream.raw))
    await stream.take(1)
    assert stream.events[0].type == "stream.hello"
    return stream


def contents(stream: RawStream, type: str = "message") -> list[Any]:
    """The JSON of its events of this type so far."""
    return [json.loads(event.data) for event in stream.events if event.type == type]


async def received(stream: RawStream, count: int, type: str = "message") -> list[Any]:
    """The JSON of its first events of this type, once it has had so many."""
    await stream.until(lambda events: sum(event.type == type for event in events) >= count)
    return contents(stream, type)[:count]
