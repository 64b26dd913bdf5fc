"""The scenarios: what is done, how often, and what it is held against."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial

from .drive import Arrived, Disturbed, publish, readers
from .durable import durable
from .processes import Running
from .relay import first_event, relayed_tokens
from .requests import connecting, publishing, starting
from .results import Measured, Row, Target
from .rounds import Bench, Plan, against, as_many_as_files, present, value_of
from .servers import (
    CENTRIFUGO,
    LIMIT,
    MERCURE,
    NCHAN,
    PORTABLE,
    QUEUES,
    YEOUL,
    Fanout,
    answers,
    upstream,
    yeoul,
    yeoul_answers,
)
from .users import enter_room, idle_users, message_to_room

__all__ = ["SCENARIOS"]


_ANSWERS = 50
_TOKEN_EVERY = 0.02
_PACE = 0.02  # between two events where latency is measured
_STORED_BATCH = 5_000


def _fan_out(server: Fanout, publishers: int, plan: Plan, pause: float = 0.0) -> Measured:
    options = server.follow_options
    with server.run() as running, readers(running.port, server.follow, plan.readers, *options) as reading:
        time.sleep(0.2)  # some subscribe after their head is sent
        before = running.cpu()
        done = publish(running.port, server.publish, publishers, plan.fanout, pause, *server.publish_options)
        arrived = reading.arrived(done.published)
        if arrived.least != done.published:
            raise Disturbed(f"a reader was given {arrived.least} of {done.published} events")
        return {
            "deliveries_per_s": arrived.rate,
            "p50_ms": arrived.p50_ms,
            "p99_ms": arrived.p99_ms,
            "publishes_per_s": done.rate,
            "cpu_us_per_delivery": (running.cpu() - before) / arrived.events * 1e6,
        }


_PEERS = (NCHAN, CENTRIFUGO, MERCURE)


def fan_out_one(bench: Bench) -> list[Row]:
    plan = bench.plan
    servers = present(YEOUL, LIMIT, QUEUES, *_PEERS)
    found = bench.measure("A", {server.name: partial(_fan_out, server, 1, plan) for server in servers})
    rows = against(
        "A",
        found,
        f"fan-out to {plan.readers}, 1 publisher",
        "deliveries_per_s",
        "events/s",
        [(LIMIT, Target(">=", 0.75)), (QUEUES, Target(">=", 5)), *((peer, None) for peer in _PEERS)],
    )
    paced = bench.measure("A paced", {s.name: partial(_fan_out, s, 1, plan, _PACE) for s in servers})
    for key, what, unit, targets in (
        ("p50_ms", "p50 latency", "ms", {NCHAN.name: Target("<=", 1)}),
        ("p99_ms", "p99 latency", "ms", {}),
        ("cpu_us_per_delivery", "CPU of a delivery", "µs", {LIMIT.name: Target("<=", 1.35)}),
    ):
        what += f", 1 event per {_PACE * 1000:g} ms"
        others = [(server, targets.get(server.name)) for server in (LIMIT, QUEUES, *_PEERS)]
        rows += against("A", paced, what, key, unit, others)
    return rows


def fan_out_eight(bench: Bench) -> list[Row]:
    plan = bench.plan
    servers = present(YEOUL, LIMIT, *_PEERS)
    found = bench.measure("B", {server.name: partial(_fan_out, server, 8, plan) for server in servers})
    what = f"fan-out to {plan.readers}, 8 publishers"
    targets = [(LIMIT, Target(">=", 3)), *((peer, None) for peer in _PEERS)]
    return against("B", found, what, "deliveries_per_s", "events/s", targets)


def portable(bench: Bench) -> list[Row]:
    plan = bench.plan
    found = bench.measure("C", {server.name: partial(_fan_out, server, 1, plan) for server in (YEOUL, PORTABLE)})
    what = f"fan-out to {plan.readers}, 1 publisher"
    return against("C", found, what, "deliveries_per_s", "events/s", [(PORTABLE, None)])


def _idle(server: Fanout, count: int) -> Measured:
    with server.run() as running:
        with readers(running.port, server.follow, 50):
            pass  # what a server loads with its first requests is not the connections'
        time.sleep(0.5)
        before = running.memory()
        with readers(running.port, server.follow, count, idle=True, seconds=60):
            time.sleep(1.0)
            return {"kb_per_connection": (running.memory() - before) / count / 1024}


def idle(bench: Bench) -> list[Row]:
    count = as_many_as_files(bench.plan.idle)
    servers = present(YEOUL, QUEUES, *_PEERS)
    found = bench.measure("D", {server.name: partial(_idle, server, count) for server in servers})
    what = f"memory of each of {count} idle readers"
    rows = [Row("D", what, value_of(found, YEOUL.name, "kb_per_connection"), "KB", target=Target("<=", 8))]
    others = [(server, None) for server in (QUEUES, *_PEERS)]
    return rows + against("D", found, what, "kb_per_connection", "KB", others)


def _answer_tokens(serve: Callable[[str], AbstractContextManager[Running]], path: str, tokens: int) -> Measured:
    options = ("-X", "POST", "-H", "Content-Type: application/json", "-d", '{"prompt": "hello"}')
    with upstream(tokens, _TOKEN_EVERY) as url, serve(url) as running:
        for count in (2, _ANSWERS):  # the first ones are for what is loaded and opened once
            before = running.cpu()
            with readers(running.port, path, count, *options, "-n", str(tokens)) as reading:
                arrived: Arrived = reading.arrived()
                time.sleep(0.2)  # the end of each answer counts too
        if arrived.least != tokens:
            raise Disturbed(f"an answer had {arrived.least} of {tokens} tokens")
        return {
            "cpu_us_per_token": (running.cpu() - before) / arrived.events * 1e6,
            "p50_ms": arrived.p50_ms,
            "p99_ms": arrived.p99_ms,
        }


def tokens(bench: Bench) -> list[Row]:
    count = bench.plan.tokens
    plain = "openai SDK → StreamingResponse"
    found = bench.measure(
        "E",
        {
            YEOUL.name: partial(_answer_tokens, yeoul_answers, "/generations?dialect=json", count),
            plain: partial(_answer_tokens, answers, "/answers", count),
        },
    )
    rows = []
    for key, what, unit, target in (
        (
            "cpu_us_per_token",
            f"{_ANSWERS} answers, 1 token per {_TOKEN_EVERY * 1000:g} ms: CPU",
            "µs/token",
            Target("<=", 0.22),
        ),
        ("p50_ms", "p50 latency of a token", "ms", None),
        ("p99_ms", "p99 latency of a token", "ms", None),
    ):
        ours, theirs = value_of(found, YEOUL.name, key), value_of(found, plain, key)
        rows.append(Row("E", what, ours, unit, plain, theirs, target))
    return rows


def _publishing(seconds: float) -> Measured:
    with YEOUL.run() as running:
        publish(running.port, YEOUL.publish, 1, 0.2)
        return {"publishes_per_s": publish(running.port, YEOUL.publish, 1, seconds).rate}


def _history(count: int) -> Measured:
    """A long topic: what an event costs in memory, and how fast one reader gets all of it."""
    with yeoul() as running:
        _store(running.port, "/topics/other", 100)
        before = running.memory()
        began = time.monotonic()
        _store(running.port, "/topics/bench", count)
        stored_in = time.monotonic() - began
        kept = running.memory() - before
        cpu = running.cpu()
        # In the reader's clock the events are as old as they are; only how fast they come is of interest.
        with readers(running.port, f"/topics/bench?newest={count}", 1, "-n", str(count)) as reading:
            arrived = reading.arrived()
        if arrived.least != count:
            raise Disturbed(f"the reader was given {arrived.least} of {count} events")
        return {
            "bytes_per_event": kept / count,
            "stored_per_s": count / stored_in,
            "caught_up_per_s": arrived.rate,
            "cpu_us_per_event": (running.cpu() - cpu) / count * 1e6,
        }


def _store(port: int, path: str, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    line = json.dumps({"data": f"{time.monotonic_ns()} " + "x" * 100}) + "\n"
    for at in range(0, count, _STORED_BATCH):
        body = line * min(_STORED_BATCH, count - at)
        connection.request("POST", path, body, {"Content-Type": "application/x-ndjson"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 202:
            raise Disturbed(f"publishing was answered {answer.status}: {said[:200]!r}")
    connection.close()


def small_things(bench: Bench) -> list[Row]:
    plan = bench.plan
    found = bench.measure(
        "F",
        {
            "1 publisher": partial(_publishing, plan.fanout / 2),
            "history": partial(_history, plan.stored),
        },
    )
    return [
        Row("F", what, value_of(found, name, key), unit)
        for what, name, key, unit in (
            ("publishing without readers, 1 publisher", "1 publisher", "publishes_per_s", "requests/s"),
            (f"publishing in batches of {_STORED_BATCH}", "history", "stored_per_s", "events/s"),
            (f"memory of each of {plan.stored} kept events", "history", "bytes_per_event", "bytes"),
            (f"one reader catching up on {plan.stored}", "history", "caught_up_per_s", "events/s"),
        )
    ]


def relays(bench: Bench) -> list[Row]:
    count = bench.plan.tokens
    generation = "a generation"
    found = bench.measure(
        "G",
        {
            "a relay": partial(relayed_tokens, count, _TOKEN_EVERY),
            generation: partial(_answer_tokens, yeoul_answers, "/generations?dialect=json", count),
        },
    )
    first = bench.measure("G first", {"a relay": partial(first_event, count, _TOKEN_EVERY)})
    ours, theirs = (value_of(found, name, "cpu_us_per_token") for name in ("a relay", generation))
    what = f"{_ANSWERS} relayed streams, 1 token per {_TOKEN_EVERY * 1000:g} ms: CPU"
    added = value_of(first, "a relay", "added_ms")
    return [
        Row("G", what, ours, "µs/token", generation, theirs, Target("<=", 1.3)),
        Row("G", "first event, beyond the upstream's own time", added, "ms", target=Target("<=", 3)),
    ]


SCENARIOS: Mapping[str, Callable[[Bench], list[Row]]] = {
    "A": fan_out_one,
    "B": fan_out_eight,
    "C": portable,
    "D": idle,
    "E": tokens,
    "F": small_things,
    "G": relays,
    "H": idle_users,
    "I": message_to_room,
    "J": publishing,
    "K": connecting,
    "L": enter_room,
    "M": starting,
    "N": durable,
}
