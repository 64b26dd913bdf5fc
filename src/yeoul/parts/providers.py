"""Who answers."""

from __future__ import annotations

from ..client.request import Timeouts
from ..llm.demo import Demo
from ..llm.openai import OpenAIChat, OpenAIResponses
from ..llm.provider import Provider
from ..llm.providers import Providers
from ..settings import Settings, Upstream

__all__ = ["make_providers"]


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
