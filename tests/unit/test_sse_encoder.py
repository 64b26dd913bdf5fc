from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.reference_decoder import reference_decode
from yeoul.sse import Decoder, Event, comment, encode

relaxed = settings(deadline=None, derandomize=True, max_examples=300)

TRICKY = ["\r", "\n", "\r\n", "\n\n", "\u2028", "\u2029", "\u0085", "\v", "\f", "\0", " ", "\t", ":", "\ufeff"]
TRICKY += ["data: x", "id: 9", "event: x", "retry: 9", "\n: x", "여울", "\U0001f30a", "a"]
clean_text = st.text(st.characters(codec="utf-8"), max_size=3)
any_text = st.lists(st.sampled_from(TRICKY) | clean_text, max_size=8).map("".join)
line_text = any_text.map(lambda text: re.sub("[\r\n\0]", "", text))
retries = st.none() | st.integers(0, 2**53 - 1)
events = st.builds(Event, any_text, line_text, st.none() | line_text, retries)


def one_newline(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    ("event", "block"),
    [
        (Event(), b"data: \n\n"),
        (Event("a"), b"data: a\n\n"),
        (Event(" a "), b"data:  a \n\n"),
        (Event("a\nb"), b"data: a\ndata: b\n\n"),
        (Event("a\r\nb"), b"data: a\ndata: b\n\n"),
        (Event("a\rb"), b"data: a\ndata: b\n\n"),
        (Event("a\n\rb"), b"data: a\ndata: \ndata: b\n\n"),
        (Event("a\n"), b"data: a\ndata: \n\n"),
        (Event("\n"), b"data: \ndata: \n\n"),
        (Event("여울"), b"data: \xec\x97\xac\xec\x9a\xb8\n\n"),
        (Event("a", "tick"), b"event: tick\ndata: a\n\n"),
        (Event("a", "message"), b"data: a\n\n"),
        (Event("a", id="1"), b"data: a\nid: 1\n\n"),
        (Event("a", id=""), b"data: a\nid: \n\n"),
        (Event("a", retry=0), b"retry: 0\ndata: a\n\n"),
        (Event("a\nb", "tick", "1", 250), b"event: tick\nretry: 250\ndata: a\ndata: b\nid: 1\n\n"),
    ],
)
def test_the_block_of_an_event(event: Event, block: bytes) -> None:
    assert encode(event) == block


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", b": \n"),
        ("keep-alive", b": keep-alive\n"),
        ("a\nb", b": a\n: b\n"),
        ("a\r\nb\rc", b": a\n: b\n: c\n"),
        ("\n\n", b": \n: \n: \n"),
        ("a\0b", b": a\0b\n"),
    ],
)
def test_the_lines_of_a_comment(text: str, lines: bytes) -> None:
    assert comment(text) == lines


def test_a_comment_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        comment("\ud800")


def test_another_id_takes_the_place_of_the_events_own() -> None:
    assert encode(Event("a", id="1"), id="2") == b"data: a\nid: 2\n\n"
    assert encode(Event("a"), id="") == b"data: a\nid: \n\n"


@pytest.mark.parametrize("id", ["1\ndata: injected", "1\r", "\0", "\ud800"])
def test_another_id_is_checked_like_the_events_own(id: str) -> None:
    with pytest.raises(ValueError, match="id "):
        encode(Event("a"), id=id)


@relaxed
@given(events)
def test_an_encoded_event_is_read_back_as_that_one_event(event: Event) -> None:
    reading = reference_decode(encode(event))
    assert reading.events == [(event.type, one_newline(event.data), event.id or "")]
    assert reading.last_event_id == (event.id or "")
    assert reading.retry_ms == event.retry


@relaxed
@given(events, st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1))
def test_an_event_without_id_keeps_the_id_before_and_an_empty_one_resets_it(event: Event, before: str) -> None:
    decoder = Decoder(before)
    [decoded] = decoder.feed(encode(event))
    assert decoded.id == decoder.last_event_id == (before if event.id is None else event.id)


@relaxed
@given(events)
def test_a_block_has_one_blank_line_at_its_end_and_known_fields_once_each(event: Event) -> None:
    block = encode(event)
    assert b"\r" not in block
    *lines, blank, rest = block.split(b"\n")
    assert (blank, rest) == (b"", b"")
    names = [line.partition(b": ")[0] for line in lines]
    assert set(names) <= {b"id", b"event", b"retry", b"data"}
    assert all(names.count(name) <= 1 for name in (b"id", b"event", b"retry"))
    assert names.count(b"data") == one_newline(event.data).count("\n") + 1


@relaxed
@given(any_text, events, events)
def test_a_comment_says_nothing_wherever_it_stands_between_events(text: str, first: Event, second: Event) -> None:
    assert reference_decode(comment(text)) == reference_decode(b"")
    silent, said = encode(first) + encode(second), comment(text)
    assert reference_decode(said + encode(first) + said + said + encode(second) + said) == reference_decode(silent)


@relaxed
@given(events)
def test_an_event_that_was_received_can_be_sent_on(event: Event) -> None:
    [received] = Decoder().feed(encode(event))
    assert Decoder().feed(encode(received)) == [received]


def test_a_received_type_with_a_nul_can_be_sent_on() -> None:
    [received] = Decoder().feed(b"event: a\0b\ndata: x\n\n")
    assert received.type == "a\0b"
    assert Decoder().feed(encode(received, id="1")) == Decoder("1").feed(b"event: a\0b\ndata: x\n\n")
