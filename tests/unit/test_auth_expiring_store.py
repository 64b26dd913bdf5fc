"""What users hold: bounded for each and in all, and gone in time."""

from __future__ import annotations

from yeoul.auth.tickets import ExpiringStore


def keys(holdings: ExpiringStore[str], now: float = 0.0) -> list[bytes]:
    return [key for key in (b"1", b"2", b"3", b"4") if holdings.get(key, now) is not None]


def test_the_oldest_of_the_same_user_goes_and_nobody_elses() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=10, max_per_user=2)
    held.put(b"4", "bob", 9.0, "x", 0.0)
    for key in (b"1", b"2", b"3"):
        held.put(key, "ann", 9.0, "x", 0.0)
    assert keys(held) == [b"2", b"3", b"4"]


def test_what_was_touched_is_not_the_oldest_any_more() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=3, max_per_user=2)
    held.put(b"1", "ann", 9.0, "x", 0.0)
    held.put(b"2", "ann", 9.0, "x", 0.0)
    held.touch(b"1")
    held.put(b"3", "ann", 9.0, "x", 0.0)
    assert keys(held) == [b"1", b"3"]


def test_nobodys_things_are_bounded_in_all_alone() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=3, max_per_user=1)
    for key in (b"1", b"2", b"3", b"4"):
        held.put(key, None, 9.0, "x", 0.0)
    assert keys(held) == [b"2", b"3", b"4"]


def test_a_thing_is_gone_at_its_time_and_makes_room() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=2, max_per_user=5)
    held.put(b"1", "ann", 5.0, "x", 0.0)
    held.put(b"2", "ann", 9.0, "x", 0.0)
    assert held.is_full(4.0)
    assert (held.get(b"1", 4.9), held.get(b"1", 5.0), held.pop(b"1", 5.0)) == ("x", None, None)
    held.put(b"1", "ann", 5.0, "x", 0.0)
    assert not held.is_full(5.0)
    held.put(b"3", "ann", 9.0, "x", 5.0)
    assert keys(held, 5.0) == [b"2", b"3"]


def test_what_has_expired_is_swept_though_there_is_room() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=100, max_per_user=100)
    for number in range(50):
        held.put(bytes([number]), f"u{number}", 5.0, "x", 0.0)
    held.put(b"new", "ann", 100.0, "x", 60.0)
    assert len(held) == 1


def test_a_full_one_is_looked_through_once_a_second_and_not_for_each_new_thing() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=1, max_per_user=9)
    held.put(b"1", "ann", 5.5, "x", 0.0)
    assert held.is_full(5.0)
    assert held.is_full(5.9)
    assert not held.is_full(6.0)


def test_all_of_a_user_is_dropped() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=9, max_per_user=9)
    for key, user in ((b"1", "ann"), (b"2", "bob"), (b"3", "ann")):
        held.put(key, user, 9.0, "x", 0.0)
    held.drop("ann")
    held.drop("nobody")
    assert keys(held) == [b"2"]
    assert len(held) == 1


def test_put_again_it_is_the_new_owners_alone() -> None:
    held: ExpiringStore[str] = ExpiringStore(max_all=9, max_per_user=9)
    held.put(b"1", "ann", 9.0, "x", 0.0)
    held.put(b"1", "bob", 9.0, "y", 0.0)
    held.drop("ann")
    assert held.get(b"1", 0.0) == "y"
