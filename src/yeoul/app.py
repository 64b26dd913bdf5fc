"""The one place that puts the server together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from . import __version__
from .apps.answers.ask import ask_app
from .apps.answers.challenges import challenges
from .apps.answers.gateway import gateway
from .apps.answers.generations import generations_app
from .apps.answers.lessons import lessons
from .apps.answers.recipes import recipes_app
from .apps.live.chat import chat
from .apps.live.notifications import notifications
from .apps.live.realtime import realtime
from .apps.live.status import status
from .apps.live.topics import topics
from .apps.operations.auth import auth_app
from .apps.operations.index import index
from .apps.operations.revocations import revocations_app
from .asgi.authentication import HideSecrets, Identify, require_unbound, require_user
from .asgi.body import BodyLimit
from .asgi.errors import ClearStart, answer_errors_with_problems
from .asgi.hosts import Hosts
from .asgi.measure import Measure
from .asgi.openapi import describe
from .asgi.origins import Origins
from .factories import DESCRIPTION, TAGS, Parts, origins_of
from .hub.job import DisconnectPolicy
from .relay.route import Route
from .settings import Settings, environment

__all__ = ["create_app"]


def create_app(settings: Settings | None = None, *, routes: Sequence[Route] = ()) -> FastAPI:
    """The server as an ASGI application, for any server that speaks it; `yeoul serve` adds the direct outlet. `routes`:
    of the gateway, beside those of the settings.

    Raises ValueError for settings that do not fit together.
    """
    settings = settings or Settings()
    parts = Parts(settings, routes)
    app = FastAPI(
        title="Yeoul",
        version=__version__,
        summary="Streams to browsers over Server-Sent Events.",
        description=DESCRIPTION,
        openapi_tags=list(TAGS),
        lifespan=parts.running,
        docs_url=None,
        redoc_url=None,
    )
    # For apps of others: docs/add-an-app.md.
    app.state.hub, app.state.generations, app.state.providers = parts.hub, parts.generations, parts.providers
    app.state.authenticator, app.state.tickets = parts.authenticator, parts.tickets
    app.state.rates, app.state.idempotency_keys = parts.rates, parts.idempotency_keys
    _stand_before(app, parts)
    for router, dependencies in _routers(parts):
        app.include_router(router, dependencies=dependencies)
    app.include_router(index())
    answer_errors_with_problems(app)
    demo = parts.authenticator.demo
    describe(
        app,
        cookie=settings.cookie,
        anonymous=demo or settings.open_answers,
        query_tokens=demo or settings.query_tokens,
    )
    parts.watch.show(app, settings, parts.relays, parts.revocations)
    return app


def _stand_before(app: FastAPI, parts: Parts) -> None:
    """What each request goes through before it meets a route."""
    settings, watch = parts.settings, parts.watch
    # The last one is the outermost.
    app.add_middleware(ClearStart)
    app.add_middleware(
        Identify,
        authenticator=parts.authenticator,
        tickets=parts.tickets,
        revoked=parts.revocations.revoked,
        cookie=settings.cookie,
        query_tokens=settings.query_tokens,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout=settings.body_timeout_s)
    app.add_middleware(Origins, allowed=origins_of(settings, parts.authenticator.demo))
    app.add_middleware(Hosts, allowed=settings.allowed_hosts)
    app.add_middleware(Measure, requests=watch.requests, identifications=watch.identifications)
    app.add_middleware(HideSecrets)


def _routers(parts: Parts) -> Iterator[tuple[APIRouter, list[Any]]]:
    """With their dependencies, in the order in which a request tries them: a route of the gateway's table may stand in
    for any other, and streams, to which thousands connect at once, come before what is asked now and then."""
    settings, hub, generations, providers = parts.settings, parts.hub, parts.generations, parts.providers
    lost_reader = DisconnectPolicy(settings.lost_reader_s)
    # What costs money is for those whose name is known, where names are asked for at all.
    known = [Depends(require_unbound)]
    if not (parts.authenticator.demo or settings.open_answers):
        known.append(Depends(require_user))
    own_ticket = partial(parts.tickets.issue, internal=True)
    yield gateway(parts.relays, parts.routes, lost_reader, environment, own_ticket), known
    for streams in (
        topics(hub, max_newest=settings.max_newest),
        notifications(hub),
        realtime(hub),
        chat(hub, history=settings.chat_history, grace=settings.chat_grace_s),
        status(hub, parts.watch.pulse, interval=settings.status_interval_s),
        auth_app(hub, parts.authenticator, parts.tickets, cookie=settings.cookie),
        revocations_app(hub, parts.tickets, parts.revocations),
    ):
        yield streams, []
    for answers in (
        lessons(generations, providers, lost_reader),
        generations_app(generations, providers),
        recipes_app(generations, providers, parts.recipes, lost_reader),
        challenges(generations, providers, parts.conversations, lost_reader),
        ask_app(generations, providers, parts.retriever, lost_reader),
    ):
        yield answers, known
