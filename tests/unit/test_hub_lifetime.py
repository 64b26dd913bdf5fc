from __future__ import annotations

from math import inf

import pytest

from yeoul.hub.reasons import EXPIRED, LIFETIME
from yeoul.hub.subscription import Lifetime

# Another number on each clock, as in life.
NOW, UNIX = 1_000.0, 1_700_000_000.0


def lifetime(*, longest: float | None = None, left: float | None = None) -> Lifetime:
    return Lifetime(NOW, UNIX, longest=longest, expires=None if left is None else UNIX + left)


def test_without_bounds_it_never_ends() -> None:
    life = lifetime()
    assert (life.due, life.ends, life.reminder) == (inf, inf, inf)


def test_a_token_ends_it_at_its_own_time_on_the_loops_clock() -> None:
    life = lifetime(left=3_600)
    assert (life.ends, life.reason) == (NOW + 3_600, EXPIRED)
    assert life.left(NOW + 3_500) == 100
    assert life.left(NOW + 4_000) == 0


@pytest.mark.parametrize(("left", "before"), [(3_600, 60), (300, 60), (299, 59.8), (10, 2), (1, 0.2)])
def test_the_reminder_comes_a_minute_before_or_a_fifth_of_what_is_left(left: float, before: float) -> None:
    assert lifetime(left=left).reminder == pytest.approx(NOW + left - before)


def test_what_is_due_is_first_the_reminder_then_the_end() -> None:
    life = lifetime(left=100)
    assert life.due == NOW + 80
    life.reminded()
    assert life.due == NOW + 100


def test_whichever_comes_first_ends_it() -> None:
    assert lifetime(longest=50, left=100).reason is LIFETIME
    assert NOW + 40 <= lifetime(longest=50, left=100).ends <= NOW + 50
    assert (lifetime(longest=500, left=100).ends, lifetime(longest=500, left=100).reason) == (NOW + 100, EXPIRED)


def test_a_stream_that_ends_before_its_token_is_reminded_all_the_same_where_that_is_due() -> None:
    life = lifetime(longest=110, left=120)
    assert life.reminder == NOW + 96
    assert lifetime(longest=10, left=120).due <= NOW + 10


def test_a_token_that_has_ended_ends_it_at_once() -> None:
    life = lifetime(left=-5)
    assert life.ends < NOW
    assert life.due == life.ends
