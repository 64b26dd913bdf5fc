"""The value that travels: an event of the WHATWG HTML standard, section 9.2 "Server-sent events"."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_RETRY_MS", "Event", "check_line", "checked_event"]

# 2^53 - 1, the largest integer that readers in JavaScript hold exactly.
MAX_RETRY_MS = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One event. An invalid one cannot be built.

    `data` is any text; line breaks in it (CRLF, LF or CR) arrive as LF, because the format has no other way to
    carry them. `type` is the name that `addEventListener` uses; the empty string means `message`, as in the
    standard. `id` None sends no id line, the empty string resets the reader's last event ID. `retry` is the
    reader's reconnection time in milliseconds.

    Raises ValueError for CR, LF or NUL in `type` or `id` (they would let one field write another: CWE-93), for a
    `retry` that is not an int from 0 to 2^53 - 1, and for text that UTF-8 cannot carry (lone surrogates); TypeError
    for fields that are not text.
    """

    data: str = ""
    type: str = "message"
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        _check_text("data", self.data)
        if self.type != "message":
            check_line("type", self.type)
            if not self.type:
                object.__setattr__(self, "type", "message")
        if self.id is not None:
            check_line("id", self.id)
        if self.retry is not None:
            _check_retry(self.retry)


# A frozen event's slots, set directly: half the time of object.__setattr__, which was half the time of an event.
_set_data, _set_type, _set_id, _set_retry = (Event.__dict__[name].__set__ for name in ("data", "type", "id", "retry"))


def checked_event(data: str, type: str = "message", id: str | None = None, retry: int | None = None) -> Event:
    """An event of parts that are known to be good, in less than half of the time: decoded text has no surrogates,
    decoded lines no line ends. For the places where one is made for each token. (The idea is h11's `_parsed`.)

    One thing that `Event` refuses can come in by it: a NUL in the type, which the standard lets a reader take.
    """
    event = object.__new__(Event)
    _set_data(event, data)
    _set_type(event, type)
    _set_id(event, id)
    _set_retry(event, retry)
    return event


def _check_text(field: str, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{field} must be str, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{field} has a lone surrogate at index {error.start}: UTF-8 cannot carry it") from error


def check_line(field: str, value: str) -> None:
    """Raises unless the value may stand on one line of the format."""
    _check_text(field, value)
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError(f"{field} must not contain CR, LF or NUL: {value!r}")


def _check_retry(value: int) -> None:
    if type(value) is not int:  # True is an int too, and would be written as "True"
        raise ValueError(f"retry must be an int (milliseconds), not {value!r}")
    if not 0 <= value <= MAX_RETRY_MS:
        raise ValueError(f"retry must be from 0 to {MAX_RETRY_MS} milliseconds")
