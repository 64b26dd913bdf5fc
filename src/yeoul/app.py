"""`create_app`: puts the server together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from . import __version__
from .apps.answers.ai_sdk import ai_sdk_app
from .apps.answers.ask import ask_app
from .apps.answers.challenges import challenges
from .apps.answers.gateway import gateway
from .apps.answers.generations import generations_app
from .apps.answers.lessons import lessons
from .apps.answers.openai_api import openai_api
from .apps.answers.recipes import recipes_app
from .apps.live.chat import chat
from .apps.live.notifications import notifications
from .apps.live.realtime import realtime
from .apps.live.status import status
from .apps.live.topics import topics
from .apps.operations.admin import admin
from .apps.operations.auth import auth_app
from .apps.operations.index import index
from .apps.operations.metrics import metrics
from .apps.operations.probes import probes
from .apps.operations.revocations import revocations_app
from .asgi.ai_sdk import AiSdkChat
from .asgi.authentication import Authentication, require_unrestricted, require_user
from .asgi.body import BodyLimit
from .asgi.errors import answer_errors_with_problems
from .asgi.gate import Application, Gate
from .asgi.generate import AnswerService
from .asgi.hosts import Hosts
from .asgi.openapi import describe
from .asgi.origins import Origins
from .asgi.relayed import RelayService
from .asgi.routing import HotRoutes
from .factories import Services, allowed_origins, make_overview, make_registry, make_services, running
from .hub.job import DisconnectPolicy
from .relay.route import Route
from .settings import Settings, environment

__all__ = ["create_app"]

_DESCRIPTION = """
Every event belongs to a **topic**; a **stream** is a reader of one or several topics, with a position in them.

* **Streams** are Server-Sent Events. A client that reconnects with the last `id:` it received, as `EventSource` does by
  itself, receives exactly what it missed, or one `stream.gap` event. 204 means that the stream is complete.
* **Authentication** is by a token (`Authorization: Bearer <token>`), by the cookie that holds it, or by a ticket in the
  query.
