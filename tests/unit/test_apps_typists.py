"""How often a room is told that a user is typing."""

from __future__ import annotations

from yeoul.apps.live.typists import Typists


def test_typing_is_announced_once_per_pause() -> None:
    typists = Typists(pause=3.0)
    times = (0.0, 0.1, 2.9, 3.0, 5.9, 6.0)
    assert [typists.should_announce("r", "ann", True, now) for now in times] == [True, False, False, True, False, True]


def test_users_and_rooms_are_announced_of_each_by_itself() -> None:
    typists = Typists()
    assert typists.should_announce("r", "ann", True, 0.0)
    assert typists.should_announce("r", "bob", True, 0.0)
    assert typists.should_announce("s", "ann", True, 0.0)


def test_stopping_is_announced_once_where_typing_was_announced_and_still_holds() -> None:
    typists = Typists(pause=3.0)
    assert not typists.should_announce("r", "ann", False, 0.0)
    assert typists.should_announce("r", "ann", True, 1.0)
    assert typists.should_announce("r", "ann", False, 2.0)
    assert not typists.should_announce("r", "ann", False, 2.1)
    assert not typists.should_announce("r", "ann", True, 2.2), "on and off again is no way around the pause"
    assert typists.should_announce("r", "ann", True, 4.0)
    assert not typists.should_announce("r", "ann", False, 7.5)


def test_what_is_remembered_is_bounded() -> None:
    typists = Typists(limit=2)
    for user in ("ann", "bob", "cyd"):
        assert typists.should_announce("r", user, True, 0.0)
    assert not typists.should_announce("r", "cyd", True, 0.1)
    assert typists.should_announce("r", "ann", True, 0.1), "forgotten"
    assert len(typists._announced) == 2
