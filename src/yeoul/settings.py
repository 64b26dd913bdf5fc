"""All settings in one frozen object."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from .asgi.hosts import check_host
from .asgi.origins import check_origin
from .asgi.rates import check_rate

__all__ = [
    "RetentionRule",
    "Settings",
    "Upstream",
    "complaints",
    "empty_keys",
    "environment",
    "unknown_variables",
    "variables",
]

# The setting under which unknown names are not refused.
_RELAXED = "allow_unknown_settings"

Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]
Count = Annotated[int, Field(ge=1)]


def environment(name: str) -> str | None:
    """A variable that is not a setting, but is named by one (a credential): from the environment, else from `.env`."""
    return os.environ.get(name) or dotenv_values(".env").get(name)


class StrictToml(TomlConfigSettingsSource):
    """Refuses unknown names, unless `allow_unknown_settings` is set: a misspelt setting must not be without effect."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            return super()._read_file(file_path)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{file_path} is not TOML: {error}") from error

    def __call__(self) -> dict[str, Any]:
        known = set(self.settings_cls.model_fields)
        for field in self.settings_cls.model_fields.values():
            if isinstance(field.validation_alias, AliasChoices):
                known.update(map(str, field.validation_alias.choices))
        unknown = sorted(set(self.toml_data) - known)
        if unknown and not (self.toml_data.get(_RELAXED) is True or _is_relaxed(variables())):
            raise ValueError("; ".join(_unknown_in("yeoul.toml", name, known) for name in unknown))
        return super().__call__()


class _Server(BaseModel):
    """Where the server listens, and where it keeps its data."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on. Any address but loopback requires a key (`YEOUL_JWT_SECRET` or another "
        "one).",
    )
    port: int = Field(
        8000, ge=0, le=65_535, description="TCP port; with 0 the system chooses one, which the ready line shows."
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path under which a proxy publishes this server, such as `/yeoul`. The proxy may remove it or "
        "keep it in the address.",
    )
    workers: int = Field(
        1, ge=1, le=1, description="Number of processes. Only 1, because processes cannot share a broker so far."
    )
    broker: str | None = Field(
        None,
        description="Where events are kept. `sqlite:///FILE`: in this file, over restarts; `sqlite:////var/x.db` is an "
        "absolute path. `memory://`: in this process, until it ends. By default the file `broker.db` in the data "
        "directory. See [brokers.md](brokers.md).",
    )

    data_dir: Path = Field(
        Path("yeoul-data"),
        description="Folder of the databases `broker.db` (events), `yeoul.db` (recipes, conversations, revocations) "
        "and `documents.db` (the index for `/ask`), which are created at the first start. By default in the working "
        "directory, so that each project has its own. It must be on a local disk: SQLite's log relies on its locks.",
    )
    own_documents: bool = Field(
        True,
        description="Whether `/ask` answers from Yeoul's own documentation until other documents are added.",
    )


RateText = Annotated[str, AfterValidator(check_rate)]


class _Limits(BaseModel):
    """What clients may use."""

    max_connections: Count = Field(1_000, description="Open streams; further ones are refused (429).")
    max_connections_per_user: Count | None = Field(
        None,
        description="Open streams of one user. By default 50; unlimited in demo mode, where all requests are one "
        "user's.",
    )
    max_connections_per_address: Count | None = Field(
        None,
        description="Open streams of one address (of one /64 in IPv6). By default 200, and unlimited for the "
        "addresses of this machine.",
    )
    max_answers_per_user: Count | None = Field(
        None,
        description="Running answers, and running relayed streams, of one user. By default 50; unlimited in demo "
        "mode, where all requests are one user's.",
    )
    publish_rate: RateText | None = Field(
        None,
        description="Publishes of one user. By default `100/second`; unlimited in demo mode.",
    )
    connect_rate: RateText | None = Field(
        None,
        description="Streams that one user, or one address without a user, may open. By default `300/minute`; "
        "unlimited in demo mode.",
    )
    auth_failure_rate: RateText | None = Field(
        None,
        description="Wrong tokens that one address (one /64 in IPv6) may send; more are refused unchecked (429). "
        "Tokens that were verified lately are accepted all the same. By default `300/minute`; unlimited in demo "
        "mode.",
    )
    max_newest: Count = Field(1_000, description="Kept events that a new reader may request (`?newest=`), per topic.")
    max_replay_bytes: Count = Field(
        8_388_608,
        description="Bytes of events that one reconnecting reader is sent; where more were missed, it gets a gap "
        "and then the newest that fit. Bounds the cost of many readers that reconnect at once.",
    )
    header_timeout_s: Seconds = Field(
        10.0, description="Seconds in which the head of a request must arrive (under `yeoul serve`)."
    )
    body_timeout_s: Seconds = Field(30.0, description="Seconds in which the body of a request must arrive.")
    idempotency_keep_s: Seconds = Field(
        600.0,
        description="Seconds for which a repeated `Idempotency-Key` gets the first response again, and has no other "
        "effect.",
    )


class RetentionRule(BaseModel):
    """How many events the topics that match a pattern keep, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(min_length=1, description="`*` matches any characters: `chat/*`")
    events: Count = 1_000
    bytes: Count = 1_048_576
    seconds: Seconds = 600.0


