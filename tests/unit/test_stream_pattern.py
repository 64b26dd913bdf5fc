from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.stream.pattern import TopicPattern


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("chat/general", ["chat/general"], ["chat/general2", "a/chat/general", "chat/genera", "Chat/general", ""]),
        ("chat/*", ["chat/general", "chat/a/b", "chat/"], ["chat", "chats/a", "a/chat/b"]),
        ("*/log", ["a/log", "a/b/log", "/log"], ["log", "a/log/b"]),
        ("a*b*c", ["abc", "a1b2c", "abcbc"], ["acb", "ab", "abcd"]),
        ("*", ["", "a", "a/b", "여울", "a\nb"], []),
        ("a.b+(c)[d]?", ["a.b+(c)[d]?"], ["axb+(c)[d]?", "a.bb(c)[d]", "a.b+cd"]),
        ("**", ["", "a"], []),
        ("a*a", ["aa", "aba"], ["a"]),
        ("ab*ba", ["abba", "ab-ba"], ["aba"]),
    ],
)
def test_a_star_stands_for_any_characters_and_all_else_for_itself(
    pattern: str, names: list[str], others: list[str]
) -> None:
    form = TopicPattern(pattern)
    assert [name for name in names if not form.fits(name)] == []
    assert [name for name in others if form.fits(name)] == []


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=10))
def test_it_is_what_a_regular_expression_says(pattern: str, name: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert TopicPattern(pattern).fits(name) == (re.fullmatch(expression, name) is not None)


def test_a_pattern_says_something() -> None:
    with pytest.raises(ValueError, match="not empty"):
        TopicPattern("")


def test_patterns_of_the_same_text_are_the_same() -> None:
    assert TopicPattern("a*") == TopicPattern("a*")
    assert len({TopicPattern("a*"), TopicPattern("a*"), TopicPattern("b")}) == 2
