"""How often others are told that somebody is typing."""

from __future__ import annotations

from yeoul.apps.live.typists import Typists


def test_typing_is_told_once_per_pause() -> None:
    typists = Typists(pause=3.0)
    times = (0.0, 0.1, 2.9, 3.0, 5.9, 6.0)
    assert [typists.worth_telling("r", "ann", True, now) for now in times] == [True, False, False, True, False, True]


def test_users_and_rooms_are_told_of_each_by_itself() -> None:
    typists = Typists()
    assert typists.worth_telling("r", "ann", True, 0.0)
    assert typists.worth_telling("r", "bob", True, 0.0)
    assert typists.worth_telling("s", "ann", True, 0.0)


def test_stopping_is_told_once_where_typing_was_told_and_still_holds() -> None:
    typists = Typists(pause=3.0)
    assert not typists.worth_telling("r", "ann", False, 0.0)
    assert typists.worth_telling("r", "ann", True, 1.0)
    assert typists.worth_telling("r", "ann", False, 2.0)
    assert not typists.worth_telling("r", "ann", False, 2.1)
    assert not typists.worth_telling("r", "ann", True, 2.2), "on and off again is no way around the pause"
    assert typists.worth_telling("r", "ann", True, 4.0)
    assert not typists.worth_telling("r", "ann", False, 7.5)


def test_what_is_remembered_is_bounded() -> None:
    typists = Typists(most=2)
    for user in ("ann", "bob", "cyd"):
        assert typists.worth_telling("r", user, True, 0.0)
    assert not typists.worth_telling("r", "cyd", True, 0.1)
    assert typists.worth_telling("r", "ann", True, 0.1), "forgotten"
    assert len(typists._told) == 2