class _Streams(BaseModel):
    """Streams, and the events that are kept for them."""

    heartbeat_s: Seconds = Field(
        15.0,
        description="Seconds between comments on a silent stream. The default is below the shortest usual proxy "
        "time-out (30 s).",
    )
    send_timeout_s: Seconds = Field(
        60.0,
        description="Seconds for which a reader's socket may accept no data before its connection is closed. A slow "
        "reader costs only its cursor, so this is for dead connections; a live client reconnects with its position.",
    )
    max_lifetime_s: Seconds = Field(
        3_600.0,
        description="Seconds until a stream is closed with `stream.bye` and its client reconnects, shortened at "
        "random by up to a fifth. Spreads readers over new servers, and bounds the cost of a forgotten tab.",
    )
    retry_ms: int = Field(
        2_000,
        ge=0,
        le=600_000,
        description="Milliseconds that clients wait before they reconnect (the `retry:` field).",
    )
    max_topics_per_stream: Count = Field(
        50, description="Topics that one stream may follow. Bounds the work of a replay."
    )
    max_event_bytes: Count = Field(262_144, description="Bytes of the data of one event. Send large data as a URL.")
    max_body_bytes: Count = Field(1_048_576, description="Bytes of a request body.")
    retention_events: Count = Field(1_000, description="Events kept per topic, for readers that reconnect.")
    retention_bytes: Count = Field(1_048_576, description="Bytes of text kept per topic.")
    retention_s: Seconds = Field(
        600.0, description="Seconds for which an event is kept. The default covers a lift, a tunnel, a closed laptop."
    )
    retention: tuple[RetentionRule, ...] = Field(
        (),
        description="Other bounds by topic pattern, of which the first match applies: a list of `{pattern, events, "
        "bytes, seconds}`. They precede the built-in ones: `chat/*/presence` 500 events for a minute, `chat/*` 1000 "
        "events and 4 MiB for a day, `system/status` 5 samples.",
    )
    memory_max_topics: Count = Field(
        100_000,
        description="Topics that the broker keeps; beyond that, topics without readers that were published "
        "to longest ago are dropped.",
    )
    memory_max_bytes: Count = Field(
        536_870_912,
        description="Bytes of text that the broker keeps in all, in memory and, with SQLite, in its file too; beyond "
        "that, the topics that were published to longest ago lose their events, and their readers get a gap.",
    )


def _check_proxy(text: str) -> str:
    try:
        ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an address or a network: write '10.0.0.5' or '10.0.0.0/8'") from error
    return text


Origin = Annotated[str, AfterValidator(check_origin)]
Host = Annotated[str, AfterValidator(check_host)]
Proxy = Annotated[str, AfterValidator(_check_proxy)]
Pattern = Annotated[str, Field(min_length=1)]


