"""Answers of language models: what a provider is, those that there are, and what goes in and comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import exports

if TYPE_CHECKING:
    from .demo import Demo
    from .items import (
        Delta,
        File,
        Finish,
        Note,
        Reasoning,
        Refusal,
        SourceDocument,
        SourceUrl,
        Step,
        ToolCall,
        ToolResult,
        Usage,
    )
    from .openai import OpenAIChat, OpenAIResponses
    from .provider import Message, Prompt, Provider, Schema
    from .providers import Providers

__all__ = [
    "Delta",
    "Demo",
    "File",
    "Finish",
    "Message",
    "Note",
    "OpenAIChat",
    "OpenAIResponses",
    "Prompt",
    "Provider",
    "Providers",
    "Reasoning",
    "Refusal",
    "Schema",
    "SourceDocument",
    "SourceUrl",
    "Step",
    "ToolCall",
    "ToolResult",
    "Usage",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Delta": ".items",
        "Demo": ".demo",
        "File": ".items",
        "Finish": ".items",
        "Message": ".provider",
        "Note": ".items",
        "OpenAIChat": ".openai",
        "OpenAIResponses": ".openai",
        "Prompt": ".provider",
        "Provider": ".provider",
        "Providers": ".providers",
        "Reasoning": ".items",
        "Refusal": ".items",
        "Schema": ".provider",
        "SourceDocument": ".items",
        "SourceUrl": ".items",
        "Step": ".items",
        "ToolCall": ".items",
        "ToolResult": ".items",
        "Usage": ".items",
    },
)
