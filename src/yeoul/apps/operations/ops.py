"""For those who run it: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ...asgi.authentication import require_admin
from ...asgi.errors import problem
from ...asgi.openapi import FOR_ALL
from ...errors import HubClosed
from ...hub import Hub
from ...hub.health import Probe

__all__ = ["ops"]

# Seconds after which what does not move does not come back by itself. Longer than any hiccup: a restart takes every
# stream with it.
_STUCK = 60.0


def ops(hub: Hub, registry: CollectorRegistry, *, probe: Probe | None = None, open: bool = True) -> APIRouter:
    """`open`: whether `/metrics` is for everybody who can reach this server, or for admins alone. It has no name of a
    user, a topic or an address in it, but how much is going on."""
    router = APIRouter(tags=["operations"])
    probe = probe or Probe(hub)

    @router.get(
        "/livez",
        response_class=PlainTextResponse,
        openapi_extra=FOR_ALL,
        summary="Whether restarting this process would not help",
    )
    async def alive() -> Response:
        """It fails only after a minute in which nothing was delivered although it was published (while the event loop
        stands still, nothing answers); what is wrong elsewhere (a broker that cannot be reached) is told by `/readyz`.
        """
        with suppress(HubClosed, TimeoutError):
            await probe.begin()  # for the next one who asks: this one is answered at once
        if not hub.draining and probe.stuck >= _STUCK:
            return problem(503, f"nothing has been delivered for {probe.stuck:.0f} s: restart this process")
        return PlainTextResponse("ok\n")

    @router.get(
        "/readyz",
        response_class=PlainTextResponse,
        openapi_extra=FOR_ALL,
        summary="Whether new requests should be sent here",
    )
    async def ready() -> Response:
        """An event is published, and has to arrive at a reader within two seconds."""
        if not hub.draining:
            failure = await probe.ask()
            if failure is None:
                return PlainTextResponse("ok\n")
            if not hub.draining:
                return problem(503, failure, headers={"Retry-After": "2"})
        return problem(503, "this server is shutting down", headers={"Retry-After": "1"})

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        openapi_extra=FOR_ALL if open else None,
        summary="Prometheus metrics",
    )
    async def metrics(request: Request) -> Response:
        if not open:
            require_admin(request)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router
