"""What we write, read by other people's decoders: those of the SDKs that our users point at a stream.

Each has a habit that a stream may trip over: a block without data is an event to them, a heartbeat with a blank line
too once an id was seen, lines are cut at characters that the standard does not cut at, `data:` must have its space.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from yeoul.sse import Decoder, Event, comment, encode, json_data

Read = Callable[[list[bytes]], list[tuple[str, str]]]

TEXTS = ["여울", "\U0001f30a", "", " ", "line\nbreak\r\n", "data: x\n\ndata: y"]
TEXTS += ["a\u2028b\u2029c\u0085d", "\v\f\x1c\x1d\x1e"]  # where str.splitlines() cuts
EVENTS = [
    Event(json_data({"delta": text}), retry=3000 if number == 0 else None, id=f"k3x9q0w2ab-{number + 1}")
    for number, text in enumerate(TEXTS)
]
HEARTBEAT = comment("keep-alive")
STREAM = comment("yeoul") + HEARTBEAT.join(encode(event) for event in EVENTS) + HEARTBEAT * 3 + encode(Event("[DONE]"))
WANTED = [("message", event.data) for event in EVENTS] + [("message", "[DONE]")]


def read_with_yeoul(pieces: list[bytes]) -> list[tuple[str, str]]:
    decoder = Decoder()
    return [(event.type, event.data) for piece in pieces for event in decoder.feed(piece)]


def read_with_openai(pieces: list[bytes]) -> list[tuple[str, str]]:
    streaming = pytest.importorskip("openai._streaming")
    return [(event.event or "message", event.data) for event in streaming.SSEDecoder().iter_bytes(iter(pieces))]


def read_with_httpx2(pieces: list[bytes]) -> list[tuple[str, str]]:
    httpx2 = pytest.importorskip("httpx2")
    response = httpx2.Response(
        200,
        headers={"Content-Type": "text/event-stream; charset=utf-8"},
        stream=_Pieces(pieces, httpx2.SyncByteStream),
        request=httpx2.Request("GET", "http://example.test/"),
    )
    return [(event.event, event.data) for event in httpx2.EventSource(response)]


def read_with_splitlines(pieces: list[bytes]) -> list[tuple[str, str]]:
    """How many hand-written clients do it, Hugging Face's among them."""
    lines = b"".join(pieces).decode().splitlines()
    return [("message", line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def _Pieces(pieces: list[bytes], base: type) -> object:
    class Stream(base):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            return iter(pieces)

    return Stream()


readers = pytest.mark.parametrize("read", [read_with_yeoul, read_with_openai, read_with_httpx2, read_with_splitlines])


@readers
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_ids_heartbeats_and_retry_bring_no_phantom_event_and_lose_none(read: Read, size: int) -> None:
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert read(pieces) == WANTED


@readers
def test_the_json_of_every_event_is_whole(read: Read) -> None:
    *deltas, _done = read([STREAM])
    assert [json.loads(data)["delta"] for _, data in deltas] == TEXTS


@pytest.mark.parametrize("read", [read_with_yeoul, read_with_openai, read_with_httpx2])
def test_types_and_data_of_several_lines_arrive(read: Read) -> None:
    stream = encode(Event("a\nb", "tick", "1")) + HEARTBEAT + encode(Event("", "tock")) + encode(Event("c"))
    assert read([stream]) == [("tick", "a\nb"), ("tock", ""), ("message", "c")]


@readers
def test_a_stream_of_heartbeats_alone_has_no_event(read: Read) -> None:
    assert read([comment(""), HEARTBEAT, HEARTBEAT, comment("a\nb")]) == []
