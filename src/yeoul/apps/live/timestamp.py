"""The time that events of the live apps carry."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from time import time_ns

__all__ = ["timestamp"]


def timestamp() -> str:
    """The current time as ISO 8601 in UTC with milliseconds: `2026-01-31T09:30:00.125Z`."""
    seconds, rest = divmod(time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(maxsize=2)  # many events carry the same second
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
