from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.sse import Event, encode, json_data

relaxed = settings(deadline=None, derandomize=True, max_examples=300)

tricky = st.sampled_from('\u2028\u2029\u0085\v\f\r\n\x1c\x1d\x1e\\"')
text = st.text(st.characters(codec="utf-8") | tricky, max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=8)


@relaxed
@given(values)
def test_any_json_value_is_read_back_from_one_line_of_data(value: Any) -> None:
    data = json_data(value)
    assert json.loads(data) == value
    assert len(data.splitlines()) == 1
    assert encode(Event(data)).decode().splitlines() == [f"data: {data}", ""]


def test_text_is_written_as_it_is() -> None:
    assert json_data({"text": "여울 \U0001f30a", "n": 1}) == '{"text": "여울 \U0001f30a", "n": 1}'


def test_characters_that_cut_lines_elsewhere_are_escaped() -> None:
    assert json_data("a\u2028b\u2029c\u0085d") == '"a\\u2028b\\u2029c\\u0085d"'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {"a": [float("nan")]}])
def test_invalid_numbers_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_data(value)


@pytest.mark.parametrize("value", [b"x", {1, 2}, object()])
def test_values_that_json_does_not_know_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_data(value)
