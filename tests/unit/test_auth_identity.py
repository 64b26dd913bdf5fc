from __future__ import annotations

import pytest

from yeoul.auth.identity import ANONYMOUS, OPERATOR, Grants, Identity

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


def test_a_ticket_for_topics_follows_those_and_sends_nothing() -> None:
    bound = Identity(user="ann", grants=Grants.of(["*"], ["*"]), topics=frozenset({"chat/a"}))
    assert bound.may_subscribe("chat/a")
    assert not bound.may_subscribe("chat/b")
    assert not bound.may_publish("chat/a")


def test_what_a_user_owns_is_read_by_that_user_and_by_admins() -> None:
    assert ANN.may_read(ANN.owner)
    assert BOSS.may_read(ANN.owner)
    assert OPERATOR.may_read(ANN.owner)
    assert not Identity(user="bob").may_read(ANN.owner)
    assert not ANONYMOUS.may_read(ANN.owner)


def test_what_nobody_known_owns_is_read_by_whoever_knows_of_it() -> None:
    assert ANONYMOUS.may_read(None)
    assert ANN.may_read(OPERATOR.owner)


def test_owners_of_different_kinds_never_meet() -> None:
    assert OPERATOR.owner == "local"
    assert Identity(user="local").owner == "user:local"
    assert ANONYMOUS.owner is None


def test_an_empty_pattern_grants_nothing_and_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        Grants.of([""])
