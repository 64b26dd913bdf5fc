"""An application of a user's own ends with its streams, however its server was told to end."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from support.reader import ask, open_stream
from support.serving import free_port, listening

APP = """
from fastapi import FastAPI, Request
from yeoul import EventStream, Hub

hub = Hub()
{make}


@{router}.get("/stream")
async def stream(request: Request):
    return EventStream(hub, "t", request)


@{router}.get("/ping")
async def ping():
    return "pong"
"""
WITH_LIFESPAN = APP.format(make="app = FastAPI(lifespan=hub.lifespan)", router="app")
MOUNTED = APP.format(make='app, inner = FastAPI(), FastAPI()\napp.mount("/inner", inner)', router="inner")

OUTLETS = {"portable": [], "direct": ["--http", "yeoul.server.protocol:Protocol"]}


@pytest.mark.parametrize("outlet", OUTLETS)
@pytest.mark.parametrize(
    ("app", "prefix", "options", "by_signal"),
    [(WITH_LIFESPAN, "", ["--limit-max-requests", "2"], False), (MOUNTED, "/inner", [], True)],
    ids=["limit-max-requests", "mounted without a lifespan"],
)
async def test_the_streams_of_a_server_that_ends_are_ended_with_a_farewell(
    tmp_path: Path, outlet: str, app: str, prefix: str, options: list[str], by_signal: bool
) -> None:
    (tmp_path / "app.py").write_text(app)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), *OUTLETS[outlet], *options]
    with listening(command, port, cwd=tmp_path) as served:
        async with await open_stream(port, f"{prefix}/stream") as stream:
            await stream.take(1)  # stream.hello
            if by_signal:
                served.signal()
            else:
                for _ in range(2):
                    assert (await ask(port, "/ping")).status == 200
            events = await stream.rest()
        await asyncio.to_thread(served.wait)
    assert events[-1].type == "stream.bye"
    assert '"reason": "drain"' in events[-1].data
