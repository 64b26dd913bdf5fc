"""Bytes → events: WHATWG HTML 9.2.5 (parsing) and 9.2.6 (interpretation), without I/O and without a clock."""

from __future__ import annotations

from ..errors import EventTooLarge
from .event import Event

__all__ = ["DEFAULT_MAX_EVENT_BYTES", "Decoder"]

# Larger than any event a sane server sends (LLM SDKs cap at 1 MiB, the contract tests of the field go to 5 MB),
# small enough that one hostile upstream cannot take the process down.
DEFAULT_MAX_EVENT_BYTES = 16 * 1024 * 1024

# The largest value that every reader of a `retry` line can hold (2^53 - 1, JavaScript's safe integers). Longer
# digit strings saturate: int() refuses more than 4300 digits, and that must not become an exception of ours.
_MAX_RETRY_MS = 2**53 - 1
_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Decodes one stream, fed in pieces of any size. Any bytes are legal input.

    `last_event_id` seeds the last event ID string, so that a reconnecting reader keeps it (as browsers do).
    `max_event_bytes` bounds the data of one event and the length of one line, in bytes.

    The work is linear in the input, whatever the pieces; a line that ends in CR is taken at once, the LF that may
    follow it in the next piece is skipped.
    """

    __slots__ = (
        "_data",
        "_data_bytes",
        "_failed",
        "_first_line",
        "_id",
        "_limit",
        "_partial",
        "_partial_bytes",
        "_skip_lf",
        "_type",
        "last_event_id",
        "retry_ms",
    )

    def __init__(self, last_event_id: str = "", max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self._limit = max_event_bytes
        self._id = last_event_id
        self._type = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._partial: list[bytes] = []  # the pieces of a line whose end has not come yet
        self._partial_bytes = 0
        self._skip_lf = False
        self._first_line = True
        self._failed: EventTooLarge | None = None

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order. A decoded event's `id` is the last event ID string at its
        dispatch ("" where there was none); its `retry` is None, since the reconnection time belongs to the stream.

        Raises EventTooLarge where the bound is passed, now and on every later call; the events that came before
        it in the same piece are in the exception's `events` attribute.
        """
        if self._failed is not None:
            raise self._failed
        if self._skip_lf and data:
            self._skip_lf = False
            if data[:1] == b"\n":
                data = data[1:]
        if b"\r" in data:
            self._skip_lf = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        events: list[Event] = []
        try:
            for line in lines:
                if self._partial:
                    self._keep(line)
                    line = b"".join(self._partial)
                    self._partial.clear()
                    self._partial_bytes = 0
                elif len(line) > self._limit:
                    raise EventTooLarge(len(line), self._limit)
                self._take(line, events)
            if rest:
                self._keep(rest)
        except EventTooLarge as error:
            error.events = events
            self._failed = EventTooLarge(error.size, error.limit)
            raise
        return events

    def _keep(self, piece: bytes) -> None:
        self._partial.append(piece)
        self._partial_bytes += len(piece)
        if self._partial_bytes > self._limit:
            raise EventTooLarge(self._partial_bytes, self._limit)

    def _take(self, line: bytes, events: list[Event]) -> None:
        """One line without its end."""
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            self._dispatch(events)
            return
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            # Empty data lines count too: each adds its LF.
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._limit:
                raise EventTooLarge(self._data_bytes, self._limit)
            self._data.append(value)
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit():  # bytes.isdigit: ASCII digits only, as the standard says
            digits = value.lstrip(b"0") or b"0"
            self.retry_ms = min(int(digits), _MAX_RETRY_MS) if len(digits) <= 16 else _MAX_RETRY_MS

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id  # first, and also where there is no data (9.2.6, step 1)
        if self._data:
            data = b"\n".join(self._data).decode(errors="replace")
            # A NUL is legal in a received type; Event refuses it, since writing one is not.
            events.append(_received(data, self._type or "message", self._id))
            self._data.clear()
            self._data_bytes = 0
        self._type = ""


def _received(data: str, type: str, id: str) -> Event:
    """An Event of checked parts: decoded text has no surrogates, decoded lines no line ends (h11's `_parsed`)."""
    event = object.__new__(Event)
    set_ = object.__setattr__
    set_(event, "data", data)
    set_(event, "type", type)
    set_(event, "id", id)
    set_(event, "retry", None)
    return event
