"""Spans of time as people write and read them."""

from __future__ import annotations

import re

__all__ = ["duration_text", "parse_duration"]

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

# From here on a number of this unit reads better than one of the unit below it.
_WORDS = ((172_800.0, 86_400.0, "days"), (7_200.0, 3_600.0, "h"), (120.0, 60.0, "min"), (0.0, 1.0, "s"))


def parse_duration(text: str) -> int:
    """Seconds of a text such as `30s`, `15m`, `1h`, `7d`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is not a duration: write 30s, 15m, 1h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def duration_text(seconds: float) -> str:
    """About how long, for people: `40 s`, `15 min`, `3 h`, `12 days`."""
    for least, size, word in _WORDS:
        if seconds >= least:
            return f"{seconds / size:.0f} {word}"
    return "0 s"
