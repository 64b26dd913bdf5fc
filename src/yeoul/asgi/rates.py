"""How often one may publish, and open streams."""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil

from starlette.requests import HTTPConnection

from ..addresses import network_of
from .authentication import caller_of
from .errors import Problem

__all__ = ["Rate", "Rates", "check_rate", "count_connect", "count_publish"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}

# Bounds of what is remembered of one rate, whatever number of users and addresses comes; those that were let through
# longest ago are forgotten first. A time is 32 bytes, somebody about 1 KB.
_MAX_CALLERS = 20_000
_MAX_TIMES = 1_000_000

# In the ASGI scope: that the stream which the request opens was counted.
_COUNTED = "yeoul.connect_counted"


class Rate:
    """So many in any such time, as in `100/second`: a moving window, which no burst across a boundary can double.

    Not from a library: `limits` keeps moving windows of callers that never come back, and looks for what has expired by
    walking over all callers, in a new thread every 10 ms or, as its asynchronous kind, in a task for each question.
    Here a question takes about a microsecond, and the memory has a bound.
    """

    def __init__(
        self,
        text: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_callers: int = _MAX_CALLERS,
        max_times: int = _MAX_TIMES,
    ) -> None:
        """Raises ValueError."""
        self.text = text
        self._amount, self._seconds = _parsed(text, max_times)
        self._clock = clock
        self._max_callers = max_callers
        self._max_times = max_times
        # When each caller was let through; the caller that was longest ago comes first.
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._kept = 0

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._times)

    def hit(self, caller: str) -> float:
        """Counts one, and answers 0; or counts none, and answers the seconds until one would be let through."""
        now = self._clock()
        times = self._times.get(caller)
        if times is None:
            times = self._times[caller] = deque(maxlen=self._amount)
        elif len(times) == self._amount and (wait := times[0] + self._seconds - now) > 0:
            return wait
        self._kept += len(times) < self._amount
        times.append(now)
        self._times.move_to_end(caller)
        self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        while True:
            caller, times = next(iter(self._times.items()))
            over = len(self._times) > self._max_callers or self._kept > self._max_times
            if not over and times[-1] + self._seconds > now:
                return
            self._kept -= len(times)
            del self._times[caller]


def check_rate(text: str) -> str:
    """The text of a `Rate`. Raises ValueError, which says what would be right."""
    _parsed(text, _MAX_TIMES)
    return text


def _parsed(text: str, most: int) -> tuple[int, int]:
    """How many, and in how many seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})/(second|minute|hour|day)", text)
    if found is None or int(found[1]) > most:
        raise ValueError(f"rate {text!r} is none: write '100/second', up to {most}, or per minute, hour or day")
    return int(found[1]), _SECONDS[found[2]]


class Rates:
    """`publish`, `connect`: such as `100/second`; None for no bound. `refused`: how many were, of each."""

    def __init__(
        self, *, publish: str | None = None, connect: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ValueError for what is no rate."""
        self._publish = Rate(publish, clock=clock) if publish else None
        self._connect = Rate(connect, clock=clock) if connect else None
        self.refused: dict[str, int] = {"publish": 0, "connect": 0}

    def publish(self, request: HTTPConnection) -> None:
        """Counts a request that publishes. Raises Problem (429)."""
        self._count("publish", self._publish, request, "publish less often, or several events with one request")

    def connect(self, request: HTTPConnection) -> None:
        """Counts a stream that is opened. Raises Problem (429)."""
        self._count("connect", self._connect, request, "keep streams open, and follow several topics with one")

    def _count(self, kind: str, rate: Rate | None, request: HTTPConnection, advice: str) -> None:
        caller = None if rate is None else _caller(request)
        if rate is None or caller is None:
            return
        wait = rate.hit(caller)
        if wait:
            self.refused[kind] += 1
            raise Problem(
                429, f"{rate.text} is how often one may {kind}: {advice}", headers={"Retry-After": str(ceil(wait))}
            )


def count_publish(request: HTTPConnection) -> None:
    """For routes that publish: `PublishRoute` calls it. Raises Problem (429); counts nothing in an application that has
    no `app.state.rates`."""
    rates = _rates(request)
    if rates is not None:
        rates.publish(request)


def count_connect(request: HTTPConnection) -> None:
    """For responses that stream: `EventStream` calls it, and before it what starts the work that it streams. A request
    is counted once. Raises Problem (429)."""
    rates = _rates(request)
    if rates is not None and _COUNTED not in request.scope:
        request.scope[_COUNTED] = True
        rates.connect(request)


def _rates(request: HTTPConnection) -> Rates | None:
    app = request.scope.get("app")
    return getattr(app.state, "rates", None) if app is not None else None


def _caller(request: HTTPConnection) -> str | None:
    """Whose rate it is: the user's, else the address's; None where there is none: for the operator, and for this
    server itself."""
    identity = caller_of(request)
    if identity.way == "own":
        return None  # it was counted when it came from outside
    if identity.owner is not None:
        return identity.owner if identity.known else None
    return f"address:{network_of(request.client.host)}" if request.client else "address:"
