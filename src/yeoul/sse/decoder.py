"""Bytes → events: WHATWG HTML 9.2.5 (parsing) and 9.2.6 (interpretation), without I/O and without a clock."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import EventTooLarge
from .event import MAX_RETRY_MS, Event, checked_event

__all__ = ["DEFAULT_MAX_EVENT_BYTES", "Decoder"]

# Larger than any event a sane server sends (LLM SDKs cap at 1 MiB, the contract tests of the field go to 5 MB),
# small enough that one hostile upstream cannot take the process down.
DEFAULT_MAX_EVENT_BYTES = 16 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """Decodes one stream, fed in pieces of any size. Any bytes are legal input.

    `last_event_id` seeds the last event ID string, so that a reconnecting reader keeps it (as browsers do). `own_ids`:
    an event's `id` is None where no id has come since the event before it, instead of the last event ID string.
    `max_event_bytes` bounds the data of one event and the length of one line (a comment too), in bytes; so what
    a decoder holds is a small multiple of it. `ignored` is called with each line that the standard has its readers
    ignore: unknown fields, but not comments.

    The work is linear in the input, whatever the pieces; a line that ends in CR is taken at once, the LF that may
    follow it in the next piece is skipped. `comment` is called with the text of each comment.
    """

    __slots__ = (
        "_between",
        "_comment",
        "_data",
        "_first_line",
        "_id",
        "_ignored",
        "_limit",
        "_own",
        "_own_ids",
        "_partial",
        "_skip_lf",
        "_too_large",
        "_type",
        "last_event_id",
        "retry_ms",
    )

    def __init__(
        self,
        last_event_id: str = "",
        max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
        *,
        ignored: Callable[[bytes], None] | None = None,
        comment: Callable[[bytes], None] | None = None,
        own_ids: bool = False,
    ) -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self._limit = max_event_bytes
        self._ignored = ignored
        self._comment = comment
        self._own_ids = own_ids
        self._own = False  # an id has come since the last event
        self._id = last_event_id
        self._type = ""
        # Byte arrays rather than lists of pieces: a stream in pieces of two bytes would cost twenty times its size.
        self._data = bytearray()  # the standard's data buffer: each line with its LF
        self._partial = bytearray()  # a line whose end has not come yet
        self._skip_lf = False
        self._first_line = True
        self._too_large: int | None = None  # the size that passed the bound
        self._between = False  # nothing of an event, and no line, is under way

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete, in order. A decoded event's `id` is the last event ID string at its
        dispatch ("" where there was none); its `retry` is None, since the reconnection time belongs to the stream.

        Raises EventTooLarge where the bound is passed, now and on every later call; the events that came before
        it in the same piece are in the exception's `events` attribute.
        """
        if self._between:
            # Nearly all pieces of a stream of tokens are one event of one `data` line: read in a third of the time.
            end = len(data) - 2
            one_line = data[:6] == b"data: " and data.find(b"\n", 6) == end and data[-1:] == b"\n"
            if one_line and end <= self._limit and b"\r" not in data:
                self.last_event_id = self._id
                id = None if self._own_ids else self._id
                return [checked_event(data[6:end].decode(errors="replace"), "message", id)]
        if self._too_large is not None:
            raise EventTooLarge(self._too_large, self._limit)
        if self._skip_lf or b"\r" in data:
            data = self._with_lf(data)
        try:
            return self._events_of_lines(data)
        finally:
            self._between = not (
                self._partial
                or self._data
                or self._type
                or self._own
                or self._first_line
                or self._skip_lf
                or self._too_large
            )

    def _events_of_lines(self, data: bytes) -> list[Event]:
        *lines, rest = data.split(b"\n")
        events: list[Event] = []
        try:
            for line in lines:
                if self._partial:
                    self._partial += line
                    line = bytes(self._partial)
                    self._partial.clear()
                if len(line) > self._limit:
                    raise self._over(len(line))
                if self._first_line:
                    self._first_line = False
                    line = line.removeprefix(_BOM)
                if line:
                    self._take(line)
                else:
                    self._dispatch(events)
            if rest:
                self._partial += rest
                if len(self._partial) > self._limit:
                    raise self._over(len(self._partial))
        except EventTooLarge as error:
            error.events = events
            raise
        return events

    def unterminated(self) -> Event | None:
        """The event at the end of the input that no blank line has ended, None where there is none. To be called once,
        after the last `feed`. The standard discards such an event (9.2.6), so `last_event_id` stays what it was."""
        known = self.last_event_id
        try:
            events = self.feed(b"\n\n")
        except EventTooLarge:
            return None
        self.last_event_id = known
        return events[-1] if events else None

    def _with_lf(self, data: bytes) -> bytes:
        """The piece with every line end as LF; a CRLF that was cut in two by the pieces is one."""
        if not data:
            return data
        if self._skip_lf:
            data = data.removeprefix(b"\n")
        self._skip_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take(self, line: bytes) -> None:
        """One line that is not empty, without its end. A comment is a line whose field name is empty."""
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._data += value
            self._data += b"\n"
            if len(self._data) > self._limit:  # empty data lines count too: each adds its LF
                raise self._over(len(self._data))
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode(errors="replace")
                self._own = True
        elif name == b"retry":
            if value.isdigit():  # bytes.isdigit: ASCII digits only, as the standard says
                # Saturates: int() refuses more than 4300 digits, and that must not become an exception of ours.
                digits = value.lstrip(b"0") or b"0"
                self.retry_ms = min(int(digits), MAX_RETRY_MS) if len(digits) <= 16 else MAX_RETRY_MS
        elif not name:
            if self._comment is not None:
                self._comment(value)
        elif self._ignored is not None:
            self._ignored(line)

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id  # first, and also where there is no data (9.2.6, step 1)
        if self._data:
            del self._data[-1]  # the last line's LF
            id = self._id if self._own or not self._own_ids else None
            events.append(checked_event(self._data.decode(errors="replace"), self._type or "message", id))
            self._data.clear()
            self._own = False
        self._type = ""

    def _over(self, size: int) -> EventTooLarge:
        """Refuses everything from here on, and gives back what was held."""
        self._too_large = size
        self._data.clear()
        self._partial.clear()
        return EventTooLarge(size, self._limit)
