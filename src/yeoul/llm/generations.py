"""The generations of one hub."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..hub import Hub
from ..hub.job import CONTINUE, DisconnectPolicy, Jobs
from ..stream import Frame
from .generation import Generation, GenerationStats
from .items import Item

__all__ = ["Generations"]


class Generations(Jobs[Generation]):
    """Each takes at most `max_seconds` and has at most `max_chars` of text; the rest is as in `Jobs`. The topic's
    retention must cover `max_seconds + keep_seconds` and that much text, otherwise late readers get a gap.
    `show_details`: readers see what an upstream itself reported about a failure; otherwise only the log has it."""

    _kind = Generation.kind

    def __init__(
        self,
        hub: Hub,
        *,
        max_running: int = 1_000,
        max_seconds: float = 900.0,
        max_chars: int = 4_194_304,
        keep_seconds: float = 600.0,
        max_kept: int = 10_000,
        grace_seconds: float = 10.0,
        max_per_owner: int | None = None,
        max_per_provider: int | None = None,
        show_details: bool = False,
    ) -> None:
        super().__init__(
            hub,
            max_running=max_running,
            max_per_owner=max_per_owner,
            max_per_upstream=max_per_provider,
            keep_seconds=keep_seconds,
            max_kept=max_kept,
            grace_seconds=grace_seconds,
        )
        hub.components.setdefault(Generations, self)
        self.stats = GenerationStats()
        self._max_seconds = max_seconds
        self._max_chars = max_chars
        self._show_details = show_details

    def _of_topic(self, id: str, frames: Sequence[Frame]) -> Generation | None:
        if not frames or frames[0].event.type != "start":
            return None
        about = json.loads(frames[0].event.data)
        return self._make(
            _nothing(),
            provider=about["provider"],
            model=about["model"],
            owner=about["owner"],
            message_id=about["message_id"],
            id=id,
            created=about["created"],
        )

    def _make(self, source: AsyncIterator[Item], **about: Any) -> Generation:
        return Generation(
            self.hub,
            source,
            self.stats,
            max_seconds=self._max_seconds,
            max_chars=self._max_chars,
            show_details=self._show_details,
            **about,
        )

    @classmethod
    def of(cls, hub: Hub) -> Generations:
        """The hub's own: the first that was made with it, by default with defaults."""
        found = hub.components.get(cls)
        return found if isinstance(found, cls) else cls(hub)

    async def start(
        self,
        source: AsyncIterator[Item],
        *,
        provider: str = "app",
        model: str = "app",
        owner: str | None = None,
        policy: DisconnectPolicy = CONTINUE,
        request_key: str | None = None,
        data: Any = None,
        message_id: str | None = None,
    ) -> Generation:
        """Begins to consume the source, in its own task. `request_key`: what `find_abandoned` finds it by. `data`: kept
        as `Generation.data`. `message_id`: see `GenerationInfo`.

        Raises TooMuchWork, HubClosed.
        """
        await self.open(owner, provider)
        generation = self._make(
            source, provider=provider, model=model, owner=owner, policy=policy, data=data, message_id=message_id
        )
        self.stats.started += 1
        return await self.launch(generation, generation.first_event(), request_key)


async def _nothing() -> AsyncIterator[Item]:
    """The source of an answer that is over."""
    return
    yield
