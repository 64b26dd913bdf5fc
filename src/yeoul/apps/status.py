"""The server's own state, now and as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ..asgi.caller import require_subscribe
from ..asgi.openapi import FOR_ALL
from ..asgi.routing import stream_route
from ..asgi.stream_response import EventStream
from ..hub import Hub
from ..hub.producer import Producer
from ..hub.pulse import Pulse
from ..sse import Event
from .senders import NO_STORE, news
from .vitals import Sample, Vitals

__all__ = ["STATUS", "status"]

STATUS = "system/status"

# Seconds for which a sample is answered again to whoever asks without following: asking costs next to nothing, and two
# samples right after each other would show processors over no time at all.
_FRESH = 0.5


def status(hub: Hub, pulse: Pulse, *, interval: float) -> APIRouter:
    """`interval`: seconds between two samples. Open to everybody who may follow `system/status`."""
    router = APIRouter(prefix="/system", tags=["system"])
    sampler = _Sampler(hub, pulse, interval)

    @router.get("/status", response_model=Sample, openapi_extra=FOR_ALL, summary="How the server is")
    async def now(request: Request) -> Response:
        """How the server is now. `seconds` says what time the percentages of processors are of."""
        require_subscribe(request, [STATUS])
        return JSONResponse(sampler.newest().model_dump(), headers=NO_STORE)

    @stream_route(router, "/status/stream", openapi_extra=FOR_ALL, summary="How the server is, again and again")
    async def stream(request: Request) -> Response:
        """The newest sample at once, then one after each interval. Whoever comes back is not given those it missed."""
        require_subscribe(request, [STATUS])
        return EventStream(hub, STATUS, request, newest=1, afresh=[STATUS])

    return router


class _Sampler:
    """Publishes samples while somebody follows them, by whichever route."""

    def __init__(self, hub: Hub, pulse: Pulse, interval: float) -> None:
        self._interval = interval
        self._vitals = Vitals(hub, pulse)
        self._sample: Sample | None = None
        self._sampled = 0.0
        # Without a linger: whoever comes back is given the newest sample at once, and missed ones by nobody.
        self._producer = Producer(hub, STATUS, self._samples, linger=0)

    def newest(self) -> Sample:
        """The one that was published last while some are, else one that is fresh."""
        if self._sample is None or not (self._producer.running or monotonic() - self._sampled < _FRESH):
            return self._take()
        return self._sample

    async def _samples(self) -> AsyncIterator[Event]:
        while True:
            yield news(self._take().model_dump())
            await asyncio.sleep(self._interval)

    def _take(self) -> Sample:
        self._sample, self._sampled = self._vitals.take(), monotonic()
        return self._sample
