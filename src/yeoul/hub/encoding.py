"""How frames become the bytes of a kind of reader: computed once per kind, shared by all its readers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..sse import Event, comment, encode
from ..stream import Frame

__all__ = ["HEARTBEAT", "WIRE", "Encoding"]

# One newline, not a blank line: a block without data breaks several readers.
HEARTBEAT = comment("keep-alive")


def _wire(frame: Frame) -> bytes:
    return frame.wire


@dataclass(frozen=True, slots=True)
class Encoding:
    """`render` writes a frame (b"" where this kind of reader is shown nothing), `control` an event about the stream
    itself (`stream.*`; b"" where such readers could not bear it). `id_prefix` stands before cursors in the ids of
    control events. `chunked`: the bytes go straight to a socket, as chunks of HTTP/1.1 (RFC 9112, 7.1)."""

    render: Callable[[Frame], bytes] = _wire
    control: Callable[[Event], bytes] = encode
    id_prefix: str = ""
    chunked: bool = False

    def join(self, frames: Sequence[Frame]) -> bytes:
        if len(frames) == 1:
            return self.wrap(self.render(frames[0]))
        return self.wrap(b"".join(map(self.render, frames)))

    def wrap(self, payload: bytes) -> bytes:
        if self.chunked and payload:
            return b"%x\r\n%b\r\n" % (len(payload), payload)
        return payload


WIRE = Encoding()
