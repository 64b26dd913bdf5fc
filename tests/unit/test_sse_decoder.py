from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.reference_decoder import bounded_prefix, reference_decode, utf8_decode
from yeoul.errors import EventTooLarge
from yeoul.sse import Decoder, Event, encode

relaxed = settings(deadline=None, derandomize=True, max_examples=500)

NAMES = [b"data", b"event", b"id", b"retry"]
ENDS = [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"\n\r"]
# What streams are made of, and what they break on.
TOKENS = [b"", b":", b" ", b"\t", b"\0", b"+", b"x", b"Data", b"0", b"7", b"9" * 17, b"\xff", b"\xef\xbb"]
TOKENS += [text.encode() for text in ("여", "\U0001f30a", "\u2028", "\u0085", "\uff11", "\ufeff")]
TOKENS += [b"\xf0\x9f\x8c", b"\xe2", b"\x80", b"\xa8", b"\xed\xa0\x80"]
LINES = [b"".join(parts) for parts in product([*NAMES, b""], [b": ", b":", b""], TOKENS, [b"", b"x"], ENDS)]
lines, loose = st.sampled_from(LINES), st.sampled_from(NAMES + ENDS + TOKENS)
boms = st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2])
line_streams = st.builds(lambda bom, parts: bom + b"".join(parts), boms, st.lists(lines | loose, max_size=12))
token_streams = st.lists(loose, max_size=40).map(b"".join)
streams = line_streams | token_streams | st.binary(max_size=60)
cuts = st.lists(st.integers(0, 100), max_size=12)  # twice the same cut is an empty piece


@st.composite
def mutated_streams(draw: st.DrawFn) -> bytes:
    """A good stream with a few bytes changed, taken out or put in."""
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=6)
    good = st.builds(Event, st.text(st.characters(codec="utf-8"), max_size=12), text, st.none() | text)
    stream = bytearray(b"".join(encode(event) for event in draw(st.lists(good, min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 2))] = draw(loose | st.binary(max_size=2))
    return bytes(stream)


def in_pieces(stream: bytes, at: list[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(stream)) for place in at), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(places)]


def triples(events: list[Event]) -> list[tuple[str, str, str | None]]:
    return [(event.type, event.data, event.id) for event in events]


def read(decoder: Decoder, pieces: list[bytes]) -> tuple[list[Event], bool]:
    """All events, and whether the stream was refused for its size."""
    events: list[Event] = []
    refused = False
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except EventTooLarge as error:
            events += error.events
            refused = True
    return events, refused


@relaxed
@given(st.binary(max_size=40) | token_streams)
def test_python_replaces_malformed_utf_8_as_the_encoding_standard_does(data: bytes) -> None:
    assert data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace") == utf8_decode(data)


@relaxed
@given(streams | mutated_streams(), cuts, st.text(st.characters(exclude_categories=["Cs"]), max_size=3))
def test_any_bytes_in_any_pieces_are_read_as_the_reference_reads_them(stream: bytes, at: list[int], seed: str) -> None:
    decoder = Decoder(seed)
    events, refused = read(decoder, in_pieces(stream, at))
    reading = reference_decode(stream, seed)
    assert not refused
    assert triples(events) == reading.events
    assert (decoder.last_event_id, decoder.retry_ms) == (reading.last_event_id, reading.retry_ms)


@relaxed
@given(streams | mutated_streams())
def test_every_event_comes_with_the_byte_that_completes_it(stream: bytes) -> None:
    decoder = Decoder()
    events: list[Event] = []
    for position in range(len(stream)):
        events += decoder.feed(stream[position : position + 1])
        assert triples(events) == reference_decode(stream[: position + 1]).events


@relaxed
@given(streams | mutated_streams(), cuts, st.integers(0, 40))
def test_the_bound_refuses_the_same_whatever_the_pieces(stream: bytes, at: list[int], limit: int) -> None:
    taken, refused = bounded_prefix(stream, limit)
    reading = reference_decode(taken)
    for pieces in ([stream], in_pieces(stream, at), [stream[i : i + 1] for i in range(len(stream))]):
        decoder = Decoder(max_event_bytes=limit)
        assert read(decoder, pieces) == (read(Decoder(), [taken])[0], refused)
        assert (decoder.last_event_id, decoder.retry_ms) == (reading.last_event_id, reading.retry_ms)