class _Access(BaseModel):
    """Who may do what, and from where."""

    jwt_secret: SecretStr | None = Field(
        None,
        description="Secret of HS256 tokens, at least 32 bytes (`openssl rand -base64 48`). With a secret, a public "
        "key or a JWKS the server authenticates users; without any it runs in demo mode, and only on loopback.",
    )
    jwt_previous_secret: SecretStr | None = Field(
        None, description="The previous HS256 secret, whose tokens are still accepted while you replace it."
    )
    jwt_public_key: str | None = Field(
        None,
        description="Public keys of RS256, ES256 or EdDSA tokens: PEM text, or the path of a PEM file. A key "
        "verifies only tokens of its own algorithm.",
    )
    jwt_jwks_url: str | None = Field(
        None, pattern=r"^https?://", description="URL where your identity provider publishes its keys (JWKS)."
    )
    jwt_audience: str | None = Field(
        None, description="Audience that the `aud` claim of a token must contain; without it `aud` is not checked."
    )
    jwt_issuer: str | None = Field(
        None, description="The `iss` claim that a token must have; without it `iss` is not checked."
    )
    jwt_leeway_s: float = Field(
        5.0, ge=0, le=300, description="Seconds by which the clock of the token's issuer may differ from this server's."
    )
    max_token_s: Seconds = Field(
        2_592_000.0,
        description="Seconds for which a token may be valid, counted from its `iat`, or else from now; longer ones "
        "are refused. Revocations are kept for as long, so that no token with an `iat` outlives one.",
    )
    cookie: str = Field(
        "yeoul_token",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of the cookie that may hold a token (HttpOnly).",
    )
    ticket_s: float = Field(
        30.0,
        ge=1,
        le=300,
        description="Seconds in which a ticket must be used. The default is long enough for a slow phone.",
    )
    query_tokens: bool = Field(
        False,
        description="Whether a token is accepted in `?token=`. URLs end up in logs and histories: use tickets "
        "instead. Demo tokens are always accepted there in demo mode.",
    )
    subscribe: tuple[Pattern, ...] = Field(
        ("notifications/{user}", "notifications", "realtime", "realtime/*", "chat/*"),
        description="Topics that users without a `yeoul` claim in their token may follow. `*` matches any "
        "characters, `{user}` is the user.",
    )
    publish: tuple[Pattern, ...] = Field(
        ("notifications/{user}", "chat/*"),
        description="Topics that users without a `yeoul` claim in their token may publish to.",
    )
    open_topics: tuple[Pattern, ...] = Field(
        ("system/status",), description="Topics that may be followed without a token."
    )
    open_answers: bool = Field(
        False,
        description="Whether answers (`/generations`, `/sse`, `/ask`, recipes, challenges, the gateway), which cost "
        "money, are available without a token.",
    )
    cors_origins: tuple[Origin, ...] | None = Field(
        None,
        description="Origins of other sites whose pages may use this server, exactly: "
        '`["https://app.example.com"]`. By default ports 3000 and 5173 of localhost in demo mode, otherwise none.',
    )
    allowed_hosts: tuple[Host, ...] = Field(
        (),
        description="Host names that requests may have in their `Host` header, without ports. By default, on "
        "loopback only the names of this machine (against DNS rebinding), elsewhere any.",
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted.",
    )


