from __future__ import annotations

from yeoul.stream import Retention
from yeoul.stream.retention import DEFAULT_RETENTIONS, GENERATION_RETENTION, Retentions


def test_the_first_rule_that_fits_decides() -> None:
    few, many, rest = Retention(events=1), Retention(events=2), Retention(events=3)
    retentions = Retentions([("chat/vip", many), ("chat/*", few)], rest)
    assert [retentions(topic).events for topic in ("chat/vip", "chat/general", "status")] == [2, 1, 3]


def test_without_rules_every_topic_has_the_default() -> None:
    assert Retentions()("chat/general") == Retention()


def test_a_generation_is_kept_longer_than_other_topics() -> None:
    assert DEFAULT_RETENTIONS("generations/abc") == GENERATION_RETENTION
    assert DEFAULT_RETENTIONS("chat/general") == Retention()
