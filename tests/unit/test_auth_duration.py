"""Spans of time as people write and read them."""

from __future__ import annotations

import pytest

from yeoul.auth.duration import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3_600), ("7d", 604_800), ("0s", 0), ("090m", 5_400)]
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "1 h", "-1h", "1.5h", "1w", "1h30m", "٣h", "9999999999s", "1h\n"])
def test_an_invalid_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="write 30s, 15m, 1h or 7d"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"), (40, "40 s"), (119, "119 s"), (120, "2 min"), (7_199, "120 min"), (7_200, "2 h"),
        (172_799, "48 h"), (172_800, "2 days"), (2_592_000, "30 days"), (-1, "0 s"),
    ],
)  # fmt: skip
def test_durations_are_told(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
