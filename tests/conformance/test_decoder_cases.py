"""The case tables in `cases/`, which the clients in other languages share: `cases/README.md` says how to read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.reference_decoder import reference_decode
from yeoul.errors import EventTooLarge
from yeoul.sse import DEFAULT_MAX_EVENT_BYTES, Decoder, Event

CASES = Path(__file__).parent / "cases"
FILES = sorted(CASES.glob("*.json"))


def build(parts: str | list[Any]) -> bytes:
    """A text is its UTF-8 bytes; a list is joined from texts, `{"hex"}` and `{"repeat", "times"}`."""
    if isinstance(parts, str):
        return parts.encode()
    return b"".join(_part(part) for part in parts)


def _part(part: str | dict[str, Any]) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if "hex" in part:
        return bytes.fromhex(part["hex"])
    return part["repeat"].encode() * part["times"]


def cases(*, longest: int | None = None, bounded: bool = True) -> list[Any]:
    """All of them, or those whose stream is no longer than that, or those without a bound of their own."""
    return [
        pytest.param(case, id=f"{file.stem}-{case['name']}")
        for file in FILES
        for case in json.loads(file.read_text())["cases"]
        if longest is None or len(build(case["input"])) <= longest
        if bounded or "max_event_bytes" not in case
    ]


def expected(case: dict[str, Any]) -> dict[str, Any]:
    events = [(event["type"], build(event["data"]).decode(), event["id"]) for event in case["events"]]
    return {
        "events": events * case.get("repeat_events", 1),
        "last_event_id": case["last_event_id"],
        "retry_ms": case["retry_ms"],
        "too_large": case.get("too_large", False),
    }


def read(case: dict[str, Any], pieces: Iterable[bytes]) -> dict[str, Any]:
    decoder = Decoder(case.get("seed", ""), case.get("max_event_bytes", DEFAULT_MAX_EVENT_BYTES))
    events: list[Event] = []
    too_large = False
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except EventTooLarge as error:
            events += error.events
            too_large = True
    return {
        "events": [(event.type, event.data, event.id) for event in events],
        "last_event_id": decoder.last_event_id,
        "retry_ms": decoder.retry_ms,
        "too_large": too_large,
    }


def in_pieces(stream: bytes, size: int) -> Iterator[bytes]:
    return (stream[start : start + size] for start in range(0, len(stream), size))


@pytest.mark.parametrize("case", cases())
def test_case_however_it_is_cut(case: dict[str, Any]) -> None:
    stream, wanted = build(case["input"]), expected(case)
    assert read(case, [stream]) == wanted
    sizes = [1, 2, 3, 7] if len(stream) < 100_000 else [1021, 65_536]
    for size in sizes:
        assert read(case, in_pieces(stream, size)) == wanted, f"in pieces of {size}"
    if len(stream) <= 2_500:
        for cut in range(len(stream)):
            assert read(case, [stream[:cut], stream[cut:]]) == wanted, f"cut at {cut}"


@pytest.mark.parametrize("case", cases(longest=3_000))
def test_case_with_empty_pieces_between(case: dict[str, Any]) -> None:
    pieces = (piece for byte in in_pieces(build(case["input"]), 1) for piece in (b"", byte, b""))
    assert read(case, pieces) == expected(case)


@pytest.mark.parametrize("case", cases(longest=300, bounded=False))
def test_case_gives_every_event_with_the_byte_that_completes_it(case: dict[str, Any]) -> None:
    """A lone CR completes a line: a reader that waits for the byte after it is late by one event."""
    stream = build(case["input"])
    decoder = Decoder(case.get("seed", ""))
    events: list[Event] = []
    for position in range(len(stream)):
        events += decoder.feed(stream[position : position + 1])
        reading = reference_decode(stream[: position + 1], case.get("seed", ""))
        assert [(event.type, event.data, event.id) for event in events] == reading.events
        assert (decoder.last_event_id, decoder.retry_ms) == (reading.last_event_id, reading.retry_ms)


@pytest.mark.parametrize("case", cases(longest=100_000, bounded=False))
def test_case_agrees_with_the_reference(case: dict[str, Any]) -> None:
    """The tables and the reference were written apart: each checks the other."""
    reading, wanted = reference_decode(build(case["input"]), case.get("seed", "")), expected(case)
    assert reading.events == wanted["events"]
    assert (reading.last_event_id, reading.retry_ms) == (wanted["last_event_id"], wanted["retry_ms"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_case_files_hold_no_name_twice_and_no_key_by_mistake(file: Path) -> None:
    keys = {"name", "input", "events", "last_event_id", "retry_ms"}
    optional = {"seed", "max_event_bytes", "repeat_events", "too_large"}
    found = json.loads(file.read_text())["cases"]
    assert len({case["name"] for case in found}) == len(found)
    for case in found:
        assert keys <= case.keys() <= keys | optional
