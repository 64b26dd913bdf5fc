"""Identities: what they may do, and how a user stands in a topic's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.auth.identity import ANONYMOUS, OPERATOR, Grants, Identity, topic_part
from yeoul.hub.topic import check_topic

ANN = Identity(user="ann", grants=Grants.of(["chat/*"], ["chat/a"]))
BOSS = Identity(user="boss", roles=frozenset({"admin"}))


def test_grants_are_names_and_patterns() -> None:
    assert ANN.may_subscribe("chat/a")
    assert not ANN.may_subscribe("chat")
    assert ANN.may_publish("chat/a")
    assert not ANN.may_publish("chat/b")
    assert BOSS.may_subscribe("anything")
    assert BOSS.may_publish("anything")
    assert not ANONYMOUS.may_subscribe("chat/a")


def test_a_ticket_with_topics_follows_only_those_and_publishes_nothing() -> None:
    bound = Identity(user="ann", grants=Grants.of(["*"], ["*"]), topics=frozenset({"chat/a"}))
    assert bound.may_subscribe("chat/a")
    assert not bound.may_subscribe("chat/b")
    assert not bound.may_publish("chat/a")


def test_the_answers_of_a_user_are_readable_by_that_user_and_by_admins() -> None:
    assert ANN.may_read(ANN.owner)
    assert BOSS.may_read(ANN.owner)
    assert OPERATOR.may_read(ANN.owner)
    assert not Identity(user="bob").may_read(ANN.owner)
    assert not ANONYMOUS.may_read(ANN.owner)


def test_the_answers_of_anonymous_clients_are_readable_by_all() -> None:
    assert ANONYMOUS.may_read(None)
    assert ANN.may_read(OPERATOR.owner)


def test_a_user_cannot_have_the_key_of_the_operator() -> None:
    assert OPERATOR.owner == "local"
    assert Identity(user="local").owner == "user:local"
    assert ANONYMOUS.owner is None


def test_an_empty_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        Grants.of([""])


# --- a user's id in a topic's name


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("u42", "u42"),
        ("김철수", "김철수"),
        ("ann@example.com", "ann@example.com"),
        ("auth0|42", "auth0~7C42"),
        ("a/b", "a~2Fb"),
        ("..", "~2E~2E"),
        ("*", "~2A"),
        ("~", "~7E"),
        ("a b\n", "a~20b~0A"),
        ("\udc00", "~ED~B0~80"),
    ],
)
def test_characters_that_topics_cannot_have_are_escaped(text: str, part: str) -> None:
    assert topic_part(text) == part


@given(st.text(min_size=1, max_size=40))
def test_any_text_becomes_one_part_of_a_topic(text: str) -> None:
    part = topic_part(text)
    assert "/" not in part
    if len(part) <= 190:
        assert check_topic(f"users/{part}")


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_two_texts_never_share_a_part(one: str, other: str) -> None:
    assert (topic_part(one) == topic_part(other)) == (one == other)


def test_empty_text_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        topic_part("")
