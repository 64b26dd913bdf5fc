"""Probes: whether the process is alive, and whether it is ready for requests."""

from __future__ import annotations

from contextlib import suppress

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response

from ...asgi.errors import problem
from ...asgi.openapi import FOR_ALL
from ...errors import HubClosed
from ...hub import Hub
from ...hub.health import Probe

__all__ = ["probes"]

# Seconds without a delivery after which only a restart helps. Longer than any hiccup: a restart ends all streams.
_STUCK_S = 60.0


def probes(hub: Hub, *, probe: Probe | None = None) -> APIRouter:
    router = APIRouter(tags=["operations"])
    probe = probe or Probe(hub)

    @router.get(
        "/livez", response_class=PlainTextResponse, openapi_extra=FOR_ALL, summary="Check that the process is alive"
    )
    async def alive() -> Response:
        """Fails only after a minute in which nothing that was published was delivered: a restart helps then. (While the
        event loop is blocked, nothing answers.) A broker that cannot be reached fails `/readyz`, not this."""
        with suppress(HubClosed, TimeoutError):
            await probe.begin()  # its outcome is for the next request: this one is answered at once
        if not hub.draining and probe.stuck >= _STUCK_S:
            return problem(503, f"nothing has been delivered for {probe.stuck:.0f} s: restart this process")
        return PlainTextResponse("ok\n")

    @router.get(
        "/readyz",
        response_class=PlainTextResponse,
        openapi_extra=FOR_ALL,
        summary="Check that the server is ready for requests",
    )
    async def ready() -> Response:
        """Publishes an event, which must reach a reader within two seconds."""
        if not hub.draining:
            failure = await probe.ask()
            if failure is None:
                return PlainTextResponse("ok\n")
            if not hub.draining:
                return problem(503, failure, headers={"Retry-After": "2"})
        return problem(503, "this server is shutting down", headers={"Retry-After": "1"})

    return router
