"""Everything that the server is made of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..asgi.idempotency import IdempotencyKeys
from ..auth.tickets import Tickets
from ..documents.manual import shelve_manual
from ..documents.retriever import SqliteRetriever
from ..hub import Hub
from ..llm.generations import Generations
from ..relay.relays import Relays
from ..relay.route import Route
from ..settings import Settings
from ..storage import Database
from ..storage.conversations import Conversations
from ..storage.recipes import Recipes
from ..storage.revocations import Revocations
from .access import make_authenticator, make_rates
from .broker import make_broker
from .providers import make_providers
from .routes import gateway_routes
from .watch import Watch

__all__ = ["Parts"]

# Streams open, and answers being written, at once where the settings do not say: more than a person's tabs, and streams
# than an office behind one address.
_PER_USER = 50
_PER_ADDRESS = 200


class Parts:
    """Raises ValueError for settings that do not fit together."""

    def __init__(self, settings: Settings, routes: Sequence[Route]) -> None:
        self.settings = settings
        self.routes = [*routes, *gateway_routes(settings)]
        self.database = Database(settings.data_dir)
        self.revocations = Revocations(self.database)
        self.authenticator = make_authenticator(settings, revoked=self.revocations.revoked)
        self.tickets = Tickets(ticket_seconds=settings.ticket_s, revoked=self.revocations.revoked)
        per_user = None if self.authenticator.demo else _PER_USER  # in demo mode all are one user
        self.hub = Hub(
            make_broker(settings, self.routes),
            heartbeat=settings.heartbeat_s,
            send_timeout=settings.send_timeout_s,
            max_lifetime=settings.max_lifetime_s,
            retry_ms=settings.retry_ms,
            max_event_bytes=settings.max_event_bytes,
            max_topics_per_reader=settings.max_topics_per_stream,
            max_connections=settings.max_connections,
            max_connections_per_user=settings.max_connections_per_user or per_user,
            max_connections_per_address=settings.max_connections_per_address or _PER_ADDRESS,
            limit_loopback=settings.max_connections_per_address is not None,
            max_replay_bytes=settings.max_replay_bytes,
        )
        self.watch = Watch(self.hub)
        self.generations = Generations(
            self.hub,
            max_running=settings.generations_max_running,
            max_per_owner=settings.max_answers_per_user or per_user,
            max_seconds=settings.generations_max_s,
            max_chars=settings.generations_max_chars,
            keep_seconds=settings.generations_keep_s,
            max_kept=settings.generations_max_kept,
            grace_seconds=settings.drain_generations_s,
        )
        self.relays = Relays(
            self.hub,
            max_running=settings.relays_max_running,
            max_per_owner=settings.max_answers_per_user or per_user,
            keep_seconds=settings.relays_keep_s,
            grace_seconds=settings.drain_generations_s,
            journal_bytes=settings.relay_journal_bytes,
        )
        self.providers = make_providers(settings)
        self.retriever = SqliteRetriever(
            settings.data_dir / "documents.db", prepare=shelve_manual if settings.own_documents else None
        )
        self.conversations = Conversations(
            self.database, max_turns=settings.conversation_turns, keep_seconds=settings.conversation_keep_s
        )
        self.recipes = Recipes(self.database)
        self.rates = make_rates(settings, self.authenticator.demo)
        self.idempotency_keys = IdempotencyKeys(settings.idempotency_keep_s)

    @asynccontextmanager
    async def running(self, app: object) -> AsyncIterator[None]:
        """The lifespan of the application."""
        # Demo tokens never expire. Clocks may be wrong at both ends of a token's life.
        life = self.settings.max_token_s + 2 * self.settings.jwt_leeway_s
        async with self.database, self.retriever:
            await self.revocations.load(keep_seconds=None if self.authenticator.demo else life)
            self.authenticator.open()
            try:
                async with self.hub.lifespan(app):
                    with self.watch.pulse.beating():
                        yield
            finally:
                await self.authenticator.close()
                await self.providers.close()
