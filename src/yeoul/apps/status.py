"""The server's own state, now and as a stream."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ..asgi.caller import require_subscribe
from ..asgi.documented import problems
from ..asgi.routing import stream_route
from ..asgi.stream_response import EventStream
from ..errors import HubClosed
from ..hub import Hub, Subscription
from ..observe import logger
from .senders import NO_STORE, news
from .vitals import Sample, Vitals

__all__ = ["STATUS", "status"]

STATUS = "system/status"

# Seconds for which a sample is answered again to whoever asks without following: asking costs next to nothing.
_FRESH = 0.5
# Seconds between two looks at the event loop's lag.
_LOOK = 0.25


def status(hub: Hub, *, interval: float) -> APIRouter:
    """`interval`: seconds between two samples. Open to everybody who may follow `system/status`."""
    router = APIRouter(prefix="/system", tags=["system"])
    sampler = _Sampler(hub, interval)

    @router.get("/status", response_model=Sample, responses=problems(401, 403))
    async def now(request: Request) -> Response:
        """How the server is now. `seconds` says what time the rates are of."""
        require_subscribe(request, [STATUS])
        return JSONResponse((await sampler.newest()).model_dump(), headers=NO_STORE)

    @stream_route(router, "/status/stream", responses=problems(400, 401, 403, 429, 503))
    async def stream(request: Request) -> Response:
        """The newest sample at once, then one after each interval. Whoever comes back is not given those it missed."""
        require_subscribe(request, [STATUS])
        return EventStream(hub, STATUS, request, newest=1, afresh=[STATUS])

    return router


class _Sampler:
    """Publishes samples while somebody follows them, by whichever route."""

    def __init__(self, hub: Hub, interval: float) -> None:
        self._hub = hub
        self._interval = interval
        self._vitals = Vitals(hub)
        self._readers: set[Subscription] = set()
        self._running = False
        self._deserted = asyncio.Event()
        self._sample: Sample | None = None
        self._sampled = float("-inf")
        self._published = float("-inf")
        self._taking = asyncio.Lock()  # two samples right after each other would show rates of no time at all
        hub.watch(STATUS, self._on_reader)

    async def newest(self) -> Sample:
        """The one that was published last while some are, else one that is fresh."""
        async with self._taking:
            if self._sample is None or not (self._running or monotonic() - self._sampled < _FRESH):
                await self._take()
            assert self._sample is not None
            return self._sample

    def _on_reader(self, topic: str, reader: Subscription, reason: str | None) -> None:
        if reason is not None:
            self._readers.discard(reader)
            if not self._readers:
                self._deserted.set()
            return
        self._readers.add(reader)
        self._deserted.clear()
        if not self._running:
            self._running = True
            self._hub.spawn(self._run())

    async def _run(self) -> None:
        try:
            while self._readers:
                await self._look(self._published + self._interval)
                if self._readers:
                    await self._publish()
        except HubClosed:
            pass
        finally:
            self._running = False

    async def _look(self, until: float) -> None:
        """At the event loop's lag, now and then, until it is time for a sample or nobody follows any more."""
        while self._readers and monotonic() < until:
            await self._vitals.probe()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK, until - monotonic())):
                    await self._deserted.wait()

    async def _publish(self) -> None:
        self._published = monotonic()
        try:
            async with self._taking:
                sample = await self._take()
            await self._hub.publish(STATUS, news(sample.model_dump()))
        except HubClosed:
            raise
        except Exception:
            # One sample less: those who follow are given the next.
            logger.exception("the server's state could not be published")

    async def _take(self) -> Sample:
        await self._vitals.probe()
        self._sample, self._sampled = self._vitals.take(), monotonic()
        return self._sample
