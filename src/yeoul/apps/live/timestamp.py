"""The time that events of the live apps carry."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns

__all__ = ["timestamp"]


def timestamp() -> str:
    """The current time as ISO 8601 in UTC with milliseconds: `2026-01-31T09:30:00.125Z`."""
    return _text(time_ns() // 1_000_000)


@lru_cache(maxsize=8)  # thousands of users may enter a room within a few milliseconds
def _text(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
