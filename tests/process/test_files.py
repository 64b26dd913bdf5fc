"""`yeoul serve` where the system allows few open files."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator

import pytest

from support.machine import budget
from support.polling import eventually
from support.reader import ask, open_stream
from support.serving import Served, free_port, listening

FILES = 120
HEAD = b"GET /topics/a HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def served() -> Iterator[Served]:
    port = free_port()
    command = f"ulimit -n {FILES}; exec {sys.executable} -m yeoul serve --port {port}"
    with listening(["sh", "-c", command], port) as server:
        yield server


async def test_at_the_limit_of_open_files_connections_are_refused_and_the_server_recovers(served: Served) -> None:
    opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(2 * FILES)]
    heads = []
    patience = budget(10)
    for _, writer in opened:
        writer.write(HEAD)
    for reader, _ in opened:
        async with asyncio.timeout(patience):  # a connection that hangs is what must not be
            try:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
            except (asyncio.IncompleteReadError, ConnectionError):
                heads.append(b"closed")
    answers = [head.split(b" ")[1] if head.startswith(b"HTTP") else head for head in heads]
    assert set(answers) <= {b"200", b"503", b"closed"}
    assert answers.count(b"200") > FILES / 3, "as many as there are files are served"
    assert answers.count(b"503") > FILES / 2, "others are told so"
    for _, writer in opened:
        writer.close()

    async def recovered() -> bool:
        try:
            return (await ask(served.port, "/readyz")).status == 200
        except (ConnectionError, asyncio.IncompleteReadError):
            return False

    await eventually(recovered)
    async with await open_stream(served.port, "/topics/a") as stream:
        assert stream.status == 200
    served.signal()
    _, err = await asyncio.to_thread(served.wait)
    lines = [line for line in err.splitlines() if "ERROR" in line]
    assert len(lines) == 1, lines
    assert re.search(r"\d+ connections were refused: .*`ulimit -n`", lines[0])
