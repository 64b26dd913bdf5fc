"""Vercel's AI SDK in Node.js, at the versions of `tests/clients/package-lock.json`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

__all__ = ["AiSdk", "ai_sdk"]

_CLIENTS = Path(__file__).parents[1] / "clients"


class AiSdk:
    """One version of the SDK, running. Each `run` is a page of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, do: str, port: int, chat: str, **job: Any) -> dict[str, Any]:
        """What `chat.mjs` answers to the job."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"do": do, "url": f"http://127.0.0.1:{port}/api/chat", "chat": chat, **job})
        self._process.stdin.write(line.encode() + b"\n")
        answer = json.loads(await self._process.stdout.readline())
        assert "failed" not in answer, answer["failed"]
        return dict(answer)


@asynccontextmanager
async def ai_sdk(package: str) -> AsyncIterator[AiSdk]:
    """`package`: a name in `tests/clients/package.json`."""
    assert (_CLIENTS / "node_modules" / package).exists(), "`make unit` installs the clients (npm ci in tests/clients)"
    process = await asyncio.create_subprocess_exec(
        *("node", str(_CLIENTS / "chat.mjs"), package),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield AiSdk(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