@relaxed
@given(streams | mutated_streams())
def test_every_received_event_can_be_encoded_and_read_back(stream: bytes) -> None:
    for event in Decoder().feed(stream):
        assert Decoder().feed(encode(event)) == [event]


def test_a_received_event_is_an_event_without_retry() -> None:
    assert Decoder("1").feed(b"event: x\nretry: 5\ndata: a\n\n") == [Event("a", "x", "1")]
    assert Decoder().feed(b"data: a\n\n") == [Event("a", id="")]


def test_the_reconnection_time_belongs_to_the_stream() -> None:
    decoder = Decoder()
    assert decoder.retry_ms is None
    decoder.feed(b"retry: 10\n\ndata: a\n\n")
    assert decoder.retry_ms == 10


def test_a_refused_stream_stays_refused_and_repeats_no_event() -> None:
    decoder = Decoder(max_event_bytes=20)
    with pytest.raises(EventTooLarge, match="at least 27 bytes is over the limit of 20 bytes") as first:
        decoder.feed(b"id: 1\ndata: a\n\ndata: " + b"x" * 21 + b"\n\ndata: b\n\n")
    assert first.value.events == [Event("a", id="1")]
    assert (first.value.size, first.value.limit) == (27, 20)
    for piece in (b"", b"\n\n", b"data: b\n\n"):
        with pytest.raises(EventTooLarge) as later:
            decoder.feed(piece)
        assert later.value is not first.value
        assert later.value.events == []
        assert (later.value.size, later.value.limit) == (27, 20)
    assert decoder.last_event_id == "1"


@pytest.mark.parametrize("last", [b"data: " + b"x" * 100_000, b"data: y\n" * 100_000])
def test_a_refused_stream_leaves_nothing_in_memory(last: bytes) -> None:
    decoder = Decoder(max_event_bytes=80_000)
    tracemalloc.start()
    decoder.feed(b"data: " + b"x" * 70_000 + b"\n")
    with pytest.raises(EventTooLarge):
        decoder.feed(last)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4096


def test_the_bound_may_be_passed_by_the_data_of_an_event_alone() -> None:
    decoder = Decoder(max_event_bytes=20)
    assert decoder.feed(b"data: 123456789\ndata: 123456789\n") == []
    with pytest.raises(EventTooLarge, match="at least 21 bytes"):
        decoder.feed(b"data:\ndata: b\n\n")


def test_a_decoder_needs_no_more_memory_than_a_few_times_what_it_holds() -> None:
    """A line in pieces of two bytes, and data in lines of one: lists of such pieces would be twenty times as large."""
    size = 32 * 1024
    for stream in (b"data: " + b"xy" * (size // 2), b"data:x\n" * (size // 2), b"data\n" * size):
        decoder = Decoder()
        pieces = [stream[i : i + 2] for i in range(0, len(stream), 2)]
        tracemalloc.start()
        for piece in pieces:
            decoder.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * size


def test_comments_and_events_that_are_over_leave_nothing_behind() -> None:
    decoder = Decoder(max_event_bytes=1024)
    piece = b": keep-alive\n" * 100 + b"id: 1\nevent: x\ndata: " + b"x" * 900 + b"\n\n"
    decoder.feed(piece)
    tracemalloc.start()
    for _ in range(100):
        decoder.feed(piece)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2048


def _one_long_line(size: int) -> Iterator[bytes]:
    yield b"data: "
    for _ in range(size // 1024):
        yield b"x" * 1024


def _many_short_lines(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield b"data: xy\n" * 114


@pytest.mark.parametrize(("stream", "size"), [(_one_long_line, 512 * 1024), (_many_short_lines, 64 * 1024)])
def test_the_work_grows_with_the_input_not_with_its_square(stream: Callable[[int], Iterator[bytes]], size: int) -> None:
    """Eight times the input may take three times eight times as long; copying what is held would take 64 times."""

    def cost(size: int) -> float:
        pieces = list(stream(size))
        best = float("inf")
        for _ in range(5):
            decoder = Decoder()
            began = time.process_time()
            for piece in pieces:
                decoder.feed(piece)
            best = min(best, time.process_time() - began)
        return best

    assert cost(8 * size) < 3 * 8 * cost(size)
