"""Users: each with a token of its own; ten thousand of them silent, five thousand in one room."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from .drive import Disturbed, publish, readers
from .processes import Running
from .results import Measured, Row, Target
from .rounds import Bench, as_many_as_files, value_of
from .servers import limit, queues, yeoul
from .tokens import SECRET, token, tokens

__all__ = ["enter_room", "idle_users", "message_to_room"]

_HEARTBEAT = 15  # seconds between heartbeats: Yeoul's default, and sse-starlette's
_SAY_EVERY = 0.2
_SETTLE_S = 0.5
_PATIENCE = 120.0  # seconds until all readers are there, and until they have had everything


@dataclass(frozen=True)
class Room:
    """A server whose users have tokens, and a room in it. `body`: what a message is sent as, STAMP standing for its
    text (None: as it is); `before`: what the text follows in the event's data."""

    name: str
    run: Callable[[], AbstractContextManager[Running]]
    say: str
    follow: str
    body: str | None = None
    before: str | None = None

    def follow_options(self, count: int, group: str = "user") -> tuple[str, ...]:
        return ("-T", str(tokens(count, group)), "-l", *(("-a", self.before) if self.before else ()))

    def say_options(self) -> tuple[str, ...]:
        return ("-H", f"Authorization: Bearer {token('user-0')}", *(("-d", self.body) if self.body else ()))


_YEOUL = Room(
    "Yeoul",
    partial(yeoul, YEOUL_JWT_SECRET=SECRET),
    "/chat/send",
    "/chat/stream?room=bench",
    body='{"roomId": "bench", "message": "STAMP"}',
    before='"message": "',
)
_QUEUES = Room("sse-starlette, queues, JWT", partial(queues, BENCH_JWT_SECRET=SECRET), "/publish", "/follow")
_LIMIT = Room("C, one send() each", limit, "/publish", "/follow")

_IDLING = (replace(_YEOUL, follow="/notifications/stream"), _QUEUES)
_ROOMS = (_YEOUL, _LIMIT)


def _idle(server: Room, count: int, seconds: float) -> Measured:
    """What so many silent connections cost, heartbeats included."""
    users = ("-T", str(tokens(count)))
    with server.run() as running:
        with readers(running.port, server.follow, 50, *users):
            pass  # what a server loads with its first requests is not the connections'
        time.sleep(0.5)
        before = running.memory()
        with readers(running.port, server.follow, count, *users, idle=True) as reading:
            time.sleep(1.0)
            cpu, began = running.cpu(), time.monotonic()
            time.sleep(seconds)
            cpu, took = running.cpu() - cpu, time.monotonic() - began
            memory = running.memory() - before
            stayed = reading.end()
    if stayed.closed:
        raise Disturbed(f"{stayed.closed} of {count} connections were closed")
    if stayed.comments < count * (seconds // _HEARTBEAT):
        raise Disturbed(f"{stayed.comments} heartbeats came to {count} connections in {seconds:g} s")
    return {
        "kb_per_user": memory / count / 1024,
        "cpu_percent": cpu / took * 100,
        "connected_in_s": reading.connected_in,
    }


def _say(server: Room, count: int, messages: int) -> Measured:
    """From sending a message until the last one in the room has it."""
    options = server.follow_options(count)
    with server.run() as running, readers(running.port, server.follow, count, *options, seconds=_PATIENCE) as reading:
        time.sleep(1.0)  # until presence has been sent, and those have subscribed whose head was sent before
        # The half: a message more would come with the end of the time, or would not.
        seconds = (messages - 0.5) * _SAY_EVERY
        published = publish(running.port, server.say, 1, seconds, _SAY_EVERY, *server.say_options()).published
        arrived = reading.arrived(published)
    if arrived.least != published or arrived.rounds != published:
        raise Disturbed(f"a reader was given {arrived.least} of {published} messages")
    return {
        "last_p50_ms": arrived.last_p50_ms,
        "last_p99_ms": arrived.last_p99_ms,
        "p50_ms": arrived.p50_ms,
        "messages": published,
    }


def _enter(server: Room, count: int) -> Measured:
    """All connect at once; when each has the head of its response, a message is sent to all."""
    options = server.follow_options(count)
    with server.run() as running:
        with readers(running.port, server.follow, 50, *server.follow_options(50, "early")):
            pass
        time.sleep(_SETTLE_S)
        before = running.cpu()
        with readers(running.port, server.follow, count, *options, seconds=_PATIENCE) as reading:
            publish(running.port, server.say, 1, 0, 0, *server.say_options())
            arrived = reading.arrived(1)
            cpu = running.cpu() - before
    if arrived.least != 1:
        raise Disturbed(f"a message did not reach all of {count} users")
    return {
        "entered_in_s": reading.connected_in,
        "last_ms": arrived.last_max_ms,
        "kb_received": arrived.bytes / count / 1024,
        "cpu_us": cpu / count * 1e6,
    }


def idle_users(bench: Bench) -> list[Row]:
    count, seconds = as_many_as_files(bench.plan.idle), bench.plan.idling
    # Once: half a minute of idling is its own median.
    found = bench.measure("H", {room.name: partial(_idle, room, count, seconds) for room in _IDLING}, rounds=1)
    return _with_peer(
        "H",
        found,
        _IDLING,
        [
            (f"memory of each of {count} idle users", "kb_per_user", "KB", Target("<=", 10.5)),
            (f"CPU of {count} idle users, heartbeats each {_HEARTBEAT} s", "cpu_percent", "%", Target("<=", 10)),
            (f"until {count} users are connected", "connected_in_s", "s", Target("<=", 4)),
        ],
    )


def message_to_room(bench: Bench) -> list[Row]:
    count, messages = as_many_as_files(bench.plan.room), bench.plan.messages
    found = bench.measure("I", {room.name: partial(_say, room, count, messages) for room in _ROOMS})
    return _with_peer(
        "I",
        found,
        _ROOMS,
        [
            (f"a message to {count} users: the last has it, p50", "last_p50_ms", "ms", Target("<=", 100)),
            (f"a message to {count} users: the last has it, p99", "last_p99_ms", "ms", None),
        ],
    )


def enter_room(bench: Bench) -> list[Row]:
    count = as_many_as_files(bench.plan.room)
    found = bench.measure("L", {room.name: partial(_enter, room, count) for room in _ROOMS})
    return _with_peer(
        "L",
        found,
        _ROOMS,
        [
            (f"{count} users enter a room: until all are in", "entered_in_s", "s", Target("<=", 1.5)),
            (f"{count} users enter a room: a message sent then has reached all", "last_ms", "ms", None),
            (f"{count} users enter a room: received by each", "kb_received", "KB", None),
            (f"{count} users enter a room: CPU of each", "cpu_us", "µs", None),
        ],
    )


def _with_peer(
    scenario: str,
    found: Mapping[str, Measured],
    servers: tuple[Room, Room],
    figures: Sequence[tuple[str, str, str, Target | None]],
) -> list[Row]:
    """Each figure of the first server by itself, where it has a target, and beside the second's."""
    rows = []
    for what, key, unit, target in figures:
        ours, theirs = (value_of(found, server.name, key) for server in servers)
        if target is not None:
            rows.append(Row(scenario, what, ours, unit, target=target))
        rows.append(Row(scenario, what, ours, unit, servers[1].name, theirs))
    return rows
