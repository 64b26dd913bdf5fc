"""The one place that builds the server and wires its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from fastapi import Depends, FastAPI

from . import __version__
from .apps.ask import ask_app
from .apps.auth import auth_app
from .apps.challenges import challenges
from .apps.chat import chat
from .apps.gateway import gateway
from .apps.generations import generations_app
from .apps.index import index
from .apps.lessons import lessons
from .apps.notifications import notifications
from .apps.realtime import realtime
from .apps.recipes import recipes_app
from .apps.revocations import revocations_app
from .apps.status import status
from .apps.topics import topics
from .asgi.caller import require_unbound, require_user
from .asgi.credentials import HideSecrets
from .asgi.handlers import answer_errors_with_problems
from .asgi.hosts import Hosts
from .asgi.idempotency import IdempotencyKeys
from .asgi.identify import Identify
from .asgi.limits import BodyLimit
from .asgi.measure import Measure
from .asgi.openapi import describe
from .asgi.origins import Origins
from .asgi.startup import ClearStart
from .auth.tickets import Tickets
from .documents.manual import shelve_manual
from .documents.retriever import SqliteRetriever
from .hub import Hub
from .hub.work import DisconnectPolicy
from .llm.generations import Generations
from .parts.access import make_authenticator, make_rates, origins_of
from .parts.broker import make_broker
from .parts.description import DESCRIPTION, TAGS
from .parts.providers import make_providers
from .parts.routes import gateway_routes
from .parts.watch import Watch
from .relay.relays import Relays
from .relay.route import Route
from .settings import Settings, environment
from .storage import Database
from .storage.conversations import Conversations
from .storage.recipes import Recipes
from .storage.revocations import Revocations

__all__ = ["create_app"]

# Streams open, and answers being written, at once where the settings do not say: more than a person's tabs, and streams
# than an office behind one address.
_PER_USER = 50
_PER_ADDRESS = 200


def create_app(settings: Settings | None = None, *, routes: Sequence[Route] = ()) -> FastAPI:
    """The server as an ASGI application, for any server that speaks it; `yeoul serve` adds the direct outlet. `routes`:
    of the gateway, beside those of the settings.

    Raises ValueError for settings that do not fit together.
    """
    settings = settings or Settings()
    relayed = [*routes, *gateway_routes(settings)]
    database = Database(settings.data_dir)
    revocations = Revocations(database)
    authenticator = make_authenticator(settings, revoked=revocations.revoked)
    tickets = Tickets(ticket_seconds=settings.ticket_s, revoked=revocations.revoked)
    hub = Hub(
        make_broker(settings, relayed),
        heartbeat=settings.heartbeat_s,
        send_timeout=settings.send_timeout_s,
        max_lifetime=settings.max_lifetime_s,
        retry_ms=settings.retry_ms,
        max_event_bytes=settings.max_event_bytes,
        max_topics_per_reader=settings.max_topics_per_stream,
        max_connections=settings.max_connections,
        # In demo mode all are one user.
        max_connections_per_user=settings.max_connections_per_user or (None if authenticator.demo else _PER_USER),
        max_connections_per_address=settings.max_connections_per_address or _PER_ADDRESS,
        limit_loopback=settings.max_connections_per_address is not None,
        max_replay_bytes=settings.max_replay_bytes,
    )
    watch = Watch(hub)
    answers_per_user = settings.max_answers_per_user or (None if authenticator.demo else _PER_USER)
    generations = Generations(
        hub,
        max_running=settings.generations_max_running,
        max_per_owner=answers_per_user,
        max_seconds=settings.generations_max_s,
        max_chars=settings.generations_max_chars,
        keep_seconds=settings.generations_keep_s,
        max_kept=settings.generations_max_kept,
        grace_seconds=settings.drain_generations_s,
    )
    relays = Relays(
        hub,
        max_running=settings.relays_max_running,
        max_per_owner=answers_per_user,
        keep_seconds=settings.relays_keep_s,
        grace_seconds=settings.drain_generations_s,
        journal_bytes=settings.relay_journal_bytes,
    )
    providers = make_providers(settings)
    retriever = SqliteRetriever(
        settings.data_dir / "documents.db", prepare=shelve_manual if settings.own_documents else None
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with database, retriever:
            # Demo tokens never expire. Clocks may be wrong at both ends of a token's life.
            life = settings.max_token_s + 2 * settings.jwt_leeway_s
            await revocations.load(keep_seconds=None if authenticator.demo else life)
            try:
                async with hub.lifespan(app):
                    with watch.pulse.beating():
                        yield
            finally:
                await authenticator.close()
                await providers.close()

    app = FastAPI(
        title="Yeoul",
        version=__version__,
        summary="Streams to browsers over Server-Sent Events.",
        description=DESCRIPTION,
        openapi_tags=list(TAGS),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.authenticator, app.state.tickets = authenticator, tickets
    _stand_before(app, settings, revocations, watch)
    app.include_router(index())
    lost_reader = DisconnectPolicy(settings.lost_reader_s)
    conversations = Conversations(
        database, max_turns=settings.conversation_turns, keep_seconds=settings.conversation_keep_s
    )
    # What costs money is for those whose name is known, where names are asked for at all.
    known = [Depends(require_unbound)]
    if not (authenticator.demo or settings.open_answers):
        known.append(Depends(require_user))
    for answers in (
        gateway(relays, relayed, lost_reader, environment, partial(tickets.issue, internal=True)),
        lessons(generations, providers, lost_reader),
        generations_app(generations, providers),
        recipes_app(generations, providers, Recipes(database), lost_reader),
        challenges(generations, providers, conversations, lost_reader),
        ask_app(generations, providers, retriever, lost_reader),
    ):
        app.include_router(answers, dependencies=known)
    app.include_router(auth_app(hub, authenticator, tickets, cookie=settings.cookie))
    app.include_router(revocations_app(hub, tickets, revocations))
    app.include_router(notifications(hub))
    app.include_router(realtime(hub))
    app.include_router(chat(hub, history=settings.chat_history, grace=settings.chat_grace_s))
    app.include_router(status(hub, watch.pulse, interval=settings.status_interval_s))
    app.include_router(topics(hub, max_newest=settings.max_newest))
    app.state.rates = make_rates(settings, authenticator.demo)
    answer_errors_with_problems(app)
    describe(
        app,
        cookie=settings.cookie,
        anonymous=authenticator.demo or settings.open_answers,
        query_tokens=authenticator.demo or settings.query_tokens,
    )
    app.state.idempotency_keys = IdempotencyKeys(settings.idempotency_keep_s)
    # For apps of others: docs/add-an-app.md.
    app.state.hub, app.state.generations, app.state.providers = hub, generations, providers
    watch.show(app, settings, relays, revocations)
    return app


def _stand_before(app: FastAPI, settings: Settings, revocations: Revocations, watch: Watch) -> None:
    """What each request goes through before it meets a route."""
    # The last one is the outermost.
    app.add_middleware(ClearStart)
    app.add_middleware(
        Identify,
        authenticator=app.state.authenticator,
        tickets=app.state.tickets,
        revoked=revocations.revoked,
        cookie=settings.cookie,
        query_tokens=settings.query_tokens,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout=settings.body_timeout_s)
    app.add_middleware(Origins, allowed=origins_of(settings, app.state.authenticator.demo))
    app.add_middleware(Hosts, allowed=settings.allowed_hosts)
    app.add_middleware(Measure, requests=watch.requests, identifications=watch.identifications)
    app.add_middleware(HideSecrets)
