"""Tokens, tickets and passes reach neither a log nor an answer, whatever becomes of the request."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from support.reader import Answer, ask, open_stream
from support.serving import free_port, listening
from support.tickets import cookie_of, issue_ticket
from support.tokens import SECRET, bearer, demo_token, make_jwt

pytestmark = pytest.mark.timeout(240)

APP = """
from fastapi import Request
from yeoul.app import create_app

app = create_app()

@app.get("/broken")
async def broken(request: Request):
    raise RuntimeError(f"{request.url} {request.scope}")
"""

# What a request that failed shows of its query, to see that there is something to be found.
MARK = "mark-of-the-query"


@contextmanager
def logged(command: str, folder: Path, **env: str) -> Iterator[tuple[int, Path]]:
    """A server's port, and the file of all that it writes: a pipe would fill up, and hold it."""
    (folder / "app.py").write_text(APP)
    port, log = free_port(), folder / "log"
    shell = ["sh", "-c", f"exec {sys.executable} -m {command} --port {port} > {log} 2>&1"]
    with listening(shell, port, env={"YEOUL_LOG_LEVEL": "debug", **env}, cwd=folder) as served:
        yield port, log
        served.signal()
        served.wait()


async def visit(port: int, token: str, *, broken: bool) -> tuple[list[str], list[Answer]]:
    """Requests of all kinds that carry secrets: those, and what was answered."""
    unused, topics = await issue_ticket(port, token), await issue_ticket(port, token, ["chat/a"])
    used, lost = await issue_ticket(port, token), await issue_ticket(port, token)
    stream = await open_stream(port, f"/topics/chat/a?{MARK}&ticket={used}")
    await stream.take(1)
    its_pass = cookie_of(stream)
    await stream.close()
    made_up = "made-up-ticket-0123456789"
    secrets = [token, unused, topics, used, lost, made_up, its_pass["Cookie"].partition("=")[2]]
    paths = [f"/topics/chat/a?ticket={used}", f"/topics/chat/a?{MARK}&ticket={made_up}"]
    places = ("/topics/chat/a", "/nowhere", "/topics/a%20b", "/generations/x/stream", "/stream/", "/auth/tickets")
    names = ("token", "TOKEN", "access_token", "%74oken", "ticket")
    # A value that each stream refuses: none of them is endless.
    paths += [f"{place}?{MARK}&{name}={quote(token)}&newest=-1&lastEventId=bad" for place in places for name in names]
    paths += [f"/topics/chat/a?ticket={made_up}&ticket={made_up}", f"/stream?topic=chat/b&ticket={topics}"]
    paths.append(f"/nowhere?{MARK}&ticket={lost}")
    if broken:
        paths.append(f"/broken?{MARK}&ticket={unused}")
    answers = [await ask(port, path) for path in paths]
    post = [await ask(port, path, method="POST", body=b"x") for path in paths[:3]]
    head = [await ask(port, path, method="HEAD") for path in paths[:3]]
    foreign = {"Origin": "https://evil.example.com"}
    senders = (foreign, {"Host": "evil.example.com"}, its_pass, bearer(token), bearer(token[:-3]))
    answers += [await ask(port, paths[2], headers=headers) for headers in senders]
    lines = (f"GET /?token={token} HTTP/9.9", f"G\0T /?token={token} HTTP/1.1", f"GET /?token={token}\x7f HTTP/1.1")
    answers += [await send_broken(port, line) for line in lines]
    answers += [await ask(port, "/metrics"), await ask(port, "/openapi.json")]
    return secrets, [*answers, *post, *head]


async def send_broken(port: int, line: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{line}\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    told = await reader.read()
    writer.close()
    await writer.wait_closed()
    return Answer(0, {}, told)


def assert_silent(secrets: list[str], told: str) -> None:
    for secret in secrets:
        for written in {secret, quote(secret), quote(secret, safe="")}:
            assert written not in told
        for part in secret.split("."):  # of a JWT, or of several passes
            assert len(part) < 20 or part not in told


def said(answers: list[Answer]) -> str:
    return "\n".join(f"{answer.headers} {answer.body!r}" for answer in answers)


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "--http yeoul.server.protocol:Protocol", "--http h11 --log-level debug"])
async def test_under_uvicorn_with_its_access_log(tmp_path: Path, options: str) -> None:
    with logged(f"uvicorn app:app --access-log {options}", tmp_path, YEOUL_JWT_SECRET=SECRET) as (port, log):
        secrets, answers = await visit(port, make_jwt("u1"), broken=True)
    written = log.read_text()
    assert MARK in written, "the log shows queries"
    assert "RuntimeError" in written
    assert {200, 400, 401, 403, 404, 500} <= {answer.status for answer in answers}
    assert_silent(secrets, written)
    assert_silent(secrets, said(answers))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
async def test_under_yeoul_serve(tmp_path: Path, form: str) -> None:
    with logged("yeoul serve", tmp_path, YEOUL_LOG_FORMAT=form) as (port, log):
        secrets, answers = await visit(port, demo_token("u1", "Ann of the long name"), broken=False)
    written = log.read_text()
    assert "stream ended" in written
    assert_silent(secrets, written)
    assert_silent(secrets, said(answers))