class Upstream(BaseModel):
    """A model server of your own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["openai-chat", "openai"] = Field(
        "openai-chat", description="`openai-chat`: POST {url}/chat/completions; `openai`: POST {url}/responses"
    )
    url: str = Field(
        pattern=r"^https?://",
        description="base URL, as in `http://127.0.0.1:11434/v1`; a query (`?api-version=…`) goes with every request",
    )
    model: str = Field(description="the model used where a request names none")
    models: tuple[str, ...] = Field((), description='other models that requests may name; `["*"]` for any')
    key: SecretStr | None = Field(None, description="sent as `Authorization: Bearer`")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description='headers sent with every request, as in `{api-key = "…"}`'
    )
    usage: bool = Field(True, description="whether `stream_options` asks for the tokens used; `openai-chat` alone")
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None, description="what the bound on tokens is called, by default what the server takes; `openai-chat` alone"
    )
    connect_s: Seconds | None = Field(None, description="in place of `YEOUL_UPSTREAM_CONNECT_S`")
    first_byte_s: Seconds | None = Field(None, description="in place of `YEOUL_UPSTREAM_FIRST_BYTE_S`")
    first_token_s: Seconds | None = Field(None, description="in place of `YEOUL_UPSTREAM_FIRST_TOKEN_S`")
    idle_s: Seconds | None = Field(None, description="in place of `YEOUL_UPSTREAM_IDLE_S`")
    comments_count: bool | None = Field(None, description="in place of `YEOUL_UPSTREAM_COMMENTS_COUNT`")


class _Answers(BaseModel):
    """Models, answers and relayed streams."""

    provider: str | None = Field(
        None,
        description="Provider of requests that name none. By default `openai` with an OpenAI key, else "
        "`huggingface` with a Hugging Face token, else `demo`.",
    )
    openai_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("YEOUL_OPENAI_API_KEY", "OPENAI_API_KEY", "openai_api_key"),
        description="Key for OpenAI. Also read from `OPENAI_API_KEY`.",
    )
    openai_base_url: str = Field(
        "https://api.openai.com/v1",
        pattern=r"^https?://",
        validation_alias=AliasChoices("YEOUL_OPENAI_BASE_URL", "OPENAI_BASE_URL", "openai_base_url"),
        description="OpenAI's API, or a server that `OPENAI_API_KEY` is for. Also read from `OPENAI_BASE_URL`. "
        "Where it is not OpenAI's own, `openai-chat` is the default provider: few servers have the Responses API.",
    )
    openai_model: str = Field(
        "gpt-4o-mini", description="OpenAI model of requests that name none. The default is cheap and fast."
    )
    openai_models: tuple[str, ...] = Field(
        (), description='Other OpenAI models that requests may name, `["*"]` for any. Each has its own price.'
    )
    hf_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("YEOUL_HF_TOKEN", "HF_TOKEN", "hf_token"),
        description="Token for Hugging Face's router. Also read from `HF_TOKEN`.",
    )
    huggingface_base_url: str = Field(
        "https://router.huggingface.co/v1", pattern=r"^https?://", description="Hugging Face's router."
    )
    huggingface_model: str = Field(
        "meta-llama/Llama-3.1-8B-Instruct", description="Hugging Face model of requests that name none."
    )
    huggingface_models: tuple[str, ...] = Field(
        (), description='Other Hugging Face models that requests may name, `["*"]` for any.'
    )
    upstreams: dict[str, Upstream] = Field(
        default_factory=dict,
        description="Model servers of your own by name (vLLM, Ollama, llama.cpp, Azure …): see below.",
    )
    upstream_connect_s: Seconds = Field(5.0, description="Seconds until there is a connection to a model server.")
    upstream_first_byte_s: Seconds = Field(
        60.0, description="Seconds from there to the head of a model server's answer (status and headers)."
    )
    upstream_first_token_s: Seconds = Field(
        180.0,
        description="Seconds from the connection (not from the head) to the first token: the time in the model "
        "server's queue, and for a long prompt.",
    )
    upstream_idle_s: Seconds = Field(
        60.0, description="Seconds between two tokens. Thoughts that a model sends count as tokens."
    )
    upstream_comments_count: bool = Field(
        False,
        description="Whether comments, by which model servers keep a connection open, count as tokens for these "
        "times. If so, a model that hangs behind a server that sends them is ended by `YEOUL_GENERATIONS_MAX_S` "
        "alone.",
    )
    show_upstream_errors: bool | None = Field(
        None,
        description="Whether readers see what a model server itself reported about a failure, beside the class of "
        "failure. It may name accounts, hosts and files. The log always has it. By default in demo mode alone.",
    )
    chat_max_tokens: Count = Field(2_000, description="Tokens of an answer of `/sse/chat` and `/sse/chat-normal`.")
    ask_max_tokens: Count = Field(4_000, description="Tokens of an answer of `/ask`.")
    recipes_max_tokens: Count = Field(4_000, description="Tokens of a recipe.")
    challenges_max_tokens: Count = Field(4_000, description="Tokens of a list of challenges.")
    generations_max_tokens: Count = Field(
        16_000,
        description="Tokens of an answer of `POST /generations` where the request sets no `max_tokens`. What a "
        "model thinks counts too. An answer that is cut there ends with the reason `length`.",
    )
    ai_sdk_version: Literal[5, 6, 7] = Field(
        7, description="The version of the AI SDK that the pages of `/api/chat` use."
    )
    demo_pace_s: float = Field(0.03, ge=0, le=10, description="Seconds between two tokens of the demo provider.")
    generations_max_running: Count = Field(1_000, description="Answers that may run at once; more are refused (429).")
    generations_max_per_provider: Count | None = Field(
        None, description="Answers of one provider that may run at once, by default four fifths of all."
    )
    generations_max_s: Seconds = Field(900.0, description="Seconds that one answer may take.")
    generations_max_chars: Count = Field(4_194_304, description="Characters that one answer may have.")
    generations_keep_s: Seconds = Field(600.0, description="Seconds for which a finished answer can still be read.")
    generations_max_kept: Count = Field(10_000, description="Finished answers kept; the oldest go first.")
    lost_reader_s: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Seconds after which an answer without a reader is stopped, where the request that started it "
        "also reads it. Longer than a browser's reconnect, short enough not to pay for closed tabs.",
    )
    ai_service_url: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("YEOUL_AI_SERVICE_URL", "AI_SERVICE_URL", "ai_service_url"),
        description="Base URL of the server that `/recipes/generate-ai-stream` relays, by default this server "
        "itself. Also read from `AI_SERVICE_URL`.",
    )
    routes: tuple[dict[str, Any], ...] = Field(
        (), description="The gateway's route table, `[[routes]]` in `yeoul.toml`: see [gateway.md](gateway.md)."
    )
    relays_max_running: Count = Field(
        1_000, description="Relayed streams that may run at once; more are refused (429)."
    )
    relays_max_per_upstream: Count | None = Field(
        None,
        description="Relayed streams of one upstream (scheme, host and port) that may run at once, by default four "
        "fifths of all. A route may have a bound of its own.",
    )
    relays_keep_s: Seconds = Field(600.0, description="Seconds for which a finished relayed stream can still be read.")
    relay_journal_bytes: int = Field(
        4_194_304,
        ge=65_536,
        description="Bytes kept of each relayed stream. Its upstream is made to wait where even the fastest reader "
        "has half of that before it.",
    )
    conversation_turns: Count = Field(
        20,
        description="Turns (question and answer) kept per conversation, which are sent to the model with each "
        "question.",
    )
    conversation_keep_s: Seconds = Field(86_400.0, description="Seconds for which a turn of a conversation is kept.")
    drain_generations_s: float = Field(
        10.0,
        ge=0,
        le=3_600,
        description="Seconds that running answers are given at shutdown before they are interrupted.",
    )


class _Operations(BaseModel):
    """Apps, logs and metrics."""

    allow_unknown_settings: bool = Field(
        False,
        description="Whether unknown `YEOUL_*` variables, and unknown names in `yeoul.toml`, are ignored. By "
        "default the server refuses to start with them: a misspelt setting would have no effect.",
    )
    chat_history: int = Field(50, ge=0, le=1_000, description="Messages that a user who joins a chat room is sent.")
    chat_grace_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="Seconds after which a user without connections has left a chat room. Longer than a reconnect "
        "takes.",
    )
    status_interval_s: Seconds = Field(
        2.0,
        description="Seconds between two samples of `/system/status/stream`, which are only taken while it has "
        "readers.",
    )
    open_metrics: bool = Field(
        True,
        description="Whether `/metrics` is available without a token. It names no user, topic or address. Otherwise "
        "it is for administrators (Prometheus sends a token with `authorization`).",
    )
    log_format: Literal["text", "json"] = Field("text", description="`text` for people, `json` for programs.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`info` logs each stream that ends, `warning` only problems."
    )


class Settings(_Operations, _Limits, _Access, _Answers, _Streams, _Server, BaseSettings):
    """All settings. Their descriptions are the text of docs/configuration.md: the unit, and why this default."""

    model_config = SettingsConfigDict(
        env_prefix="YEOUL_",
        env_file=".env",
        toml_file="yeoul.toml",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a key, or be next to one
    )

    @property
    def demo(self) -> bool:
        """Whether no key is set. Then every user of this machine is an administrator, and the server only listens on
        loopback."""
        keys = (self.jwt_secret, self.jwt_previous_secret, self.jwt_public_key, self.jwt_jwks_url)
        return all(key is None for key in keys)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, StrictToml(settings_cls)


# Of the commands that talk to a server.
_OF_COMMANDS = {"YEOUL_URL", "YEOUL_TOKEN"}

# Without these the server is in demo mode. One that is set and empty is a secret that was not passed on.
_KEYS = ("YEOUL_JWT_SECRET", "YEOUL_JWT_PUBLIC_KEY", "YEOUL_JWT_JWKS_URL")


def variables() -> dict[str, str | None]:
    """Those of the environment, and of `.env`."""
    return {**dotenv_values(".env"), **os.environ}


def unknown_variables(given: Mapping[str, str | None], routes: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """A message for each `YEOUL_*` variable that is not a setting, and not the credential of one of the `routes`."""
    known = {f"YEOUL_{name.upper()}" for name in Settings.model_fields} | _OF_COMMANDS | _credentials(routes)
    for field in Settings.model_fields.values():
        if isinstance(field.validation_alias, AliasChoices):
            known.update(str(choice) for choice in field.validation_alias.choices)
    return [
        _unknown_in("the environment", name, known)
        for name in sorted(given)
        if name.startswith("YEOUL_") and name not in known
    ]


def _credentials(routes: Iterable[Mapping[str, Any]]) -> set[str]:
    names = set()
    for route in routes:  # as they stand in yeoul.toml: nothing of them has been checked
        upstream = route.get("upstream")
        auth = upstream.get("auth") if isinstance(upstream, Mapping) else None
        if isinstance(auth, Mapping):
            names.add(str(auth.get("variable")))
    return names


def empty_keys(given: Mapping[str, str | None]) -> list[str]:
    """A message for each key that is set to nothing."""
    return [f"{name} is set, but empty: set it to the key, or unset it" for name in _KEYS if given.get(name) == ""]


def _unknown_in(place: str, name: str, known: Collection[str]) -> str:
    meant = get_close_matches(name, known, n=1)
    return f"unknown setting {name} in {place}{f': did you mean {meant[0]}?' if meant else ''}"


def _is_relaxed(given: Mapping[str, str | None]) -> bool:
    return (given.get(f"YEOUL_{_RELAXED.upper()}") or "").lower() in ("1", "true", "yes", "on")


_JSON_EXAMPLE = 'lists are written ["a", "b"], tables {"name": "value"}'


def complaints(error: ValidationError) -> list[str]:
    """A sentence for each error in the settings, for the operator who has to correct it. Shows no key."""
    return [_complaint(entry) for entry in error.errors()]


def _complaint(entry: ErrorDetails) -> str:
    name = ".".join(map(str, entry["loc"]))
    said = entry["msg"].removeprefix("Value error, ")
    no_json = re.fullmatch(r'error parsing value for field "(\w+)".*', said)
    if no_json:
        return f"setting {no_json[1]}: not valid JSON: {_JSON_EXAMPLE}"
    if "codec can't decode" in said:
        return f"a file with settings (.env or yeoul.toml) is not UTF-8: {said}"
    if entry["type"] == "tuple_type":
        return f"setting {name}: not a list: {_JSON_EXAMPLE}{_shown(name, entry['input'])}"
    return f"setting {name}: {said}{_shown(name, entry['input'])}" if name else said


def _shown(name: str, value: object) -> str:
    """The value of a setting, unless it is a key or may contain one."""
    field = Settings.model_fields.get(name)
    if field is None or isinstance(value, dict | list) or "SecretStr" in str(field.annotation):
        return ""
    return f" (got {value!r})"
