"""Who is let in, from where, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from fastapi import FastAPI

from .apps.answers.gateway import recipes_route, with_built_in
from .apps.live.chat import MAX_MESSAGE_BYTES
from .apps.live.rooms import Rooms
from .apps.live.status import STATUS
from .apps.operations.admin import admin, overview_of
from .apps.operations.metrics import Counted, Gauges, registry_of
from .apps.operations.ops import ops
from .asgi.idempotency import IdempotencyKeys
from .asgi.origins import DEMO_ORIGINS
from .asgi.rates import Rates
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
from .hub import Hub, MemoryBroker
from .hub.broker import Broker
from .hub.health import Pulse
from .llm.demo import Demo
from .llm.generations import Generations
from .llm.openai import OpenAIChat, OpenAIResponses
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
    "DESCRIPTION",
    "TAGS",
    "Parts",
    "Watch",
    "gateway_routes",
    "make_authenticator",
    "make_broker",
    "make_providers",
    "make_rates",
    "origins_of",
    "token_rules",
]


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
    return Tokens(keys, token_rules(settings), jwks=jwks)


def token_rules(settings: Settings) -> Rules:
    """What a token's claims have to say."""
    return Rules(settings.jwt_audience, settings.jwt_issuer, settings.jwt_leeway_s, settings.max_token_s)


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """What is wrong with a key is told with the setting that it stands in, and without the key."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"setting {setting}: {error}") from error


def origins_of(settings: Settings, demo: bool) -> Sequence[str]:
    """The pages of other sites that are let in."""
    if settings.cors_origins is not None:
        return settings.cors_origins
    return DEMO_ORIGINS if demo else ()


def make_rates(settings: Settings, demo: bool) -> Rates:
    publish, connect = (None, None) if demo else ("100/second", "300/minute")
    return Rates(publish=settings.publish_rate or publish, connect=settings.connect_rate or connect)


def make_broker(settings: Settings, routes: Sequence[Route]) -> Broker:
    """Raises ValueError for one that there is not."""
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


DESCRIPTION = """
Everything that happens is an event in a **topic**; a **stream** is a reader of topics with a position in them.

* **Streams** are Server-Sent Events. Whoever comes back with the last `id:` that it had, as `EventSource` does by
  itself, gets exactly what it missed, or one `stream.gap` event. 204 says: nothing more is to come.
* **Who you are** is said by a token, `Authorization: Bearer <token>`, by the cookie that holds it, or by a ticket in
  the address.
* **What goes wrong** is told by a problem document (RFC 9457) that says what would be right.
* **Publishing twice** by accident is prevented by an `Idempotency-Key`.
"""


def _tag(name: str, description: str) -> dict[str, str]:
    return {"name": name, "description": description}


# In the order in which they are shown.
TAGS: Sequence[dict[str, str]] = (
    _tag("topics", "Publish to a topic, follow one or several."),
    _tag("notifications", "To one user on every device, or to everybody."),
    _tag("realtime", "What has become of things: live updates for whoever shows them."),
    _tag("chat", "Rooms, who is in them, and who is typing."),
    _tag("generations", "Answers of models that survive their readers."),
    _tag("ask", "Answers from documents, with their sources."),
    _tag("lessons", "The smallest streams there are, to learn from."),
    _tag("recipes", "Recipes: generated, saved, searched."),
    _tag("challenges", "Recommended challenges, as a conversation."),
    _tag("gateway", "Streams of other servers, relayed."),
    _tag("auth", "Who you are; tickets, the cookie, and taking back what was given."),
    _tag("system", "How the server is, now and as a stream."),
    _tag("operations", "Probes and metrics."),
    _tag("admin", "For admins: who is connected, what is followed, and ending what should end."),
)


def make_providers(settings: Settings) -> Providers:
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


def gateway_routes(settings: Settings) -> list[Route]:
    """The table's, and the built-in ones that it does not replace. Raises ValueError for a mistake in it."""
    routes, mistakes = check_table(list(settings.routes))
    if mistakes:
        raise ValueError("; ".join(map(str, mistakes)) + " (`yeoul routes check` names the lines)")
    return with_built_in(routes, [recipes_route(settings.ai_service_url)])


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
