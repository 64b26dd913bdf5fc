"""The relays of one hub."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence

import aiohttp

from ..client import new_session
from ..hub import Hub
from ..hub.job import CONTINUE, DisconnectPolicy, Jobs
from ..stream import Frame
from ..stream.retention import RELAY_RETENTION
from .relay import START, Relay, RelayStats
from .route import Outgoing, Route

__all__ = ["Relays"]


class Relays(Jobs[Relay]):
    """All relays. `journal_bytes`: what the retention of `relays/*` keeps; reading from an upstream pauses while half
    of that is unread. `routes`: those whose relays are recovered after a restart. The other arguments are those of
    `Jobs`. `pseudonym`: this server's name in `Via` (RFC 9110, 7.6.3), by which it recognises its own requests."""

    _kind = Relay.kind

    def __init__(
        self,
        hub: Hub,
        *,
        max_running: int = 1_000,
        max_per_owner: int | None = None,
        max_per_upstream: int | None = None,
        keep_seconds: float = 600.0,
        max_kept: int = 10_000,
        grace_seconds: float = 10.0,
        journal_bytes: int = RELAY_RETENTION.bytes,
        make_session: Callable[[], aiohttp.ClientSession] = new_session,
        routes: Sequence[Route] = (),
    ) -> None:
        super().__init__(
            hub,
            max_running=max_running,
            max_per_owner=max_per_owner,
            max_per_upstream=max_per_upstream,
            keep_seconds=keep_seconds,
            max_kept=max_kept,
            grace_seconds=grace_seconds,
        )
        self.stats = RelayStats()
        self.pseudonym = f"yeoul-{secrets.token_hex(6)}"
        self._max_unread = journal_bytes // 2
        self._make_session = make_session
        self._routes = {route.path: route for route in routes}
        self._session: aiohttp.ClientSession | None = None

    async def start(
        self,
        route: Route,
        request: Outgoing,
        *,
        credential: str | None = None,
        owner: str | None = None,
        policy: DisconnectPolicy = CONTINUE,
        request_key: str | None = None,
    ) -> Relay:
        """Sends the request in a task of its own. `credential`: what is in it and must never be in what is relayed;
        `owner`: whose it is; `request_key`: what `find_abandoned` finds it by. Raises TooMuchWork, HubClosed."""
        await self.open(owner, route.upstream.origin, max_per_upstream=route.upstream.max_running)
        if self._session is None:
            self._session = self._make_session()
        relay = Relay(
            self.hub,
            self._session,
            route,
            request,
            self.stats,
            credential=credential,
            owner=owner,
            policy=policy,
            max_unread=self._max_unread,
        )
        self.stats.started += 1
        return await self.launch(relay, relay.first_event(), request_key)

    def _of_topic(self, id: str, frames: Sequence[Frame]) -> Relay | None:
        if not frames or frames[0].event.type != START:
            return None
        about = json.loads(frames[0].event.data)
        route = self._routes.get(about["path"])
        if route is None:
            return None  # it is not in the table any more
        return Relay(
            self.hub,
            None,
            route,
            None,
            self.stats,
            owner=about["owner"],
            max_unread=self._max_unread,
            id=id,
            created=about["created"],
        )

    async def close(self) -> None:
        await super().close()
        if self._session is not None:
            await self._session.close()
