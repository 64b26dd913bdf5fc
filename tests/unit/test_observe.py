"""The counters of the hot paths."""

from __future__ import annotations

import pytest

from yeoul.observe import LATENCY_BUCKETS, Distribution, HubStats, logger


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(0.0, 0), (0.0005, 0), (0.00051, 1), (0.001, 1), (30.0, len(LATENCY_BUCKETS) - 1), (31.0, len(LATENCY_BUCKETS))],
)
def test_a_value_falls_into_the_bucket_whose_bound_it_does_not_pass(value: float, bucket: int) -> None:
    values = Distribution()
    values.observe(value)
    assert [index for index, count in enumerate(values.counts) if count] == [bucket]
    assert (values.count, values.total) == (1, value)


def test_bounds_may_be_ones_own() -> None:
    values = Distribution((1.0, 2.0))
    for value in (0.5, 1.5, 1.7, 9.0):
        values.observe(value)
    assert values.counts == [1, 2, 1]
    assert values.count == 4
    assert values.total == pytest.approx(12.7)


def test_bounds_rise() -> None:
    assert list(LATENCY_BUCKETS) == sorted(set(LATENCY_BUCKETS))


def test_two_hubs_count_apart() -> None:
    one, other = HubStats(), HubStats()
    one.closed["client"] = 1
    one.publish_latency.observe(1)
    assert other.closed == {}
    assert other.publish_latency.count == 0


def test_the_logger_is_the_projects() -> None:
    assert logger.name == "yeoul"
