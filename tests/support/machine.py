"""How slow this machine is at the moment: what a test allows in time is multiplied by it."""

from __future__ import annotations

import time

__all__ = ["budget"]

_ROUNDS = 5
_STEPS = 100_000
# What one round takes on the kind of machine that the times in the tests were written for, while nothing else runs.
_USUAL_S = 0.005


def budget(seconds: float) -> float:
    """So many seconds on a usual, idle machine; more on a slow or busy one. To be asked when the time is judged."""
    return seconds * max(1.0, _round() / _USUAL_S)


def _round() -> float:
    """Seconds that one round of a fixed piece of work takes now, waiting for the processor included."""
    began = time.monotonic()
    for _ in range(_ROUNDS):
        total = 0
        for step in range(_STEPS):
            total += step
    return (time.monotonic() - began) / _ROUNDS
