"""How far a stream may be ahead of those who read it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yeoul.relay.pace import Pace


def test_it_is_full_over_its_limit_and_not_at_it() -> None:
    pace = Pace(100)
    pace.add(1, 100)
    assert not pace.full
    pace.add(2, 1)
    assert pace.full


def test_what_the_foremost_reader_has_does_not_count() -> None:
    pace = Pace(100)
    for offset in range(1, 11):
        pace.add(offset, 50)
    pace.read(8)
    assert pace.unread == 100
    assert not pace.full
    pace.read(3)  # a reader that has left does not take its progress with it
    assert pace.unread == 100
    pace.read(10)
    assert pace.unread == 0


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(0, 200))
def test_it_counts_too_much_rather_than_too_little(sizes: list[int], read: int) -> None:
    pace = Pace(1_000)
    for offset, size in enumerate(sizes, 1):
        pace.add(offset, size)
    pace.read(read)
    left = sum(sizes[read:])
    assert left <= pace.unread <= left + 1_000 // 64 + 50
    pace.read(len(sizes))
    assert pace.unread == 0


def test_tiny_events_cost_nothing_to_count() -> None:
    pace = Pace(6_400)
    for offset in range(1, 100_001):
        pace.add(offset, 1)
    assert len(pace._parts) <= 100_000 // 100 + 1
