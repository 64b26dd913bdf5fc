from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from yeoul.cli.remote import Remote
from yeoul.cli.top import _fetch


@dataclass(frozen=True)
class Crowded(Remote):
    """A server whose lagging reader is none of those that came first."""

    async def ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Any:
        first, slow = {"id": "first", "lagging": False}, {"id": "slow", "lagging": True}
        if path == "/admin/connections":
            return {"connections": [slow] if query and "lagging" in query else [first]}
        return {"topics": [], "total": 0}


async def test_readers_that_lag_are_looked_for_among_all() -> None:
    frame = await _fetch(Crowded("http://x"), cast("aiohttp.ClientSession", None))
    assert {reader["id"] for reader in frame.connections} == {"first", "slow"}
