from __future__ import annotations

import pytest

from yeoul.stream import Retention
from yeoul.stream.retention import DEFAULT_RETENTIONS, GENERATION_RETENTION, Retentions, topic_pattern


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("chat/general", ["chat/general"], ["chat/general2", "a/chat/general", "chat/genera", "Chat/general", ""]),
        ("chat/*", ["chat/general", "chat/a/b", "chat/"], ["chat", "chats/a", "a/chat/b"]),
        ("*/log", ["a/log", "a/b/log", "/log"], ["log", "a/log/b"]),
        ("a*b*c", ["abc", "a1b2c", "abcbc"], ["acb", "ab", "abcd"]),
        ("*", ["", "a", "a/b", "여울", "a\nb"], []),
        ("a.b+(c)[d]?", ["a.b+(c)[d]?"], ["axb+(c)[d]?", "a.bb(c)[d]", "a.b+cd"]),
        ("", [""], ["a"]),
    ],
)
def test_a_star_stands_for_any_characters_and_all_else_for_itself(
    pattern: str, names: list[str], others: list[str]
) -> None:
    fits = topic_pattern(pattern)
    assert [name for name in names if not fits(name)] == []
    assert [name for name in others if fits(name)] == []


def test_the_first_rule_that_fits_decides() -> None:
    few, many, rest = Retention(events=1), Retention(events=2), Retention(events=3)
    retentions = Retentions([("chat/vip", many), ("chat/*", few)], rest)
    assert [retentions(topic).events for topic in ("chat/vip", "chat/general", "status")] == [2, 1, 3]


def test_without_rules_every_topic_has_the_default() -> None:
    assert Retentions()("chat/general") == Retention()


def test_a_generation_is_kept_longer_than_other_topics() -> None:
    assert DEFAULT_RETENTIONS("generations/abc") == GENERATION_RETENTION
    assert DEFAULT_RETENTIONS("chat/general") == Retention()
