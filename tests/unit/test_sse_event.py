from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pytest

from yeoul.sse import Event

MAX_RETRY_MS = 2**53 - 1


class Milliseconds(enum.IntEnum):
    SECOND = 1000


def test_an_event_is_empty_message_data_by_default() -> None:
    assert Event() == Event(data="", type="message", id=None, retry=None)


def test_an_empty_type_means_message() -> None:
    assert Event(type="").type == "message"
    assert Event(type="") == Event(type="message")


@pytest.mark.parametrize("field", ["type", "id"])
@pytest.mark.parametrize("char", ["\n", "\r", "\0"])
@pytest.mark.parametrize("form", ["{}", "{}x", "x{}", "x{}data: injected", "x{0}{0}data: injected"])
def test_a_line_end_or_nul_in_type_or_id_is_refused(field: str, char: str, form: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must not contain CR, LF or NUL"):
        Event(**{field: form.format(char)})


@pytest.mark.parametrize("field", ["type", "id"])
@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\t", ":", " ", "여울", "\ufeff"])
def test_other_characters_in_type_and_id_are_taken(field: str, char: str) -> None:
    assert getattr(Event(**{field: f"{char}x{char}"}), field) == f"{char}x{char}"


@pytest.mark.parametrize("field", ["data", "type", "id"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83c\udf0a"])
def test_a_lone_surrogate_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{field} has a lone surrogate at index"):
        Event(**{field: text})


@pytest.mark.parametrize("retry", [True, False, -1, 1.0, 2.5, "5", b"5", Milliseconds.SECOND, float("nan"), [], 1j])
def test_a_retry_that_is_no_int_from_0_is_refused(retry: Any) -> None:
    with pytest.raises(ValueError, match="retry must be"):
        Event(retry=retry)


@pytest.mark.parametrize("retry", [MAX_RETRY_MS + 1, 10**18, pytest.param(10**5000, id="5001 digits")])
def test_a_retry_that_readers_cannot_hold_is_refused(retry: int) -> None:
    with pytest.raises(ValueError, match="retry must be from 0 to"):
        Event(retry=retry)


@pytest.mark.parametrize("retry", [0, 1, 3000, MAX_RETRY_MS])
def test_a_retry_from_0_is_taken(retry: int) -> None:
    assert Event(retry=retry).retry == retry


@pytest.mark.parametrize("field", ["data", "type", "id"])
@pytest.mark.parametrize("value", [b"x", 0, 1, [], ["x"], False, object()])
def test_a_field_that_is_no_text_is_refused(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{field} must be str, not {type(value).__name__}"):
        Event(**{field: value})


@pytest.mark.parametrize("field", ["data", "type"])
def test_none_is_no_text(field: str) -> None:
    with pytest.raises(TypeError, match=f"{field} must be str, not NoneType"):
        Event(**{field: None})  # type: ignore[arg-type]


def test_an_event_cannot_be_changed() -> None:
    event = Event("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.data = "b"  # type: ignore[misc]
    with pytest.raises(ValueError, match="id must not contain"):
        dataclasses.replace(event, id="1\ndata: injected")


def test_equal_events_are_one_in_a_set() -> None:
    assert len({Event("a", "x", "1", 5), Event("a", "x", "1", 5), Event("a", "x", "2", 5)}) == 2
