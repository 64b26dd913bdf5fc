"""Event → bytes: WHATWG HTML 9.2.5, read from the writer's side.

What is written is the part of the format that every known reader takes: one space after each colon, LF as line end,
a `data` line in every block, comments as single lines between blocks (a block without data makes several readers
dispatch a phantom event, or fail).
"""

from __future__ import annotations

from .event import Event, check_line

__all__ = ["comment", "encode", "encode_fields"]


def encode(event: Event, *, id: str | None = None) -> bytes:
    """The event as one block: `event` and `retry` where set, a line for each line of data, `id`, the blank line.

    The `id` comes last: some clients adopt an id as soon as its line is complete, and would not be sent the event again
    when they are cut inside its block. `id` is written in place of the event's own, and may contain what that may
    contain (ValueError otherwise). Every event can be encoded, a received one too (`dataclasses.replace` refuses it
    where its type has a NUL).
    """
    if id is None:
        id = event.id
    else:
        check_line("id", id)
    return encode_fields(event.data, event.type, id=id, retry=event.retry)


def encode_fields(data: str, type: str = "message", *, id: str | None = None, retry: int | None = None) -> bytes:
    """As `encode`, of fields that an `Event` is known to take: nothing is checked here. For what is made of checked
    parts, thousands of times a second."""
    head = "" if type == "message" else f"event: {type}\n"
    if retry is not None:
        head += f"retry: {retry}\n"
    tail = "" if id is None else f"id: {id}\n"
    return f"{head}data: {_lines(data, 'data: ')}\n{tail}\n".encode()


def comment(text: str) -> bytes:
    """The text as comment lines, to be written between events only.

    A comment ends with one newline, not with a blank line: it must not dispatch anything.
    Raises ValueError for lone surrogates.
    """
    return f": {_lines(text, ': ')}\n".encode()


def _lines(text: str, prefix: str) -> str:
    # A line of the format ends at CRLF, CR or LF: a bare CR left inside would start a field of the author's choice.
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = text.replace("\n", f"\n{prefix}")
    return text
