"""Every setting of the server, in one frozen object: from arguments, `YEOUL_*` variables, `.env`, `yeoul.toml`."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

__all__ = ["RetentionRule", "Settings", "Upstream", "complaints", "environment"]

Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]
Count = Annotated[int, Field(ge=1)]


def environment(name: str) -> str | None:
    """A variable that is no setting, but that one names: from the environment, else from `.env`."""
    return os.environ.get(name) or dotenv_values(".env").get(name)


class Upstream(BaseModel):
    """A model server of one's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["openai-chat", "openai"] = Field(
        "openai-chat", description="`openai-chat`: POST {url}/chat/completions; `openai`: POST {url}/responses"
    )
    url: str = Field(pattern=r"^https?://", description="base URL, as in `http://127.0.0.1:11434/v1`")
    model: str = Field(description="the model used where a request names none")
    key: SecretStr | None = Field(None, description="sent as `Authorization: Bearer`")


class RetentionRule(BaseModel):
    """How long the topics that fit a pattern keep their events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(min_length=1, description="`*` stands for any characters: `chat/*`")
    events: Count = 1_000
    bytes: Count = 1_048_576
    seconds: Seconds = 600.0


class Settings(BaseSettings):
    """Descriptions are what docs/configuration.md is made of: unit, and why this default."""

    model_config = SettingsConfigDict(
        env_prefix="YEOUL_",
        env_file=".env",
        toml_file="yeoul.toml",
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,  # it may be a key, or stand beside one
    )

    # Where it listens
    host: str = Field("127.0.0.1", description="Address to listen on. Loopback, because nothing asks who you are yet.")
    port: int = Field(8000, ge=0, le=65_535, description="TCP port; 0 lets the system choose, the ready line names it.")
    workers: int = Field(1, ge=1, le=1, description="Processes. One: the memory broker cannot be shared.")
    broker: str = Field(
        "memory://", description="Where events live. `memory://`: in this process, gone when it ends; needs nothing."
    )

    data_dir: Path = Field(
        Path("yeoul-data"),
        description="Folder of the databases, `yeoul.db` (what people save) and `documents.db` (what can be asked "
        "about). They are made at the first start. In the working directory, so that each project has its own; on a "
        "local disk, because SQLite's log needs its locks.",
    )
    own_documents: bool = Field(
        True,
        description="Whether `/ask` answers from Yeoul's own documentation while no other documents were added.",
    )

    # Streams
    heartbeat_s: Seconds = Field(
        15.0, description="Seconds between comments on a silent stream. Below the shortest proxy idle time-out (30 s)."
    )
    send_timeout_s: Seconds = Field(
        60.0,
        description="Seconds for which a reader's socket may take nothing before the connection is ended. A slow "
        "reader costs only its cursor, so this is for dead ones; it comes back with its position.",
    )
    max_lifetime_s: Seconds = Field(
        3_600.0,
        description="Seconds until a stream is ended with `stream.bye` and the reader comes back, shortened at random "
        "by up to a fifth. Spreads readers over new servers, and bounds what a forgotten tab can hold.",
    )
    retry_ms: int = Field(
        2_000, ge=0, le=600_000, description="Milliseconds a client waits before it reconnects (the `retry:` field)."
    )
    max_topics_per_stream: Count = Field(50, description="Topics that one stream may follow. Bounds a catch-up's work.")

    # Events
    max_event_bytes: Count = Field(
        262_144, description="Bytes of one event's data. Events are for news; put large things behind a URL."
    )
    max_body_bytes: Count = Field(1_048_576, description="Bytes of a request body, checked while it arrives.")
    retention_events: Count = Field(1_000, description="Events kept per topic for those who come back.")
    retention_bytes: Count = Field(1_048_576, description="Bytes of text kept per topic.")
    retention_s: Seconds = Field(
        600.0, description="Seconds for which an event is kept. Covers a lift, a tunnel, a laptop lid."
    )
    retention: tuple[RetentionRule, ...] = Field(
        (),
        description="Other bounds by topic pattern, first match wins: a list of `{pattern, events, bytes, seconds}`.",
    )
    memory_max_topics: Count = Field(100_000, description="Topics that the memory broker holds at once.")
    memory_max_bytes: Count = Field(
        536_870_912,
        description="Bytes of text that the memory broker holds in all; over it the topics published to longest ago "
        "lose theirs first, and their readers get a gap.",
    )

    # Answers
    provider: str | None = Field(
        None,
        description="Provider used where a request names none. By default `openai` with an OpenAI key, else "
        "`huggingface` with a Hugging Face token, else `demo`.",
    )
    openai_api_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("YEOUL_OPENAI_API_KEY", "OPENAI_API_KEY", "openai_api_key"),
        description="Key for OpenAI. Also read from `OPENAI_API_KEY`.",
    )
    openai_base_url: str = Field("https://api.openai.com/v1", pattern=r"^https?://", description="OpenAI's API.")
    openai_model: str = Field("gpt-4o-mini", description="OpenAI model where a request names none: cheap, and fast.")
    hf_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("YEOUL_HF_TOKEN", "HF_TOKEN", "hf_token"),
        description="Token for Hugging Face's router. Also read from `HF_TOKEN`.",
    )
    huggingface_base_url: str = Field(
        "https://router.huggingface.co/v1", pattern=r"^https?://", description="Hugging Face's router."
    )
    huggingface_model: str = Field(
        "meta-llama/Llama-3.1-8B-Instruct", description="Hugging Face model where a request names none."
    )
    upstreams: dict[str, Upstream] = Field(
        default_factory=dict,
        description="Model servers of your own by name (vLLM, Ollama, llama.cpp …): `{kind, url, model, key}`.",
    )
    upstream_connect_s: Seconds = Field(5.0, description="Seconds to connect to a model server.")
    upstream_first_byte_s: Seconds = Field(
        60.0, description="Seconds from a request to the first byte of its answer. Long prompts are read for long."
    )
    upstream_idle_s: Seconds = Field(60.0, description="Seconds between two reads of an answer. Models think.")
    demo_pace_s: float = Field(0.03, ge=0, le=10, description="Seconds between two tokens of the demo provider.")
    generations_max_running: Count = Field(1_000, description="Answers being written at once; more are refused (429).")
    generations_max_s: Seconds = Field(900.0, description="Seconds that one answer may take.")
    generations_max_chars: Count = Field(4_194_304, description="Characters that one answer may have.")
    generations_keep_s: Seconds = Field(600.0, description="Seconds for which a finished answer can still be read.")
    generations_max_kept: Count = Field(10_000, description="Finished answers kept; the oldest go first.")
    lost_reader_s: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Seconds after which an answer begun by the request that reads it is stopped when nobody does. "
        "Longer than a browser's reconnect, short enough not to pay for closed tabs.",
    )
    ai_service_url: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("YEOUL_AI_SERVICE_URL", "AI_SERVICE_URL", "ai_service_url"),
        description="Where `/recipes/generate-ai-stream` has its recipes from, by default from this same server. Also "
        "read from `AI_SERVICE_URL`.",
    )
    routes: tuple[dict[str, Any], ...] = Field(
        (), description="The gateway's route table, `[[routes]]` in `yeoul.toml`: see [gateway.md](gateway.md)."
    )
    relays_max_running: Count = Field(1_000, description="Relayed streams at once; more are refused (429).")
    relays_keep_s: Seconds = Field(600.0, description="Seconds for which a relayed stream that is over can be read.")
    relay_journal_bytes: int = Field(
        4_194_304,
        ge=65_536,
        description="Bytes kept of each relayed stream. Where all its readers are slow, its upstream is made to wait "
        "once nobody has read half of that.",
    )
    conversation_turns: Count = Field(
        20, description="Turns (questions and answers) kept per conversation. What models are told again each time."
    )
    conversation_keep_s: Seconds = Field(86_400.0, description="Seconds for which a turn of a conversation is kept.")
    drain_generations_s: float = Field(
        10.0,
        ge=0,
        le=3_600,
        description="Seconds that running answers are given at shutdown before they are interrupted.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, _StrictToml(settings_cls)


def complaints(error: ValidationError) -> list[str]:
    """What is wrong with the settings, a sentence each, for whoever has to put it right. Shows no key."""
    return [_complaint(entry) for entry in error.errors()]


def _complaint(entry: ErrorDetails) -> str:
    name = ".".join(map(str, entry["loc"]))
    said = entry["msg"].removeprefix("Value error, ")
    no_json = re.fullmatch(r'error parsing value for field "(\w+)".*', said)
    if no_json:
        return f"setting {no_json[1]}: it is not JSON: {_JSON_EXAMPLE}"
    if "codec can't decode" in said:
        return f"a file with settings (.env or yeoul.toml) is not UTF-8: {said}"
    return f"setting {name}: {said}{_shown(name, entry['input'])}" if name else said


def _shown(name: str, value: object) -> str:
    """What a setting was given, unless it is a key or may hold one."""
    field = Settings.model_fields.get(name)
    if field is None or isinstance(value, dict | list) or "SecretStr" in str(field.annotation):
        return ""
    return f" (it is {value!r})"


_JSON_EXAMPLE = 'lists are written ["a", "b"], tables {"name": "value"}'


class _StrictToml(TomlConfigSettingsSource):
    """Refuses names that are no settings: a setting that is misspelled must not be without effect. (The environment and
    `.env` hold other programs' variables too.)"""

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
        if unknown:
            raise ValueError(f"yeoul.toml has {', '.join(unknown)}: no setting is called so")
        return super().__call__()
