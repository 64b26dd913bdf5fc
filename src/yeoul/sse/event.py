"""The value that travels: an event of the WHATWG HTML standard, section 9.2 "Server-sent events"."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Event"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event. An invalid one cannot be built.

    `data` is any text; line breaks in it (CRLF, LF or CR) arrive as LF, because the format has no other way to
    carry them. `type` is the name that `addEventListener` uses; the empty string means `message`, as in the
    standard. `id` None sends no id line, the empty string resets the reader's last event ID. `retry` is the
    reader's reconnection time in milliseconds.

    Raises ValueError for CR, LF or NUL in `type` or `id` (they would let one field write another: CWE-93), for a
    `retry` that is not an int >= 0, and for text that UTF-8 cannot carry (lone surrogates); TypeError for fields that
    are not text.
    """

    data: str = ""
    type: str = "message"
    id: str | None = None
    retry: int | None = None

    def __post_init__(self) -> None:
        _check_text("data", self.data)
        if not self.type:
            object.__setattr__(self, "type", "message")
        elif self.type != "message":
            _check_line("type", self.type)
        if self.id is not None:
            _check_line("id", self.id)
        if self.retry is not None and (type(self.retry) is not int or self.retry < 0):
            raise ValueError(f"retry must be an int >= 0 (milliseconds), not {self.retry!r}")


def _check_text(field: str, value: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{field} must be str, not {type(value).__name__}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{field} has a lone surrogate at index {error.start}: UTF-8 cannot carry it") from error


def _check_line(field: str, value: str) -> None:
    _check_text(field, value)
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError(f"{field} must not contain CR, LF or NUL: {value!r}")
