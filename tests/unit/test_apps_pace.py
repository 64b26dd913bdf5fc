"""How often a room is told of changes among its members."""

from __future__ import annotations

from yeoul.apps.live.pace import MAX_SINGLE, MIN_PACE, AnnouncementPace


def times(members: int, changes: int, seconds: float) -> list[float]:
    """When a room with so many members is told, that has so many changes in each interval."""
    pace, told, pending = AnnouncementPace(), [], 0
    for tick in range(round(seconds / MIN_PACE)):
        now, pending = tick * MIN_PACE, pending + changes
        if pace.is_due("r", members=members, changes=pending, now=now):
            pace.announced("r", now)
            told.append(now)
            pending = 0
    return told


def test_a_small_room_is_told_at_once_and_then_four_times_a_second() -> None:
    assert times(5, 1, 1.0) == [0.0, 0.25, 0.5, 0.75]


def test_a_large_room_is_told_less_often_but_at_least_every_ten_seconds() -> None:
    assert times(5_000, 1, 7.0) == [0.0, 2.0, 4.0, 6.0]
    assert times(1_000_000, 1, 25.0) == [0.0, 10.0, 20.0]


def test_a_rush_is_told_at_its_end_or_after_four_times_as_long() -> None:
    assert times(5, MAX_SINGLE + 1, 3.0) == [0.0, 1.0, 2.0]
    pace = AnnouncementPace()
    assert pace.is_due("r", members=1, changes=1, now=0.0)
    pace.announced("r", 0.0)
    entered = 0
    for tick in range(1, 7):  # 5 000 users within 1.5 s
        entered += 5_000 // 6
        assert not pace.is_due("r", members=entered, changes=entered, now=tick * 0.25)
    assert not pace.is_due("r", members=entered, changes=entered, now=1.75)
    assert pace.is_due("r", members=entered, changes=entered, now=2.0)


def test_rooms_do_not_wait_for_each_other_and_are_forgotten() -> None:
    pace = AnnouncementPace()
    for room in ("a", "b"):
        assert pace.is_due(room, members=5_000, changes=1, now=0.0)
        pace.announced(room, 0.0)
    assert pace.is_due("c", members=1, changes=1, now=0.1)
    pace.announced("c", 0.1)
    members = {"a": 5_000, "b": 5_000, "c": 1}
    assert pace.forget(lambda room: members[room], 1.0), "a and b must wait"
    assert pace.is_due("c", members=1, changes=1, now=1.0)
    pace.announced("c", 1.0)
    assert not pace.is_due("a", members=5_000, changes=1, now=1.0)
    assert pace.forget(lambda room: 0, 100.0), "the changes of a are not announced yet"
    assert pace.is_due("a", members=5_000, changes=1, now=2.0)
    pace.announced("a", 2.0)
    assert not pace.forget(lambda room: members[room], 20.0)
