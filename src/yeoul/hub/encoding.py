"""How frames become bytes for a kind of reader: computed once per kind, shared by all its readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor

from ..sse import Event, comment, encode, json_data
from ..stream import Frame, Gap
from ..stream.retry import jitter
from .reasons import EndReason

__all__ = ["HEARTBEAT", "WIRE", "Encoding", "bye_event", "gap_event", "reauth_event"]


def gap_event(gap: Gap) -> Event:
    """Something that the reader asked for is not given to it."""
    data = {
        "requested": str(gap.requested),
        "oldest": None if gap.oldest is None else str(gap.oldest),
        "reason": gap.reason,
    }
    return Event(json_data(data), "stream.gap")


def bye_event(reason: EndReason, *, retry_ms: int) -> Event:
    """The last event of a stream. Readers are asked to come back at different times."""
    wait = round(jitter(retry_ms, 0.8)) if reason.reconnect else None
    return Event(json_data({"reason": reason.name, "reconnect": reason.reconnect}), "stream.bye", retry=wait)


def reauth_event(expires: float, left: float) -> Event:
    """The token ends at `expires` (Unix seconds), `left` seconds from now."""
    return Event(json_data({"expires": floor(expires), "in": round(left, 1)}), "stream.reauth")


# One newline, not a blank line: a block without data breaks several readers.
HEARTBEAT = comment("keep-alive")


def _wire(frame: Frame) -> bytes:
    return frame.wire


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """How one kind of reader sees frames. Readers with the same encoding share the bytes: make one for each kind, not
    one for each reader.

    `render` encodes a frame (b"" where this kind of reader is shown nothing), `control` an event about the stream
    itself (`stream.*`; b"" where such readers could not bear it). `id_prefix` stands before cursors in the ids of
    control events. `chunked`: the bytes go straight to a socket, as chunks of HTTP/1.1 (RFC 9112, 7.1).
    """

    render: Callable[[Frame], bytes] = _wire
    control: Callable[[Event], bytes] = encode
    id_prefix: str = ""
    chunked: bool = False
    _in_chunks: Encoding | None = field(default=None, init=False, repr=False)

    def in_chunks(self) -> Encoding:
        """The same, chunked. The same object each time."""
        if self.chunked:
            return self
        if self._in_chunks is None:
            object.__setattr__(self, "_in_chunks", Encoding(self.render, self.control, self.id_prefix, chunked=True))
        assert self._in_chunks is not None
        return self._in_chunks

    def join(self, frames: Sequence[Frame]) -> bytes:
        """The frames as one write."""
        return self.wrap(self.render(frames[0]) if len(frames) == 1 else b"".join(map(self.render, frames)))

    def wrap(self, payload: bytes) -> bytes:
        """The bytes as they go to the outlet."""
        if self.chunked and payload:
            return b"%x\r\n%b\r\n" % (len(payload), payload)
        return payload


WIRE = Encoding()
