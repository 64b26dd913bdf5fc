"""Fuzzes the decoder: any bytes in any pieces are read as the reference reads them, or are EventTooLarge; nothing else.

    pip install atheris
    python tests/fuzz/fuzz_decoder.py -max_total_time=660 -max_len=512 -dict=tests/fuzz/event_stream.dict CORPUS

The input's first byte is the bound, its next three say how the rest is cut.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["yeoul.sse", "support"]):
    from support.reference_decoder import bounded_prefix, reference_decode
    from yeoul.errors import EventTooLarge
    from yeoul.sse import Decoder, encode


def read(decoder: Decoder, pieces: list[bytes]) -> tuple[list[tuple[str, str, str | None]], bool]:
    events = []
    refused = False
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except EventTooLarge as error:
            events += error.events
            refused = True
    for event in events:
        assert Decoder().feed(encode(event)) == [event]
    return [(event.type, event.data, event.id) for event in events], refused


def check(fuzzed: bytes) -> None:
    limit, steps, stream = fuzzed[:1], fuzzed[1:4], fuzzed[4:]
    bound = limit[0] if limit and limit[0] < 128 else 1 << 20
    taken, refused = bounded_prefix(stream, bound)
    wanted = reference_decode(taken)
    for pieces in ([stream], cut(stream, steps)):
        decoder = Decoder(max_event_bytes=bound)
        assert read(decoder, pieces) == (wanted.events, refused)
        assert (decoder.last_event_id, decoder.retry_ms) == (wanted.last_event_id, wanted.retry_ms)


def cut(stream: bytes, steps: bytes) -> list[bytes]:
    """Pieces whose lengths are these steps (0 to 15), over and over; byte by byte where all of them are 0."""
    sizes = [step % 16 for step in steps]
    if not any(sizes):
        sizes = [1]
    pieces = []
    start = 0
    while start < len(stream):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(stream[start : start + size])
        start += size
    return pieces


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
