"""How often one caller may publish, open streams, and send wrong credentials."""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil

from starlette.requests import HTTPConnection
from starlette.types import Scope

from ..addresses import network_of
from .authentication import caller_of
from .errors import Problem

__all__ = ["Rate", "Rates", "check_rate", "count_connect", "count_publish"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}

# Bounds of what is remembered for one rate, however many users and addresses there are; the callers that were counted
# longest ago are forgotten first. A time is 32 bytes, a caller about 1 KB.
_MAX_CALLERS = 20_000
_MAX_TIMES = 1_000_000


class Rate:
    """A number of requests in any period of a length, as in `100/second`: a moving window, which no burst across a
    boundary can double.

    Not from a library: `limits` keeps the windows of callers that never come back, and removes expired ones by walking
    over all callers, in a new thread every 10 ms or, in its asynchronous variant, in a task for each request. Here a
    request takes about a microsecond, and the memory has a bound.
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
        # When the requests of each caller were counted; the caller that was counted longest ago comes first.
        self._times: OrderedDict[str, deque[float]] = OrderedDict()
        self._kept = 0

    def __len__(self) -> int:
        """Callers that are remembered."""
        return len(self._times)

    def hit(self, caller: str) -> float:
        """Counts a request and returns 0; over the rate it counts nothing, and returns the seconds to wait."""
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

    def wait(self, caller: str) -> float:
        """What `hit` would return; counts nothing."""
        times = self._times.get(caller)
        if times is None or len(times) < self._amount:
            return 0.0
        return max(0.0, times[0] + self._seconds - self._clock())

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
    """The number of requests, and the seconds of the period."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})/(second|minute|hour|day)", text)
    if found is None or int(found[1]) > most:
        raise ValueError(
            f"invalid rate {text!r}: write it as '100/second' (or minute, hour, day), with a number of at most {most}"
        )
    return int(found[1]), _SECONDS[found[2]]


class Rates:
    """`publish`, `connect` and `failures` (wrong credentials of one address) are rates such as `100/second`, or None
    for no bound. `refused`: how many requests were over each."""

    def __init__(
        self,
        *,
        publish: str | None = None,
        connect: str | None = None,
        failures: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for an invalid rate."""
        self._publish = Rate(publish, clock=clock) if publish else None
        self._connect = Rate(connect, clock=clock) if connect else None
        self._failures = Rate(failures, clock=clock) if failures else None
        self.refused: dict[str, int] = {"publish": 0, "connect": 0, "failures": 0}

    def publish(self, request: HTTPConnection) -> None:
        """Counts a request that publishes. Raises Problem (429)."""
        self._count("publish", self._publish, request, "publish less often, or several events with one request")

    def connect(self, request: HTTPConnection) -> None:
        """Counts a stream that is opened. Raises Problem (429)."""
        self._count("connect", self._connect, request, "keep streams open, and follow several topics with one")

    def check_failures(self, scope: Scope) -> None:
        """To be called before a credential is verified, which costs more than this does. Raises Problem (429) where the
        client's address has sent too many wrong ones."""
        wait = self._failures.wait(_address(scope)) if self._failures is not None else 0.0
        if wait:
            self.refused["failures"] += 1
            raise _too_many("too many wrong credentials came from your address: send a valid token", wait)

    def count_failure(self, scope: Scope) -> None:
        """Counts a wrong credential."""
        if self._failures is not None:
            self._failures.hit(_address(scope))

    def _count(self, kind: str, rate: Rate | None, request: HTTPConnection, advice: str) -> None:
        caller = None if rate is None else _caller(request)
        if rate is None or caller is None:
            return
        wait = rate.hit(caller)
        if wait:
            self.refused[kind] += 1
            raise _too_many(f"{kind} rate limit exceeded ({rate.text}): {advice}", wait)


def _too_many(detail: str, wait: float) -> Problem:
    return Problem(429, detail, headers={"Retry-After": str(ceil(wait))})


def count_publish(request: HTTPConnection) -> None:
    """For routes that publish: `PublishRoute` calls it. Raises Problem (429); counts nothing in an application that has
    no `app.state.rates`."""
    rates = _rates(request)
    if rates is not None:
        rates.publish(request)


def count_connect(request: HTTPConnection) -> None:
    """For responses that stream: `StreamRequest.of` calls it. Raises Problem (429)."""
    rates = _rates(request)
    if rates is not None:
        rates.connect(request)


def _rates(request: HTTPConnection) -> Rates | None:
    app = request.scope.get("app")
    return getattr(app.state, "rates", None) if app is not None else None


def _caller(request: HTTPConnection) -> str | None:
    """The user, else the network of the address; None for the operator, and for this server itself, which have no
    bound."""
    identity = caller_of(request)
    if identity.way == "own":
        return None  # the request was counted when it came from outside
    if identity.owner is not None:
        return identity.owner if identity.known else None
    return _address(request.scope)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"address:{network_of(client[0])}" if client else "address:"
