"""Answers of language models: what a provider is, those that there are, and what goes in and comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import exports

if TYPE_CHECKING:
    from .demo import Demo
    from .openai import OpenAIChat, OpenAIResponses
    from .provider import Delta, Finish, Message, Note, Prompt, Provider, Schema, Usage
    from .providers import Providers

__all__ = [
    "Delta",
    "Demo",
    "Finish",
    "Message",
    "Note",
    "OpenAIChat",
    "OpenAIResponses",
    "Prompt",
    "Provider",
    "Providers",
    "Schema",
    "Usage",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Delta": ".provider",
        "Demo": ".demo",
        "Finish": ".provider",
        "Message": ".provider",
        "Note": ".provider",
        "OpenAIChat": ".openai",
        "OpenAIResponses": ".openai",
        "Prompt": ".provider",
        "Provider": ".provider",
        "Providers": ".providers",
        "Schema": ".provider",
        "Usage": ".provider",
    },
)
