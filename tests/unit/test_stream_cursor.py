from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.errors import InvalidCursor, YeoulError
from yeoul.sse import Decoder, Event, encode
from yeoul.stream import Cursor, LastEventId, draw_epoch, draw_work_id

relaxed = settings(deadline=None, derandomize=True, max_examples=300)

LARGEST = 10**18 - 1
epochs = st.from_regex("[0-9a-z]{1,32}", fullmatch=True)
offsets = st.integers(0, LARGEST)
works = st.from_regex("[A-Za-z0-9_-]{1,64}", fullmatch=True)
cursors = st.builds(Cursor, epochs, offsets)


@relaxed
@given(cursors)
def test_a_cursor_is_read_back_from_its_text(cursor: Cursor) -> None:
    assert Cursor.parse(str(cursor)) == cursor
    assert LastEventId.parse(str(cursor)) == LastEventId(cursor, None)


@relaxed
@given(cursors, works)
def test_a_last_event_id_with_a_work_id_is_read_back_from_its_text(cursor: Cursor, work: str) -> None:
    parsed = LastEventId.parse(str(LastEventId(cursor, work)))
    assert (parsed.cursor, parsed.work) == (cursor, work)
    assert Cursor.parse(f"{work}.{cursor}") == cursor


@relaxed
@given(cursors, st.none() | works)
def test_a_position_travels_unchanged_as_an_id(cursor: Cursor, work: str | None) -> None:
    text = str(LastEventId(cursor, work))
    assert text.isascii()
    decoder = Decoder()
    decoder.feed(encode(Event(id=text)))
    assert decoder.last_event_id == text


@pytest.mark.parametrize(
    ("text", "epoch", "offset", "work"),
    [
        ("a-0", "a", 0, None),
        ("0-0", "0", 0, None),
        ("k3x9q0w2ab-1042", "k3x9q0w2ab", 1042, None),
        (f"{'z' * 32}-{LARGEST}", "z" * 32, LARGEST, None),
        ("w.a-1", "a", 1, "w"),
        ("-.a-1", "a", 1, "-"),
        ("x-7.a-1", "a", 1, "x-7"),
        ("A_b-C.a-1", "a", 1, "A_b-C"),
        (f"{'W' * 64}.a-1", "a", 1, "W" * 64),
    ],
)
def test_the_text_forms(text: str, epoch: str, offset: int, work: str | None) -> None:
    last = LastEventId.parse(text)
    assert (last.cursor.epoch, last.cursor.offset, last.work) == (epoch, offset, work)
    assert str(last) == text


@pytest.mark.parametrize("text", ["a-1.end", "w.a-1.end", "-.a-0.end"])
def test_the_id_of_a_last_event_says_so(text: str) -> None:
    last = LastEventId.parse(text)
    assert last.final
    assert str(last) == text
    assert not LastEventId.parse(text.removesuffix(".end")).final


GARBAGE = ["", "-", "a", "1042", "a-", "-1", "a--1", "a-+1", "a-1 ", " a-1", "a-1\n", "a-1\r\n", "a-1\0", "a-1٣"]
GARBAGE += ["A-1", "aB-1", "a_b-1", "é-1", "a-٣", "a-１", "a-01", "a-00", "a-1e3", "a-0x1", "a-1_0", "a-1-2", "a-b-1"]
GARBAGE += [f"{'z' * 33}-1", "a-1000000000000000000", "a-9223372036854775808", ".a-1", "w..a-1", "w.v.a-1", "w/.a-1"]
GARBAGE += [f"{'W' * 65}.a-1", "w.a", "w.1", "여.a-1", "w.\n.a-1", "null", "undefined", "*", "$", "a,b", "a-1.0"]
GARBAGE += ["a-1.", "a-1.end.end", "a-1.END", "a-1.en", "w.end", "a.end", "a-1.end "]


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize("parse", [Cursor.parse, LastEventId.parse])
def test_garbage_is_refused(text: str, parse: object) -> None:
    with pytest.raises(InvalidCursor, match="is not a position of this server") as refused:
        parse(text)  # type: ignore[operator]
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, YeoulError)
    assert repr(text) in str(refused.value)


def test_the_refusal_says_what_would_be_right_and_stays_short_and_on_one_line() -> None:
    with pytest.raises(InvalidCursor) as refused:
        Cursor.parse("\n\x1b[31m" + "x" * 100_000)
    message = str(refused.value)
    assert "send back the last `id:` you received, unchanged" in message
    assert "'\\n\\x1b[31mxxx" in message
    assert message.isprintable()
    assert len(message) < 300
    example = re.search("looks like `(.*)`", message)
    assert example is not None
    assert Cursor.parse(example[1]).offset == 1042


@relaxed
@given(st.text(max_size=30) | st.text(alphabet="az09-._AZ \n", max_size=12))
def test_any_text_is_a_position_or_refused(text: str) -> None:
    try:
        last = LastEventId.parse(text)
    except InvalidCursor:
        return
    assert str(last) == text


@pytest.mark.parametrize(
    ("epoch", "offset"), [("", 1), ("A", 1), ("a-b", 1), ("a\n", 1), ("a" * 33, 1), ("a", -1), ("a", LARGEST + 1)]
)
def test_a_cursor_that_could_not_be_read_back_cannot_be_built(epoch: str, offset: int) -> None:
    with pytest.raises(ValueError, match="a cursor has an epoch of 1 to 32 characters") as refused:
        Cursor(epoch, offset)
    assert not isinstance(refused.value, InvalidCursor)  # our mistake, not a client's


@pytest.mark.parametrize("work", ["", "a.b", "a b", "a\n", "W" * 65, "여"])
def test_a_work_id_that_could_not_be_read_back_cannot_be_built(work: str) -> None:
    with pytest.raises(ValueError, match="a work id has 1 to 64 characters"):
        LastEventId(Cursor("a", 1), work)


def test_drawn_epochs_are_epochs_and_differ() -> None:
    drawn = {draw_epoch() for _ in range(2_000)}
    assert len(drawn) == 2_000
    assert all(len(epoch) == 10 and Cursor(epoch, 0) for epoch in drawn)
    assert len(set("".join(drawn))) == 32  # 5 bits a character


def test_drawn_work_ids_are_work_ids_and_hold_128_bits() -> None:
    drawn = {draw_work_id() for _ in range(2_000)}
    assert len(drawn) == 2_000
    assert all(len(work) == 22 and LastEventId(Cursor("a", 1), work) for work in drawn)
    assert len(set("".join(drawn))) == 64  # 6 bits a character
