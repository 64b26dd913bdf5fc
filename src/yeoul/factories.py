"""Builds each part of the server from the settings; `create_app` connects the parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry

from .addresses import is_loopback
from .apps.answers.gateway import recipes_route, with_built_in
from .apps.live.chat import MAX_MESSAGE_BYTES
from .apps.live.rooms import Rooms
from .apps.live.status import STATUS
from .apps.operations.metrics import Counters, Gauges, registry_of
from .apps.operations.overview import Overview, overview_of
from .asgi.idempotency import IdempotencyKeys
from .asgi.origins import DEMO_ORIGINS
from .asgi.rates import Rates
from .auth.authenticator import Authenticator
from .auth.jwks import Jwks
from .auth.keys import Key, public_keys, secret_key
from .auth.tickets import Tickets
from .auth.tokens import Rules, Tokens
from .client import Timeouts
from .documents.manual import index_manual
from .documents.retriever import SqliteRetriever
from .hub import Hub, MemoryBroker, SqliteBroker
from .hub.broker import Broker
from .hub.health import LoopMonitor
from .llm.demo import Demo
from .llm.generations import Generations
from .llm.openai import OpenAIChat, OpenAIResponses, Options
from .llm.provider import Provider
from .llm.providers import Providers
from .observe import Tally
from .relay.relays import Relays
from .relay.route import Route
from .relay.table import check_table
from .settings import Settings, Upstream
from .storage import Database
from .storage.conversations import Conversations
from .storage.recipes import Recipes
from .storage.revocations import Revocations
from .stream import Retention
from .stream.retention import Retentions

__all__ = [
    "Services",
    "allowed_origins",
    "gateway_routes",
    "make_authenticator",
    "make_broker",
    "make_overview",
    "make_providers",
    "make_rates",
    "make_registry",
    "make_services",
    "running",
    "token_rules",
]

# Default limits on the open streams, and on the answers in progress, of one user: more than a person's tabs. And on the
# open streams of one address: more than an office behind one NAT.
_PER_USER = 50
_PER_ADDRESS = 200


@dataclass(frozen=True)
class Services:
    """Everything that outlives a request, built once per application. `requests` and `identifications` are the counters
    of HTTP requests and of how their senders identified themselves."""

    settings: Settings
    routes: Sequence[Route]
    database: Database
    revocations: Revocations
    authenticator: Authenticator
    tickets: Tickets
    hub: Hub
    monitor: LoopMonitor
    rooms: Rooms
    generations: Generations
    relays: Relays
    providers: Providers
    retriever: SqliteRetriever
    conversations: Conversations
    recipes: Recipes
    rates: Rates
    idempotency_keys: IdempotencyKeys
    requests: Tally
    identifications: Tally

    @property
    def demo(self) -> bool:
        """Whether the server has no key, and so treats every user of this machine as an administrator."""
        return self.authenticator.demo


def make_services(settings: Settings, routes: Sequence[Route] = ()) -> Services:
    """`routes`: gateway routes in addition to those of the settings. Opens no file and no connection: `running` does.

    Raises ValueError for settings that contradict each other.
    """
    all_routes = [*routes, *gateway_routes(settings)]
    database = Database(settings.data_dir)
    revocations = Revocations(database)
    authenticator = make_authenticator(settings, revoked=revocations.revoked)
    demo = authenticator.demo
    hub = _make_hub(settings, make_broker(settings, all_routes), demo)
    return Services(
        settings=settings,
        routes=all_routes,
        database=database,
        revocations=revocations,
        authenticator=authenticator,
        tickets=Tickets(ticket_seconds=settings.ticket_s, revoked=revocations.revoked),
        hub=hub,
        monitor=LoopMonitor(hub.stats),
        rooms=Rooms(hub, grace=settings.chat_grace_s),
        generations=_make_generations(settings, hub, demo),
        relays=_make_relays(settings, hub, demo, all_routes),
        providers=make_providers(settings),
        retriever=_make_retriever(settings),
        conversations=Conversations(
            database, max_turns=settings.conversation_turns, keep_seconds=settings.conversation_keep_s
        ),
        recipes=Recipes(database),
        rates=make_rates(settings, demo),
        idempotency_keys=IdempotencyKeys(settings.idempotency_keep_s),
        requests=Tally("method", "route", "status"),
        identifications=Tally("way", "outcome"),
    )


@asynccontextmanager
async def running(services: Services, app: object) -> AsyncIterator[None]:
    """The application's lifespan: opens what `make_services` built, and closes it in reverse order."""
    settings, authenticator = services.settings, services.authenticator
    # The longest time for which a revoked token could still be valid: clocks may be wrong at both ends of its life.
    # Demo tokens never expire.
    longest = None if authenticator.demo else settings.max_token_s + 2 * settings.jwt_leeway_s
    async with services.database, services.retriever:
        await services.revocations.load(keep_seconds=longest)
        authenticator.open()
        try:
            async with services.hub.lifespan(app):
                await services.generations.recover()
                await services.relays.recover()
                with services.monitor.running():
                    yield
        finally:
            await authenticator.close()
            await services.providers.close()


