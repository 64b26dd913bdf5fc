"""What those see who run the server: probes, metrics and the admin API, and what is counted for them."""

from __future__ import annotations

from fastapi import FastAPI

from ..apps.admin import admin
from ..apps.metrics import Counted, Gauges, registry_of
from ..apps.ops import ops
from ..apps.overview import overview_of
from ..apps.rooms import Rooms
from ..asgi.idempotency import IdempotencyKeys
from ..asgi.rates import Rates
from ..auth.tickets import Tickets
from ..hub import Hub
from ..hub.pulse import Pulse
from ..observe import Tally
from ..relay.relays import Relays
from ..settings import Settings
from ..storage.revocations import Revocations

__all__ = ["Watch"]


class Watch:
    """`requests` and `identifications` are what `asgi/measure.py` counts in."""

    def __init__(self, hub: Hub) -> None:
        self.pulse = Pulse(hub.stats)
        self.requests = Tally("method", "route", "status")
        self.identifications = Tally("way", "outcome")

    def show(self, app: FastAPI, settings: Settings, relays: Relays, revocations: Revocations) -> None:
        """Adds the routes, once everything else is in the application's state."""
        hub, generations, rates = app.state.hub, app.state.generations, app.state.rates
        registry = registry_of(
            hub,
            generations,
            relays,
            pulse=self.pulse,
            counted=self._counted(rates, app.state.tickets, app.state.idempotency_keys),
            gauges=_gauges(hub, revocations, app.state.idempotency_keys),
            bounds=_bounds(settings),
        )
        app.include_router(ops(hub, registry, open=settings.open_metrics))
        overview = overview_of(
            hub,
            generations,
            relays,
            self.pulse,
            demo=app.state.authenticator.demo,
            max_connections=settings.max_connections,
            refused=rates.refused,
        )
        app.include_router(admin(hub, overview))

    def _counted(self, rates: Rates, tickets: Tickets, keys: IdempotencyKeys) -> Counted:
        requests, identifications = self.requests, self.identifications
        return {
            "yeoul_requests": ("Requests answered, by route.", requests.labels, requests.counts),
            "yeoul_identifications": (
                "Requests by how they said whom they come from, and whether that was taken.",
                identifications.labels,
                identifications.counts,
            ),
            "yeoul_rate_refusals": ("Requests over a rate, by kind.", ("kind",), rates.refused),
            "yeoul_tickets": ("Tickets issued, used, and used again with a pass.", ("what",), tickets.counts),
            "yeoul_publish_repeats": (
                "Publishes that were answered again for their Idempotency-Key, or refused for it.",
                ("what",),
                keys.counts,
            ),
        }


def _gauges(hub: Hub, revocations: Revocations, keys: IdempotencyKeys) -> Gauges:
    gauges: Gauges = {
        "yeoul_revocations": ("Users whose tokens were taken back.", lambda: len(revocations)),
        "yeoul_idempotency_keys": ("Publishes that are remembered by their Idempotency-Key.", lambda: len(keys)),
    }
    rooms = hub.companions.get(Rooms)
    if not isinstance(rooms, Rooms):
        return gauges
    return {
        **gauges,
        "yeoul_chat_rooms": ("Chat rooms that somebody known is in.", lambda: rooms.rooms),
        "yeoul_chat_places": ("Known users in chat rooms, once for each room.", lambda: rooms.places),
    }


def _bounds(settings: Settings) -> dict[str, int]:
    """Those of the whole server, as the metric names them."""
    return {
        "broker_bytes": settings.memory_max_bytes,
        "broker_topics": settings.memory_max_topics,
        "connections": settings.max_connections,
        "generations": settings.generations_max_running,
        "relays": settings.relays_max_running,
    }
