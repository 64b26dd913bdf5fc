"""The time in events."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from yeoul.apps.live.timestamp import timestamp


@pytest.mark.parametrize("moment", [0, 1_769_851_800_125_999_999, 1_769_851_800_000_000_000, 4_102_444_799_999_000_000])
def test_it_is_iso_8601_in_utc_with_milliseconds(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    monkeypatch.setattr("yeoul.apps.live.timestamp.time_ns", lambda: moment)
    text = timestamp()
    assert len(text) == len("2026-01-31T09:30:00.125Z")
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(moment // 1_000_000 / 1_000, UTC)


def test_it_goes_on() -> None:
    now = time.time_ns()
    first = timestamp()
    while time.time_ns() < now + 2_000_000:
        pass
    assert timestamp() > first
