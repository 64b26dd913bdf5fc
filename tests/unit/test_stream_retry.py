from __future__ import annotations

import random
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yeoul.stream import RETRYABLE_STATUSES, RetryPolicy, jitter, parse_retry_after

relaxed = settings(deadline=None, derandomize=True, max_examples=300)
times = st.floats(0, 1e9)


class Highest(random.Random):
    """Draws the upper end, which makes the ceiling visible."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    policy = RetryPolicy(attempts=7, base=0.5, cap=5.0)
    assert list(policy.delays(Highest())) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_jitter_is_full_a_delay_may_be_nothing() -> None:
    assert list(RetryPolicy(attempts=4).delays(Lowest())) == [0.0, 0.0, 0.0]


def test_one_attempt_means_no_retry() -> None:
    assert list(RetryPolicy(attempts=1).delays()) == []


def test_a_base_over_the_cap_is_capped_from_the_start() -> None:
    assert list(RetryPolicy(attempts=3, base=10.0, cap=2.0).delays(Highest())) == [2.0, 2.0]


def test_a_reader_may_try_for_ever() -> None:
    """Doubling as a power of two would overflow a float after a thousand failures."""
    delays = list(islice(RetryPolicy(attempts=10**9).delays(Highest()), 5_000))
    assert delays[-1] == RetryPolicy().cap
    assert len(delays) == 5_000


def test_two_readers_do_not_wait_alike() -> None:
    assert list(RetryPolicy(attempts=4).delays()) != list(RetryPolicy(attempts=4).delays())


def test_the_same_randomness_draws_the_same_delays() -> None:
    policy = RetryPolicy(attempts=6)
    assert list(policy.delays(random.Random(1))) == list(policy.delays(random.Random(1)))


@relaxed
@given(st.integers(1, 50), times, times, st.randoms(use_true_random=False))
def test_every_delay_is_from_0_to_its_ceiling(attempts: int, base: float, cap: float, draw: random.Random) -> None:
    policy = RetryPolicy(attempts, base, cap)
    ceilings = list(policy.delays(Highest()))
    assert len(ceilings) == attempts - 1
    assert all(0 <= before <= after <= cap for before, after in pairwise(ceilings))
    assert all(0 <= delay <= ceiling for delay, ceiling in zip(policy.delays(draw), ceilings, strict=True))


@pytest.mark.parametrize("field", ["base", "cap", "max_retry_after"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_times_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match="a retry policy needs attempts >= 1 and finite times >= 0"):
        RetryPolicy(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("attempts", [0, -1])
def test_fewer_than_one_attempt_is_refused(attempts: int) -> None:
    with pytest.raises(ValueError, match="attempts >= 1"):
        RetryPolicy(attempts)


@relaxed
@given(times, st.floats(0, 1), st.randoms(use_true_random=False))
def test_jitter_shortens_by_up_to_its_spread(seconds: float, spread: float, draw: random.Random) -> None:
    assert seconds * (1 - spread) <= jitter(seconds, spread, draw) <= seconds


def test_jitter_shortens_by_a_fifth_at_most_by_default() -> None:
    assert jitter(100.0, draw=Highest()) == 80.0
    assert jitter(100.0, draw=Lowest()) == 100.0


def test_statuses_that_say_not_now_are_retryable_and_others_are_not() -> None:
    assert {408, 425, 429, 500, 502, 503, 504} == RETRYABLE_STATUSES


NOW = 784_111_000.0  # 777 seconds before the date in RFC 9110


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        (" 120\t", 120.0),
        ("007", 7.0),
        ("999999999", 999_999_999.0),
        ("9999999999", None),
        ("9" * 5000, None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("１２", None),
        ("²", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 777.0),
        ("Sun Nov  6 08:49:37 1994", 777.0),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 777.0),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 777.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_a_date_without_a_zone_is_in_utc_wherever_the_server_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        assert parse_retry_after("Sun Nov  6 08:49:37 1994", NOW) == 777.0
    finally:
        monkeypatch.undo()
        time.tzset()


dates = st.from_regex(r"(Sun, )?[0-9]{1,12}[ -]Nov[ -][0-9]{1,7} [0-9:]{1,12} ([+-][0-9]{1,40}|GMT|)", fullmatch=True)


@relaxed
@given(st.text(max_size=40) | st.text(alphabet="Sun, Nov0123456789:-+GMT", max_size=40) | dates, st.floats(0, 4e9))
def test_any_retry_after_is_a_time_from_0_or_nothing(value: str, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds < 1e12
