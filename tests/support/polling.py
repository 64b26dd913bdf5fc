"""Waiting for what a server shows only to those who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.reader import WAIT_S, ask

__all__ = ["eventually", "generation", "metrics", "nobody_reads"]


async def eventually(check: Callable[[], Awaitable[Any]], what: str = "") -> Any:
    """The first true answer. Fails after the time that a whole test may wait."""
    async with asyncio.timeout(WAIT_S):
        while not (value := await check()):
            await asyncio.sleep(0.005)  # the server has no event for it that could be waited for
    return value


async def generation(port: int, location: str, state: str | None = None) -> dict[str, Any]:
    """`GET` of a generation; once it is in this state where one is given."""

    async def look() -> dict[str, Any] | None:
        answer = await ask(port, location)
        assert answer.status == 200, answer
        shown: dict[str, Any] = answer.json()
        return shown if state in (None, shown["state"]) else None

    found: dict[str, Any] = await eventually(look)
    return found


async def nobody_reads(port: int, location: str) -> None:
    """Until the server has noticed that the readers are gone."""

    async def look() -> bool:
        return not (await generation(port, location))["readers"]

    await eventually(look)


async def metrics(port: int) -> dict[str, float]:
    """Every sample by its name and labels, as in `name{label="value"}`."""
    answer = await ask(port, "/metrics")
    assert answer.status == 200
    samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples
