"""Everybody is cut at once and comes back at once: nobody misses anything, and whoever else asks is answered."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from support.reader import ask
from support.serving import Served, yeoul_serve
from support.tokens import SECRET, bearer, make_jwt
from yeoul.stream import Cursor

CLIENTS = 5_000
BEFORE = 40  # events of each topic before the cut
TOPICS = [f"news/{city}" for city in ("seoul", "busan", "jeju", "daegu")]
# What the service promises those who are not part of the storm (seconds).
PROMPT = 1.0

# Without a type: what was published. Before its block stands the end of another, or the size of a chunk.
_EVENT = re.compile(rb"(?:\n\n|\r\n)data: (?P<data>[^\n]+)\nid: (?P<id>[^\n]+)(?=\n\n)")

# An event as it was published, or as a client got it: its offset and its data.
Item = tuple[int, str]


@dataclass(eq=False)
class Client(asyncio.Protocol):
    """A user's stream, with nothing in it that would make 5 000 of them slow."""

    request: bytes
    topics: Sequence[str]
    last: str  # what is published to each topic when all else is
    body: bytearray = field(default_factory=bytearray)
    transport: asyncio.Transport | None = None
    lost: bool = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.body += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def cut(self) -> None:
        """As a network that drops: a reset, without a word."""
        assert self.transport is not None
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    @property
    def items(self) -> list[Item]:
        return [(Cursor.parse(id.decode()).offset, data.decode()) for data, id in _EVENT.findall(self.body)]

    @property
    def has_begun(self) -> bool:
        return b"stream.hello" in self.body

    @property
    def has_all(self) -> bool:
        return self.body.count(f"\ndata: {self.last}\n".encode()) == len(self.topics)


@contextmanager
def probing(served: Served, token: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("prober.py"))]
    command += [str(served.port), str(served.process.pid), token, *TOPICS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "probing\n"
            yield process
        finally:
            process.kill()


@contextmanager
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 200:
        pytest.skip(f"{CLIENTS} connections need as many files, allowed are {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def taking_the_log(served: Served) -> Iterator[None]:
    """A line for each stream: a pipe that is read late, or not at all, would hold up the server. It is not read in this
    process, whose clients keep it busy."""
    with subprocess.Popen(["cat"], stdin=served.process.stderr, stdout=subprocess.DEVNULL) as cat:
        try:
            yield
        finally:
            served.process.kill()
            cat.wait()


def client_of(number: int, topics: Sequence[str], token: str, last_event_id: str = "") -> Client:
    query = "&".join(f"topic={topic}" for topic in topics)
    back = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
    head = f"GET /stream?{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{back}\r\n"
    return Client(head.encode(), topics, "all after" if last_event_id else "all before")


async def connect(port: int, clients: Sequence[Client]) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.create_connection(lambda one=one: one, "127.0.0.1", port) for one in clients))


async def all_are(clients: Sequence[Client], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    left = list(clients)
    while left := [client for client in left if not getattr(client, what)]:
        assert time.monotonic() < deadline, f"{len(left)} are not: {what}; one of them: {bytes(left[0].body[:400])!r}"
        assert not left[0].lost, f"the server let go of one: {bytes(left[0].body[:400])!r}"
        await asyncio.sleep(0.05)  # 5 000 connections: an event for each would cost more than to look


async def publish(port: int, token: str, topic: str, texts: Sequence[str]) -> list[Item]:
    lines = "\n".join(json.dumps({"data": text}) for text in texts).encode()
    headers = {**bearer(token), "Content-Type": "application/x-ndjson"}
    answer = await ask(port, f"/topics/{topic}", method="POST", headers=headers, body=lines)
    assert answer.status == 202, answer
    first = Cursor.parse(answer.json()["id"]).offset - len(texts) + 1
    return list(enumerate(texts, first))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_five_thousand_that_reconnect_at_once_miss_nothing_and_delay_no_one_else() -> None:
    draw = Random(7)
    tokens = [make_jwt(f"user-{number}", yeoul={"subscribe": ["news/*"]}) for number in range(CLIENTS)]
    follows = [draw.sample(TOPICS, draw.choice([1, 1, 2, 3])) for _ in range(CLIENTS)]
    settings = {
        "YEOUL_JWT_SECRET": SECRET,
        "YEOUL_MAX_CONNECTIONS": str(2 * CLIENTS),
        "YEOUL_CONNECT_RATE": "9000/minute",
    }
    with many_files(), yeoul_serve(env=settings) as served, taking_the_log(served):
        port, sender = served.port, make_jwt("sender", yeoul={"publish": ["*"], "subscribe": ["*"]})
        published: dict[str, list[Item]] = {}
        clients = [client_of(number, follows[number], tokens[number]) for number in range(CLIENTS)]
        await connect(port, clients)
        await all_are(clients, "has_begun", 30)
        for topic in TOPICS:
            texts = [f"{topic} {number}" for number in range(BEFORE - 1)]
            published[topic] = await publish(port, sender, topic, [*texts, "all before"])
        await all_are(clients, "has_all", 30)

        with probing(served, sender) as prober:
            had = [draw.choice(client.items)[0] for client in clients]  # what came after it never arrived
            epoch = _EVENT.findall(clients[0].body)[0][1].decode().rpartition("-")[0]
            for client in clients:
                client.cut()
            began = time.monotonic()
            clients = [
                client_of(number, follows[number], tokens[number], f"{epoch}-{had[number]}")
                for number in range(CLIENTS)
            ]
            await connect(port, clients)
            await all_are(clients, "has_begun", 40)
            back_in = time.monotonic() - began
            said, _ = prober.communicate(timeout=30)
        probed: dict[str, Any] = json.loads(said)
        for topic in TOPICS:
            published[topic] += [
                (Cursor.parse(id).offset, data) for where, id, data in probed["published"] if where == topic
            ]
            published[topic] += await publish(port, sender, topic, ["all after"])
        await all_are(clients, "has_all", 30)

    for number, client in enumerate(clients):
        wanted = sorted(item for topic in follows[number] for item in published[topic] if item[0] > had[number])
        assert client.items == wanted, f"{follows[number]} from {had[number]} on"
        assert b"stream.gap" not in client.body
    assert not probed["failed"], probed["failed"][:5]
    slow = {kind: found for kind, found in probed["kinds"].items() if found["slowest"] > PROMPT}
    assert not slow, f"everybody was back in {back_in:.2f} s; {probed['kinds']}"
    assert len(probed["published"]) > 10