* **Errors** are problem documents (RFC 9457) that say what would be right.
* **Publishing twice** by accident is prevented by an `Idempotency-Key`.
"""

# In the order in which the reference shows them.
_TAGS: Sequence[tuple[str, str]] = (
    ("topics", "Publish to a topic, follow one or several."),
    ("notifications", "To one user on every device, or to all users."),
    ("realtime", "Live updates of resources, for everyone who shows them."),
    ("chat", "Rooms, who is in them, and who is typing."),
    ("generations", "Answers of models that outlive their readers."),
    ("OpenAI API", "For OpenAI's SDKs: `base_url=…/v1`."),
    ("chat for useChat", "For clients of Vercel's AI SDK."),
    ("ask", "Answers from documents, with their sources."),
    ("lessons", "The smallest streams there are, to learn from."),
    ("recipes", "Recipes: generated, saved, searched."),
    ("challenges", "Recommended challenges, as a conversation."),
    ("gateway", "Streams of other servers, relayed."),
    ("auth", "The current user; tickets, the cookie, and revocations."),
    ("system", "The state of the server, now and as a stream."),
    ("operations", "Probes and metrics."),
    ("admin", "For administrators: connections and topics, and closing them."),
)


def create_app(settings: Settings | None = None, *, routes: Sequence[Route] = ()) -> FastAPI:
    """The server as an ASGI application, for any ASGI server; `yeoul serve` adds the direct outlet. `routes`: gateway
    routes in addition to those of the settings.

    Raises ValueError for settings that contradict each other.
    """
    services = make_services(settings or Settings(), routes)
    app = Application(
        title="Yeoul",
        version=__version__,
        summary="Streams to browsers over Server-Sent Events.",
        description=_DESCRIPTION,
        openapi_tags=[{"name": name, "description": description} for name, description in _TAGS],
        lifespan=partial(_lifespan, services),
        docs_url=None,
        redoc_url=None,
    )
    _offer(app, services)
    hot = HotRoutes()
    for router, dependencies in _routers(services):
        app.include_router(router, dependencies=dependencies)
        hot.add(router, dependencies)
    app.gate = _gate(app, services, hot)
    answer_errors_with_problems(app)
    open_answers = services.demo or services.settings.open_answers
    query_tokens = services.demo or services.settings.query_tokens
    describe(app, cookie=services.settings.cookie, anonymous=open_answers, query_tokens=query_tokens)
    return app


@asynccontextmanager
async def _lifespan(services: Services, app: Application) -> AsyncIterator[None]:
    async with running(services, app):
        app.started = True
        try:
            yield
        finally:
            app.started = False


def _offer(app: FastAPI, services: Services) -> None:
    """What the apps of users take from `app.state` (docs/add-an-app.md). `asgi/rates.py` and `asgi/idempotency.py` read
    the last two, so that an app without them works as well."""
    app.state.hub = services.hub
    app.state.generations = services.generations
    app.state.providers = services.providers
    app.state.rates = services.rates
    app.state.idempotency_keys = services.idempotency_keys


def _gate(app: Application, services: Services, hot: HotRoutes) -> Gate:
    settings = services.settings
    return Gate(
        app,
        hosts=Hosts(settings.allowed_hosts),
        origins=Origins(allowed_origins(settings, services.demo)),
        bodies=BodyLimit(settings.max_body_bytes, settings.body_timeout_s),
        authentication=Authentication(
            services.authenticator,
            services.tickets,
            revoked=services.revocations.revoked,
            cookie=settings.cookie,
            query_tokens=settings.query_tokens,
            failures=services.rates,
        ),
        hot=hot,
        requests=services.requests,
        identifications=services.identifications,
    )


def _routers(services: Services) -> Iterator[tuple[APIRouter, list[Any]]]:
    """Routers with their dependencies, in the order in which a request is matched. The gateway comes first, because its
    routes may replace any other; streams come before what is asked rarely."""
    settings, hub = services.settings, services.hub
    lost_reader = DisconnectPolicy(settings.lost_reader_s)
    answers_of = partial(AnswerService, services.generations, services.providers, on_disconnect=lost_reader)
    # Requests that cost money need a known user, where the server authenticates at all.
    known = [Depends(require_unrestricted)]
    if not (services.demo or settings.open_answers):
        known.append(Depends(require_user))
    own_ticket = partial(services.tickets.issue, internal=True)
    yield gateway(RelayService(services.relays, lost_reader, own_ticket), services.routes, environment), known
    for streams in (
        topics(hub, max_newest=settings.max_newest),
        notifications(hub),
        realtime(hub),
        chat(hub, services.rooms, history=settings.chat_history),
        status(hub, services.monitor, interval=settings.status_interval_s),
        auth_app(hub, services.authenticator, services.tickets, cookie=settings.cookie),
        revocations_app(hub, services.tickets, services.revocations),
    ):
        yield streams, []
    for answers in (
        lessons(answers_of(max_tokens=settings.chat_max_tokens)),
        generations_app(answers_of(max_tokens=settings.generations_max_tokens)),
        openai_api(answers_of(max_tokens=settings.generations_max_tokens)),
        ai_sdk_app(
            answers_of(max_tokens=settings.generations_max_tokens),
            AiSdkChat(hub, version=settings.ai_sdk_version),
        ),
        recipes_app(answers_of(max_tokens=settings.recipes_max_tokens), services.recipes),
        challenges(answers_of(max_tokens=settings.challenges_max_tokens), services.conversations),
        ask_app(answers_of(max_tokens=settings.ask_max_tokens), services.retriever),
    ):
        yield answers, known
    yield index(), []
    yield probes(hub), []
    yield metrics(make_registry(services), open=settings.open_metrics), []
    yield admin(hub, make_overview(services)), []