# --- who may do what


def make_authenticator(
    settings: Settings, *, revoked: Callable[[str, float | None], bool] | None = None
) -> Authenticator:
    """In demo mode where no key is set. `revoked`: see Authenticator.

    Raises ValueError for an invalid key, and where demo mode would be reachable from other machines.
    """
    tokens = _make_tokens(settings)
    if tokens is None and not is_loopback(settings.host):
        raise ValueError(
            f"on {settings.host} other machines can reach this server, and no key is set to authenticate them: set "
            "YEOUL_JWT_SECRET (`openssl rand -base64 48`), YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL, or listen on "
            "127.0.0.1"
        )
    return Authenticator(
        demo=tokens is None,
        tokens=tokens,
        revoked=revoked,
        subscribe=settings.subscribe,
        publish=settings.publish,
        open_topics=settings.open_topics,
    )


def _make_tokens(settings: Settings) -> Tokens | None:
    """None where no key is set."""
    keys: list[Key] = []
    for name, secret in (("jwt_secret", settings.jwt_secret), ("jwt_previous_secret", settings.jwt_previous_secret)):
        if secret is not None:
            with _naming(name):
                keys.append(secret_key(secret.get_secret_value()))
    if settings.jwt_public_key is not None:
        with _naming("jwt_public_key"):
            keys += public_keys(settings.jwt_public_key)
    jwks = None
    if settings.jwt_jwks_url is not None:
        with _naming("jwt_jwks_url"):
            jwks = Jwks(settings.jwt_jwks_url)
    if not keys and jwks is None:
        return None
    return Tokens(keys, token_rules(settings), jwks=jwks)


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Adds the setting's name, and not its value, to the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"setting {setting}: {error}") from error


def token_rules(settings: Settings) -> Rules:
    """The registered claims that a token must have."""
    return Rules(settings.jwt_audience, settings.jwt_issuer, settings.jwt_leeway_s, settings.max_token_s)


def allowed_origins(settings: Settings, demo: bool) -> Sequence[str]:
    """Origins of other sites whose pages may use this server."""
    if settings.cors_origins is not None:
        return settings.cors_origins
    return DEMO_ORIGINS if demo else ()


def make_rates(settings: Settings, demo: bool) -> Rates:
    publish, connect, failures = (None, None, None) if demo else ("100/second", "300/minute", "300/minute")
    return Rates(
        publish=settings.publish_rate or publish,
        connect=settings.connect_rate or connect,
        failures=settings.auth_failure_rate or failures,
    )


# --- events

_SQLITE = "sqlite:///"


def make_broker(settings: Settings, routes: Sequence[Route]) -> Broker:
    """The one that `settings.broker` names, by default SQLite in the data directory. Raises ValueError for another."""
    url = settings.broker or f"{_SQLITE}{settings.data_dir / 'broker.db'}"
    retentions = _retentions(settings, routes)
    topics, size = settings.memory_max_topics, settings.memory_max_bytes
    if url == "memory://":
        return MemoryBroker(retentions, max_topics=topics, max_bytes=size)
    file = url.removeprefix(_SQLITE)
    if file == url or not file or set(file) & set("?#"):
        raise ValueError(
            f"unknown broker {url!r}: use memory://, or sqlite:///FILE (sqlite:////var/lib/yeoul/broker.db for an "
            "absolute path)"
        )
    return SqliteBroker(file, retentions, max_topics=topics, max_bytes=size)


