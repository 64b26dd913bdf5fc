"""What is sent in somebody's name: who, when, and the answer that it was taken. Shared by the routes that send."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, StringConstraints

from ...asgi.errors import Problem
from ...auth.identity import Identity
from ...auth.topic_part import topic_part
from ...errors import InvalidTopic
from ...hub.topic import check_topic
from ...sse import Event, json_data
from ...stream import Cursor

__all__ = [
    "MAX_TEXT",
    "NO_STORE",
    "SenderOut",
    "Text",
    "accepted",
    "draw_id",
    "hinted",
    "news",
    "sendable",
    "sender_of",
    "timestamp",
    "topic_of",
]

# Of answers to one caller: no cache may keep them.
NO_STORE = {"Cache-Control": "no-store"}


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("say something: it is blank")
    return text


# Characters of what people write to people: a long message, not a document.
MAX_TEXT = 4_000

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_not_blank)]


class SenderOut(BaseModel):
    id: str
    name: str | None


def sender_of(identity: Identity) -> dict[str, str | None]:
    """As others see the caller: never what that one says of itself in a body."""
    assert identity.user is not None
    return {"id": sendable(identity.user), "name": None if identity.name is None else sendable(identity.name)}


def sendable(text: str) -> str:
    """Without lone surrogates, which JSON, and so a token, can name, and UTF-8 cannot carry."""
    return text.encode(errors="replace").decode()


def timestamp() -> str:
    """Now, as ISO 8601 in UTC with milliseconds: `2026-01-31T09:30:00.125Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def topic_of(app: str, field: str, *words: str) -> str:
    """An app's topic for these words. Raises Problem, for this field, where they are too long for a topic's name."""
    try:
        return check_topic("/".join([app, *map(topic_part, words)]))
    except InvalidTopic as error:
        wrong = "too long for a topic's name, of which each character but letters and digits takes several"
        raise Problem(422, f"{field}: {wrong}", fields=[(field, wrong)]) from error


def draw_id() -> str:
    """What an event is known by wherever it is read: 22 characters, 128 random bits."""
    return secrets.token_urlsafe(16)


def news(content: Mapping[str, Any], type: str = "message") -> Event:
    """An event of this content as JSON. Raises Problem for what JSON or UTF-8 cannot carry."""
    try:
        return Event(json_data(content), type)
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Problem(422, f"the body cannot be sent: {error}", fields=[("body", str(error))]) from error


def accepted(cursor: Cursor, name: str, event: Event) -> Response:
    """202: it is in the journal; nobody waits for those who read it. The event's own text is in it: to make that anew
    could fail after it was published, of what is nested too deeply for where that is done."""
    body = f'{{"id":"{cursor}","{name}":{event.data}}}'
    return Response(body, 202, NO_STORE, media_type="application/json")


@contextmanager
def hinted(hint: str) -> Iterator[None]:
    """Says more where the caller may not do something: what it may do instead."""
    try:
        yield
    except Problem as error:
        if error.status != 403:
            raise
        raise Problem(403, f"{error.detail}; {hint}", headers=error.headers) from None
