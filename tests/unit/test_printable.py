from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.printable import json_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("안녕하세요", "안녕하세요"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("a\nb", "a\\nb"),
        ("\x1b[2Jgone", "\\u001b[2Jgone"),
        ("\x7f\x9b", "\\u007f\\u009b"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("half \ud800", "half \\ud800"),
        ("\U000e0041", "\\udb40\\udc41"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_ends_stay_where_they_are_wanted() -> None:
    assert printable("a\nb\x07", keep="\n") == "a\nb\\u0007"


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert len(shown.splitlines()) <= 1


@given(st.dictionaries(st.text(), st.text()))
def test_json_is_one_line_and_reads_back(value: dict[str, str]) -> None:
    line = json_line(value)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == value
    line.encode()


def test_what_json_has_no_form_for_is_shown() -> None:
    assert json.loads(json_line({"a": {1}})) == {"a": "{1}"}