def _retentions(settings: Settings, routes: Sequence[Route]) -> Retentions:
    # One event per token: models produce about one token per four characters. Each event counts about 100 bytes besides
    # its text, whose characters have up to 4 bytes in UTF-8.
    tokens = max(1_000, settings.generations_max_chars // 4)
    answers = Retention(
        events=tokens,
        bytes=tokens * 128 + settings.generations_max_chars * 4,
        seconds=settings.generations_max_s + settings.generations_keep_s,
    )
    relayed = Retention(
        events=settings.relay_journal_bytes // 96,  # no event counts fewer bytes, so the bytes are the effective bound
        bytes=settings.relay_journal_bytes,
        seconds=max(route.max_s for route in routes) + settings.relays_keep_s,
    )
    rules = [(rule.pattern, Retention(rule.events, rule.bytes, rule.seconds)) for rule in settings.retention]
    # Chat messages are kept for a day, for users who come back the next morning. Presence and status are sent anew on
    # each connect, so that only the newest events are needed.
    said = max(1_000, settings.chat_history)
    messages = Retention(said, max(4 * 1024 * 1024, settings.chat_history * MAX_MESSAGE_BYTES), seconds=86_400)
    presence = Retention(events=500, bytes=256 * 1024, seconds=60)
    samples = Retention(events=5, seconds=2 * settings.status_interval_s)
    apps = [("chat/*/presence", presence), ("chat/*", messages), (STATUS, samples)]
    default = Retention(settings.retention_events, settings.retention_bytes, settings.retention_s)
    return Retentions([("generations/*", answers), ("relays/*", relayed), *rules, *apps], default)


def _make_hub(settings: Settings, broker: Broker, demo: bool) -> Hub:
    return Hub(
        broker,
        heartbeat=settings.heartbeat_s,
        send_timeout=settings.send_timeout_s,
        max_lifetime=settings.max_lifetime_s,
        retry_ms=settings.retry_ms,
        max_event_bytes=settings.max_event_bytes,
        max_topics_per_reader=settings.max_topics_per_stream,
        max_connections=settings.max_connections,
        max_connections_per_user=settings.max_connections_per_user or _per_user(demo),
        max_connections_per_address=settings.max_connections_per_address or _PER_ADDRESS,
        limit_loopback=settings.max_connections_per_address is not None,
        max_replay_bytes=settings.max_replay_bytes,
    )


def _per_user(demo: bool) -> int | None:
    return None if demo else _PER_USER  # in demo mode all requests come from one user


# --- answers


def _make_generations(settings: Settings, hub: Hub, demo: bool) -> Generations:
    return Generations(
        hub,
        max_running=settings.generations_max_running,
        max_per_owner=settings.max_answers_per_user or _per_user(demo),
        max_per_provider=settings.generations_max_per_provider or _per_upstream(settings.generations_max_running),
        max_seconds=settings.generations_max_s,
        max_chars=settings.generations_max_chars,
        keep_seconds=settings.generations_keep_s,
        max_kept=settings.generations_max_kept,
        grace_seconds=settings.drain_generations_s,
        show_details=demo if settings.show_upstream_errors is None else settings.show_upstream_errors,
    )


def _make_relays(settings: Settings, hub: Hub, demo: bool, routes: Sequence[Route]) -> Relays:
    return Relays(
        hub,
        max_running=settings.relays_max_running,
        max_per_owner=settings.max_answers_per_user or _per_user(demo),
        max_per_upstream=settings.relays_max_per_upstream or _per_upstream(settings.relays_max_running),
        keep_seconds=settings.relays_keep_s,
        grace_seconds=settings.drain_generations_s,
        journal_bytes=settings.relay_journal_bytes,
        routes=routes,
    )


def _per_upstream(most: int) -> int:
    """The default for one provider or upstream: a fifth stays free for the others when it is slow."""
    return max(1, most * 4 // 5)


def _make_retriever(settings: Settings) -> SqliteRetriever:
    prepare = index_manual if settings.own_documents else None
    return SqliteRetriever(settings.data_dir / "documents.db", prepare=prepare)


def make_providers(settings: Settings) -> Providers:
    """Providers whose key or URL is set, and the demo provider. The default is the first of OpenAI, Hugging Face and
    the demo that is there, unless the settings name one."""
    timeouts = Timeouts(
        connect=settings.upstream_connect_s,
        first_byte=settings.upstream_first_byte_s,
        first_event=settings.upstream_first_token_s,
        idle=settings.upstream_idle_s,
        comments_count=settings.upstream_comments_count,
    )
    built: list[Provider] = []
    missing: dict[str, str] = {}
    if settings.openai_api_key is not None:
        built += _make_openai(settings, settings.openai_api_key.get_secret_value(), timeouts)
    else:
        missing |= dict.fromkeys(("openai", "openai-chat"), "OPENAI_API_KEY")
    if settings.hf_token is not None:
        built.append(
            OpenAIChat(
                name="huggingface",
                model=settings.huggingface_model,
                models=settings.huggingface_models,
                base_url=settings.huggingface_base_url,
                api_key=settings.hf_token.get_secret_value(),
                timeouts=timeouts,
            )
        )
    else:
        missing["huggingface"] = "HF_TOKEN"
    default = built[0].name if built else "demo"
    built += [_make_upstream(name, upstream, timeouts) for name, upstream in settings.upstreams.items()]
    built.append(Demo(pace=settings.demo_pace_s))
    return Providers(built, settings.provider or default, missing)


def _make_openai(settings: Settings, key: str, timeouts: Timeouts) -> list[Provider]:
    """OpenAI's two APIs, the one first that the server at this URL has: OpenAI itself has both."""
    options = Options(base_url=settings.openai_base_url, api_key=key, models=settings.openai_models, timeouts=timeouts)
    responses = OpenAIResponses(name="openai", model=settings.openai_model, **options)
    chat = OpenAIChat(name="openai-chat", model=settings.openai_model, **options)
    return [responses, chat] if responses.base_url.startswith("https://api.openai.com/") else [chat, responses]


def _make_upstream(name: str, upstream: Upstream, timeouts: Timeouts) -> Provider:
    own: dict[str, Any] = {
        "connect": upstream.connect_s,
        "first_byte": upstream.first_byte_s,
        "first_event": upstream.first_token_s,
        "idle": upstream.idle_s,
        "comments_count": upstream.comments_count,
    }
    options = Options(
        base_url=upstream.url,
        api_key=upstream.key.get_secret_value() if upstream.key else None,
        headers={name: value.get_secret_value() for name, value in upstream.headers.items()},
        models=upstream.models,
        timeouts=replace(timeouts, **{field: value for field, value in own.items() if value is not None}),
    )
    if upstream.kind == "openai":
        return OpenAIResponses(name=name, model=upstream.model, **options)
    return OpenAIChat(
        name=name,
        model=upstream.model,
        include_usage=upstream.usage,
        max_tokens_field=upstream.max_tokens_field,
        **options,
    )


def gateway_routes(settings: Settings) -> list[Route]:
    """The routes of the settings, and the built-in ones whose path they do not use. Raises ValueError for mistakes in
    the table."""
    routes, mistakes = check_table(list(settings.routes))
    if mistakes:
        raise ValueError("; ".join(map(str, mistakes)) + " (`yeoul routes check` names the lines)")
    return with_built_in(routes, [recipes_route(settings.ai_service_url)])


# --- operations


def make_overview(services: Services) -> Callable[[], Overview]:
    """What `/admin/overview` answers, taken whenever it is called."""
    return overview_of(
        services.hub,
        services.generations,
        services.relays,
        services.monitor,
        demo=services.demo,
        max_connections=services.settings.max_connections,
        refused=services.rates.refused,
    )


def make_registry(services: Services) -> CollectorRegistry:
    """What `/metrics` shows."""
    return registry_of(
        services.hub,
        services.generations,
        services.relays,
        monitor=services.monitor,
        counters=_counters(services),
        gauges=_gauges(services),
        bounds=_bounds(services.settings),
    )


def _counters(services: Services) -> Counters:
    requests, identifications = services.requests, services.identifications
    return {
        "yeoul_requests": ("Requests answered, by route.", requests.labels, requests.counts),
        "yeoul_identifications": (
            "Requests by the kind of credential that they had, and its outcome.",
            identifications.labels,
            identifications.counts,
        ),
        "yeoul_rate_refusals": ("Requests over a rate limit, by kind.", ("kind",), services.rates.refused),
        "yeoul_tickets": (
            "Tickets issued, used, and used again with a pass.",
            ("what",),
            services.tickets.counts,
        ),
        "yeoul_publish_repeats": (
            "Publishes that repeated an Idempotency-Key, by outcome.",
            ("what",),
            services.idempotency_keys.counts,
        ),
    }


def _gauges(services: Services) -> Gauges:
    revocations, keys, rooms = services.revocations, services.idempotency_keys, services.rooms
    return {
        "yeoul_revocations": ("Users whose tokens are revoked.", lambda: len(revocations)),
        "yeoul_idempotency_keys": ("Idempotency-Keys that are remembered.", lambda: len(keys)),
        "yeoul_chat_rooms": ("Chat rooms with at least one member.", lambda: rooms.count),
        "yeoul_chat_places": ("Members of chat rooms, counted once per room.", lambda: rooms.places),
    }


def _bounds(settings: Settings) -> dict[str, int]:
    """The limits of the whole server, by the label of the metric."""
    return {
        "broker_bytes": settings.memory_max_bytes,
        "broker_topics": settings.memory_max_topics,
        "connections": settings.max_connections,
        "generations": settings.generations_max_running,
        "relays": settings.relays_max_running,
    }
