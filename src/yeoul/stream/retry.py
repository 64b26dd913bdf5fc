"""When to try again, as pure policy: delays are computed here, waited for elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

__all__ = ["RETRYABLE_STATUSES", "RetryPolicy", "jitter", "parse_retry_after"]

# Statuses that say "not now" rather than "not like this" (RFC 9110: 408, 500, 502-504; RFC 6585: 429).
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter. All times in seconds.

    `attempts` counts the first one: 1 means no retry. A server's `Retry-After` replaces the computed delay and is
    obeyed up to `max_retry_after`; beyond that the caller hears of the failure instead of waiting.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 8.0
    max_retry_after: float = 30.0

    def delays(self, draw: random.Random | None = None) -> Iterator[float]:
        """`attempts - 1` delays, each drawn from 0 to a ceiling that doubles up to `cap`."""
        uniform = (draw or random).uniform
        for attempt in range(self.attempts - 1):
            yield uniform(0, min(self.cap, self.base * 2**attempt))


def jitter(seconds: float, spread: float = 0.2, draw: random.Random | None = None) -> float:
    """The time, shortened by up to `spread` of it: many readers that began together do not end together."""
    return seconds * (1 - (draw or random).uniform(0, spread))


def parse_retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a Retry-After field: delay-seconds or an HTTP date (RFC 9110, 10.2.3). `now`: Unix time.

    None where there is none, or where it makes no sense.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 10 else None
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None
