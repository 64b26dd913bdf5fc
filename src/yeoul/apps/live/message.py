"""A message from a user to others: the fields that each has, its event, and the response to its sender."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi.responses import Response
from pydantic import AfterValidator, StringConstraints

from ...asgi.errors import Problem
from ...asgi.responses import NO_STORE
from ...sse import Event, json_data
from ...stream import Cursor
from .sender import Sender
from .timestamp import timestamp

__all__ = ["MAX_TEXT", "Text", "accepted", "json_event", "new_message"]

# Characters of a text that one person writes to others: a long message, not a document.
MAX_TEXT = 4_000


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(_not_blank)]


def new_message(sender: Sender, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with an `id` of the message's own (22 characters, 128 random bits), the sender and the time."""
    return {
        "id": secrets.token_urlsafe(16),
        **fields,
        "sender": {"id": sender.id, "name": sender.name},
        "timestamp": timestamp(),
    }


def json_event(content: Mapping[str, Any], type: str = "message") -> Event:
    """An event whose data is this JSON. Raises Problem (400, 422) for content that JSON or UTF-8 cannot carry."""
    try:
        return Event(json_data(content), type)
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Problem(422, f"the body cannot be sent: {error}", fields=[("body", str(error))]) from error


def accepted(cursor: Cursor, name: str, event: Event) -> Response:
    """202: the event is in the journal, and nothing waits for its readers. `name`: the field that holds its content.

    The content is the event's own text: encoding it again could fail after the event was published, where it is nested
    too deeply for another level.
    """
    body = f'{{"id":"{cursor}","{name}":{event.data}}}'
    return Response(body, 202, NO_STORE, media_type="application/json")
