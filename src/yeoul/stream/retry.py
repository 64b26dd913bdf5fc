"""When to try again, as pure policy: delays are computed here, waited for elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import inf

__all__ = ["RETRYABLE_STATUSES", "RetryPolicy", "jitter", "parse_retry_after"]

# Statuses that say "not now" rather than "not like this" (RFC 9110: 408, 500, 502-504; RFC 8470: 425; RFC 6585: 429).
RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter. All times in seconds.

    `attempts` counts the first one: 1 means no retry. A server's `Retry-After` replaces the computed delay and is
    obeyed up to `max_retry_after`; beyond that the caller hears of the failure instead of waiting. `statuses`: the HTTP
    statuses after which another attempt is made.

    Raises ValueError for fewer than one attempt and for times that are negative or not finite.
    """

    attempts: int = 3
    base: float = 0.5
    cap: float = 8.0
    max_retry_after: float = 30.0
    statuses: frozenset[int] = RETRYABLE_STATUSES

    def __post_init__(self) -> None:
        if self.attempts < 1 or not all(0 <= time < inf for time in (self.base, self.cap, self.max_retry_after)):
            raise ValueError(f"a retry policy needs attempts >= 1 and finite times >= 0, not {self}")

    def delays(self, draw: random.Random | None = None) -> Iterator[float]:
        """`attempts - 1` delays, each drawn from 0 to a ceiling that doubles up to `cap`."""
        uniform = (draw or random).uniform
        ceiling = min(self.base, self.cap)
        for _ in range(self.attempts - 1):
            yield uniform(0, ceiling)
            ceiling = min(ceiling * 2, self.cap)  # never base * 2**attempt: a float cannot hold it for ever


def jitter(seconds: float, spread: float = 0.2, draw: random.Random | None = None) -> float:
    """The time, shortened by up to `spread` (0 to 1) of it: many readers that began together do not end together."""
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
        when = parsedate_to_datetime(value)
        # RFC 9110, 5.6.7: every HTTP date is in UTC; its asctime form does not say so.
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None
