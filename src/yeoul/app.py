"""The one place that builds the server and wires its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from . import __version__
from .apps.admin import admin
from .apps.ask import ask_app
from .apps.auth import auth_app
from .apps.challenges import challenges
from .apps.chat import MAX_MESSAGE_BYTES, chat
from .apps.gateway import gateway, recipes_route, with_built_in
from .apps.generations import generations_app
from .apps.index import index
from .apps.lessons import lessons
from .apps.metrics import registry_of
from .apps.notifications import notifications
from .apps.ops import ops
from .apps.overview import overview_of
from .apps.realtime import realtime
from .apps.recipes import recipes_app
from .apps.revocations import revocations_app
from .apps.status import STATUS, status
from .apps.topics import topics
from .asgi.caller import require_user
from .asgi.credentials import HideSecrets
from .asgi.hosts import Hosts
from .asgi.idempotency import IdempotencyKeys
from .asgi.identify import Identify
from .asgi.limits import BodyLimit
from .asgi.measure import Measure
from .asgi.origins import DEMO_ORIGINS, Origins
from .asgi.problem import FAILED, Problem, problem, problem_of
from .asgi.rates import Rates
from .asgi.startup import ClearStart
from .auth.authenticator import Authenticator
from .auth.claims import Rules
from .auth.jwks import Jwks
from .auth.keys import Key, public_keys, secret_key
from .auth.loopback import is_loopback
from .auth.tickets import Tickets
from .auth.tokens import Tokens
from .client.request import Timeouts
from .documents.manual import shelve_manual
from .documents.retriever import SqliteRetriever
from .errors import YeoulError
from .hub import Hub, MemoryBroker
from .hub.broker import Broker
from .hub.pulse import Pulse
from .hub.work import DisconnectPolicy
from .llm.demo import Demo
from .llm.generations import Generations
from .llm.openai import OpenAIChat, OpenAIResponses
from .llm.provider import Provider
from .llm.providers import Providers
from .observe import Tally
from .relay.relays import Relays
from .relay.route import Route
from .relay.table import check_table
from .settings import Settings, Upstream, environment
from .storage import Database
from .storage.conversations import Conversations
from .storage.recipes import Recipes
from .storage.revocations import Revocations
from .stream import Retention
from .stream.retention import Retentions

__all__ = ["create_app", "gateway_routes", "make_authenticator"]

# Streams open at once where the settings do not say: more than a person's tabs, and than an office behind one address.
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
        _broker(settings, relayed),
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
    pulse, requests = Pulse(hub.stats), Tally("method", "route", "status")
    generations = Generations(
        hub,
        max_running=settings.generations_max_running,
        max_seconds=settings.generations_max_s,
        max_chars=settings.generations_max_chars,
        keep_seconds=settings.generations_keep_s,
        max_kept=settings.generations_max_kept,
        grace_seconds=settings.drain_generations_s,
    )
    relays = Relays(
        hub,
        max_running=settings.relays_max_running,
        keep_seconds=settings.relays_keep_s,
        grace_seconds=settings.drain_generations_s,
        journal_bytes=settings.relay_journal_bytes,
    )
    providers = _providers(settings)
    retriever = SqliteRetriever(
        settings.data_dir / "documents.db", prepare=shelve_manual if settings.own_documents else None
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with database, retriever:
            # Demo tokens never expire.
            await revocations.load(keep_seconds=None if authenticator.demo else settings.max_token_s)
            try:
                async with hub.lifespan(app):
                    with pulse.beating():
                        yield
            finally:
                await authenticator.close()
                await providers.close()

    app = FastAPI(
        title="Yeoul",
        version=__version__,
        summary="Streams to browsers over Server-Sent Events.",
        lifespan=lifespan,
        redoc_url=None,
    )
    # The last one is the outermost.
    app.add_middleware(ClearStart)
    app.add_middleware(
        Identify,
        authenticator=authenticator,
        tickets=tickets,
        revoked=revocations.revoked,
        cookie=settings.cookie,
        query_tokens=settings.query_tokens,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout=settings.body_timeout_s)
    app.add_middleware(Origins, allowed=_origins(settings, authenticator.demo))
    app.add_middleware(Hosts, allowed=settings.allowed_hosts)
    app.add_middleware(HideSecrets)
    app.add_middleware(Measure, tally=requests)
    app.include_router(index())
    lost_reader = DisconnectPolicy(settings.lost_reader_s)
    conversations = Conversations(
        database, max_turns=settings.conversation_turns, keep_seconds=settings.conversation_keep_s
    )
    # What costs money is for those whose name is known, where names are asked for at all.
    known = [] if authenticator.demo or settings.open_answers else [Depends(require_user)]
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
    app.include_router(status(hub, interval=settings.status_interval_s))
    app.include_router(topics(hub))
    app.state.rates = _rates(settings, authenticator.demo)
    _answer_errors_with_problems(app)
    app.state.idempotency_keys = IdempotencyKeys(settings.idempotency_keep_s)
    # For apps of others: docs/add-an-app.md.
    app.state.hub, app.state.generations, app.state.providers = hub, generations, providers
    app.state.authenticator, app.state.tickets = authenticator, tickets
    _watch(app, settings, relays, pulse, requests)
    return app


def gateway_routes(settings: Settings) -> list[Route]:
    """The table's, and the built-in ones that it does not replace. Raises ValueError for a mistake in it."""
    routes, mistakes = check_table(list(settings.routes))
    if mistakes:
        raise ValueError("; ".join(map(str, mistakes)) + " (`yeoul routes check` names the lines)")
    return with_built_in(routes, [recipes_route(settings.ai_service_url)])


