"""Model servers, answers, relays and conversations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

from .values import Count, Seconds

__all__ = ["Answers", "Upstream"]


class Upstream(BaseModel):
    """A model server of one's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["openai-chat", "openai"] = Field(
        "openai-chat", description="`openai-chat`: POST {url}/chat/completions; `openai`: POST {url}/responses"
    )
    url: str = Field(pattern=r"^https?://", description="base URL, as in `http://127.0.0.1:11434/v1`")
    model: str = Field(description="the model used where a request names none")
    key: SecretStr | None = Field(None, description="sent as `Authorization: Bearer`")


class Answers(BaseModel):
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
