"""How the apps of this package let a model answer: which provider and model, for which user, within which bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from fastapi import Request

from ...asgi.authentication import caller_of
from ...hub.job import CONTINUE, DisconnectPolicy
from ...llm.generation import Generation
from ...llm.generations import Generations
from ...llm.provider import Item, Message, Prompt, Provider, Schema
from ...llm.providers import Providers

__all__ = ["Answering"]


@dataclass(frozen=True, slots=True)
class Answering:
    """`policy`: what becomes of an answer whose reader does not come back. `max_tokens`: the bound on an answer of this
    app; without one a small model may write until its context is full."""

    generations: Generations
    providers: Providers
    policy: DisconnectPolicy = CONTINUE
    max_tokens: int | None = None

    async def start(
        self,
        request: Request,
        source: Callable[[Provider], AsyncIterator[Item]],
        *,
        provider: str | None,
        model: str | None,
        policy: DisconnectPolicy | None = None,
        request_key: str | None = None,
    ) -> Generation:
        """Starts an answer for the caller of this request. `source` makes it, given the chosen provider; `policy` None
        is the app's own; `request_key`: see `Generations.start`.

        Raises UnknownProvider, UnknownModel, TooMuchWork, HubClosed.
        """
        chosen = self.providers.choose(provider, model)
        return await self.generations.start(
            source(chosen),
            provider=chosen.name,
            model=model or chosen.model,
            owner=caller_of(request).owner,
            policy=self.policy if policy is None else policy,
            request_key=request_key,
        )

    def prompt(
        self,
        messages: Sequence[Message],
        model: str | None,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        schema: Schema | None = None,
    ) -> Prompt:
        """`max_tokens` None is the app's bound."""
        return Prompt(messages, model, max_tokens or self.max_tokens, temperature, schema)