def make_authenticator(
    settings: Settings, *, revoked: Callable[[str, float | None], bool] | None = None
) -> Authenticator:
    """In demo mode where no key is set. `revoked`: see Authenticator. Raises ValueError for a key that is none, and for
    demo mode where others can reach it."""
    tokens = _tokens(settings)
    if tokens is None and not is_loopback(settings.host):
        raise ValueError(
            f"on {settings.host} others can reach this server, and it has no key to know them by: set YEOUL_JWT_SECRET "
            "(`openssl rand -base64 48`), YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL, or listen on 127.0.0.1"
        )
    return Authenticator(
        demo=tokens is None,
        tokens=tokens,
        revoked=revoked,
        subscribe=settings.subscribe,
        publish=settings.publish,
        open_topics=settings.open_topics,
    )


def _tokens(settings: Settings) -> Tokens | None:
    """None where no key is set."""
    keys: list[Key] = []
    for name, secret in (("jwt_secret", settings.jwt_secret), ("jwt_previous_secret", settings.jwt_previous_secret)):
        if secret is not None:
            with _named(name):
                keys.append(secret_key(secret.get_secret_value()))
    if settings.jwt_public_key is not None:
        with _named("jwt_public_key"):
            keys += public_keys(settings.jwt_public_key)
    jwks = None
    if settings.jwt_jwks_url is not None:
        with _named("jwt_jwks_url"):
            jwks = Jwks(settings.jwt_jwks_url)
    if not keys and jwks is None:
        return None
    rules = Rules(settings.jwt_audience, settings.jwt_issuer, settings.jwt_leeway_s, settings.max_token_s)
    return Tokens(keys, rules, jwks=jwks)


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """What is wrong with a key is told with the setting that it stands in, and without the key."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"setting {setting}: {error}") from error


def _watch(app: FastAPI, settings: Settings, relays: Relays, pulse: Pulse, requests: Tally) -> None:
    """What those see who run it: probes, metrics, and the admin API."""
    hub, generations = app.state.hub, app.state.generations
    rates: Rates = app.state.rates
    registry = registry_of(
        hub,
        generations,
        relays,
        pulse=pulse,
        counted={
            "yeoul_requests": ("Requests answered, by route.", requests.labels, requests.counts),
            "yeoul_rate_refusals": ("Requests over a rate, by kind.", ("kind",), rates.refused),
        },
        bounds={
            "broker_bytes": settings.memory_max_bytes,
            "broker_topics": settings.memory_max_topics,
            "connections": settings.max_connections,
            "generations": settings.generations_max_running,
            "relays": settings.relays_max_running,
        },
    )
    app.include_router(ops(hub, registry, pulse=pulse, open=settings.open_metrics))
    overview = overview_of(
        hub,
        generations,
        relays,
        pulse,
        demo=app.state.authenticator.demo,
        max_connections=settings.max_connections,
        refused=rates.refused,
    )
    app.include_router(admin(hub, overview))


def _origins(settings: Settings, demo: bool) -> Sequence[str]:
    if settings.cors_origins is not None:
        return settings.cors_origins
    return DEMO_ORIGINS if demo else ()


def _rates(settings: Settings, demo: bool) -> Rates:
    publish, connect = (None, None) if demo else ("100/second", "300/minute")
    return Rates(publish=settings.publish_rate or publish, connect=settings.connect_rate or connect)


def _broker(settings: Settings, routes: Sequence[Route]) -> Broker:
    if settings.broker != "memory://":
        raise ValueError(f"broker {settings.broker!r} is not built in: use memory://")
    # Not fewer than a token per four characters of the longest answer, as models cut text; each is counted with about
    # 100 bytes beside its text, of which a character has 4 at most.
    tokens = max(1_000, settings.generations_max_chars // 4)
    answers = Retention(
        events=tokens,
        bytes=tokens * 128 + settings.generations_max_chars * 4,
        seconds=settings.generations_max_s + settings.generations_keep_s,
    )
    relayed = Retention(
        events=settings.relay_journal_bytes // 96,  # no frame counts for less: the bytes are the bound that is met
        bytes=settings.relay_journal_bytes,
        seconds=max(route.max_s for route in routes) + settings.relays_keep_s,
    )
    rules = [(rule.pattern, Retention(rule.events, rule.bytes, rule.seconds)) for rule in settings.retention]
    # Whoever comes to a room, or comes back the next morning, sees what was said last. Who is there and how the server
    # is are told anew to everybody who comes: of that only the newest is kept.
    messages = max(1_000, settings.chat_history)
    said = Retention(messages, max(4 * 1024 * 1024, settings.chat_history * MAX_MESSAGE_BYTES), seconds=86_400)
    moves = Retention(events=500, bytes=256 * 1024, seconds=60)
    samples = Retention(events=5, seconds=2 * settings.status_interval_s)
    apps = [("chat/*/presence", moves), ("chat/*", said), (STATUS, samples)]
    default = Retention(settings.retention_events, settings.retention_bytes, settings.retention_s)
    return MemoryBroker(
        Retentions([("generations/*", answers), ("relays/*", relayed), *rules, *apps], default),
        max_topics=settings.memory_max_topics,
        max_bytes=settings.memory_max_bytes,
    )


def _providers(settings: Settings) -> Providers:
    """Those that have what they need; without a choice the first of them answers, the demo last of all."""
    timeouts = Timeouts(
        connect=settings.upstream_connect_s, first_byte=settings.upstream_first_byte_s, idle=settings.upstream_idle_s
    )
    built: list[Provider] = []
    missing: dict[str, str] = {}
    if settings.openai_api_key is not None:
        key, url, model = settings.openai_api_key.get_secret_value(), settings.openai_base_url, settings.openai_model
        built.append(OpenAIResponses(name="openai", model=model, base_url=url, api_key=key, timeouts=timeouts))
        built.append(OpenAIChat(name="openai-chat", model=model, base_url=url, api_key=key, timeouts=timeouts))
    else:
        missing |= dict.fromkeys(("openai", "openai-chat"), "OPENAI_API_KEY")
    if settings.hf_token is not None:
        built.append(
            OpenAIChat(
                name="huggingface",
                model=settings.huggingface_model,
                base_url=settings.huggingface_base_url,
                api_key=settings.hf_token.get_secret_value(),
                timeouts=timeouts,
            )
        )
    else:
        missing["huggingface"] = "HF_TOKEN"
    default = built[0].name if built else "demo"
    built += [_upstream(name, upstream, timeouts) for name, upstream in settings.upstreams.items()]
    built.append(Demo(pace=settings.demo_pace_s))
    return Providers(built, settings.provider or default, missing)


def _upstream(name: str, upstream: Upstream, timeouts: Timeouts) -> Provider:
    key = upstream.key.get_secret_value() if upstream.key else None
    make = OpenAIChat if upstream.kind == "openai-chat" else OpenAIResponses
    return make(name=name, model=upstream.model, base_url=upstream.url, api_key=key, timeouts=timeouts)


def _answer_errors_with_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    @app.exception_handler(YeoulError)
    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        return problem(500, FAILED)  # Starlette raises it again after this, and the server logs it

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(request, error)


def _invalid(request: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and any(entry["loc"][:1] == ("body",) for entry in errors):
        return problem(415, f"content type {kind or 'missing'!r}: send application/json")
    if any(entry["type"] == "json_invalid" for entry in errors):
        return problem(400, "the body is not JSON: " + str(errors[0].get("ctx", {}).get("error", "")))
    fields = [(".".join(map(str, entry["loc"][1:])) or str(entry["loc"][0]), _said(entry)) for entry in errors]
    return problem(422, "; ".join(f"{name}: {text}" for name, text in fields), fields=fields)


def _said(entry: dict[str, Any]) -> str:
    """What is wrong with a field, in words for whoever sent it."""
    if entry["type"] == "extra_forbidden":
        return "there is no such field"
    return str(entry["msg"]).removeprefix("Value error, ")
