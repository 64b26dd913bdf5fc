"""What a position is, and how it is written on the wire.

A cursor is `<epoch>-<offset>`: the epoch was drawn when the broker's data was created, the offset is the place in
the one total order of that broker's events. A cursor of another epoch says nothing about this order, so it can only
be answered by a gap, never by a guess.

A stream that started work (an LLM answer, a relay) puts the work's unguessable id in front,
`<work>.<epoch>-<offset>`, so that `EventSource`'s automatic reconnect finds the work that it started. The id of the
last event of a stream ends with `.end`: a reader that sends it has everything, whether or not the server remembers the
stream. Clients treat all of it as opaque.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import lru_cache

from ..errors import InvalidCursor

__all__ = ["END_EVENT", "FINAL_MARK", "Cursor", "LastEventId", "UnknownId", "draw_epoch", "draw_work_id"]

# Ends the id of the last event of a stream.
FINAL_MARK = ".end"

# The type of the last event for clients that have asked for one.
END_EVENT = "stream.end"

# Offsets have at most 18 digits, so that SQLite, Redis and every client language hold them in 64 bits. No leading
# zeros: one position has one text form.
_FORM = re.compile(
    r"(?:(?P<work>[A-Za-z0-9_-]{1,64})\.)?(?P<epoch>[0-9a-z]{1,32})-(?P<offset>0|[1-9][0-9]{0,17})(?P<final>\.end)?"
)
_END = 10**18
_EPOCH = re.compile(r"[0-9a-z]{1,32}")
# Characters of a foreign id that are repeated in the response.
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position: everything up to and including `offset` has been read. `str()` of it is its text form.

    Raises ValueError for an epoch or an offset that `parse` would not read back.
    """

    epoch: str
    offset: int

    def __post_init__(self) -> None:
        if not (_is_epoch(self.epoch) and type(self.offset) is int and 0 <= self.offset < _END):
            raise ValueError(
                f"a cursor has an epoch of 1 to 32 characters 0-9 a-z and an offset of 1 to 18 digits, not {self!r}"
            )

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises InvalidCursor unless the text is `<epoch>-<offset>`, with or without a work id in front."""
        return LastEventId.parse(text).cursor


@dataclass(frozen=True, slots=True)
class LastEventId:
    """What a reader sends back: its cursor and, where its stream had started work, the id of that work. `final`: it is
    that of the last event.

    Raises ValueError for a work id that `parse` would not read back.
    """

    cursor: Cursor
    work: str | None = None
    final: bool = False

    def __post_init__(self) -> None:
        if self.work is not None and _FORM.fullmatch(str(self)) is None:
            raise ValueError(f"a work id has 1 to 64 characters A-Z a-z 0-9 _ -, not {self.work!r}")

    def __str__(self) -> str:
        text = str(self.cursor) if self.work is None else f"{self.work}.{self.cursor}"
        return f"{text}{FINAL_MARK}" if self.final else text

    @classmethod
    def parse(cls, text: str) -> LastEventId:
        """Raises InvalidCursor unless the text is `[<work>.]<epoch>-<offset>[.end]`."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise InvalidCursor(
                f"Last-Event-ID {str(UnknownId(text))!r} is not a position of this server: send back the last `id:` "
                "you received, unchanged (it looks like `k3x9q0w2ab-1042`), or none to start anew"
            )
        return cls(Cursor(form["epoch"], int(form["offset"])), form["work"], form["final"] is not None)


@dataclass(frozen=True, slots=True)
class UnknownId:
    """A Last-Event-ID that no Yeoul server wrote, such as that of another server which a client followed before. No
    position can be read from it, so a reader that brings it is answered by a gap. `str()` of it is what to show."""

    text: str

    def __str__(self) -> str:
        # A browser may send any text here; what is shown goes into JSON, which holds no lone surrogates.
        shown = self.text if len(self.text) <= _SHOWN else self.text[: _SHOWN - 1] + "\u2026"
        return shown.encode(errors="replace").decode()


@lru_cache(maxsize=64)
def _is_epoch(text: str) -> bool:
    return _EPOCH.fullmatch(text) is not None


def draw_epoch() -> str:
    """A name for a newly created set of data: 10 characters, 50 random bits."""
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    return "".join(secrets.choice(alphabet) for _ in range(10))


def draw_work_id() -> str:
    """An unguessable name for a piece of work: 22 characters, 128 random bits (it gives access to the work)."""
    return secrets.token_urlsafe(16)
