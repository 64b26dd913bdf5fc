"""The scenarios: what is done, how often, and what it is held against."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from .drive import Arrived, Disturbed, publish, readers
from .processes import Running
from .relay import first_event, relayed_tokens
from .results import Measured, Row, Target
from .rounds import Bench, Plan, as_many_as_files, value_of
from .servers import LIMIT, NCHAN, PORTABLE, QUEUES, YEOUL, Fanout, answers, upstream, yeoul, yeoul_answers
from .users import idle_users, message_to_room

__all__ = ["SCENARIOS"]


_ANSWERS = 50
_TOKEN_EVERY = 0.02
_PACE = 0.02  # between two events where latency is measured
_STORED_BATCH = 5_000


def _fan_out(server: Fanout, publishers: int, plan: Plan, pause: float = 0.0) -> Measured:
    with server.run() as running, readers(running.port, server.follow, plan.readers) as reading:
        time.sleep(0.2)  # some subscribe after their head is sent
        before = running.cpu()
        published, seconds = publish(running.port, server.publish, publishers, plan.fanout, pause)
        arrived = reading.arrived(published)
        if arrived.least != published:
            raise Disturbed(f"a reader was given {arrived.least} of {published} events")
        return {
            "deliveries_per_s": arrived.rate,
            "p50_ms": arrived.p50_ms,
            "p99_ms": arrived.p99_ms,
            "publishes_per_s": published / seconds,
            "cpu_us_per_delivery": (running.cpu() - before) / arrived.events * 1e6,
        }


def _against(
    scenario: str,
    found: Mapping[str, Measured],
    what: str,
    key: str,
    unit: str,
    targets: Sequence[tuple[Fanout, Target | None]],
) -> list[Row]:
    """Yeoul's figure against each of the others."""
    rows = []
    for server, target in targets:
        against = f"{server.name}: {server.missing}" if server.missing else server.name
        ours, theirs = value_of(found, YEOUL.name, key), value_of(found, server.name, key)
        rows.append(Row(scenario, what, ours, unit, against, theirs, target))
    return rows


def fan_out_one(bench: Bench) -> list[Row]:
    plan = bench.plan
    present = [server for server in (YEOUL, LIMIT, QUEUES, NCHAN) if server.missing is None]
    found = bench.measure("A", {server.name: partial(_fan_out, server, 1, plan) for server in present})
    rows = _against(
        "A",
        found,
        f"fan-out to {plan.readers}, 1 publisher",
        "deliveries_per_s",
        "events/s",
        [(LIMIT, Target(">=", 0.75)), (QUEUES, Target(">=", 5)), (NCHAN, None)],
    )
    paced = bench.measure("A paced", {s.name: partial(_fan_out, s, 1, plan, _PACE) for s in (YEOUL, LIMIT, QUEUES)})
    for key, what, unit in (
        ("p50_ms", "p50 latency", "ms"),
        ("p99_ms", "p99 latency", "ms"),
        ("cpu_us_per_delivery", "CPU of a delivery", "µs"),
    ):
        what += f", 1 event per {_PACE * 1000:g} ms"
        rows += _against("A", paced, what, key, unit, [(LIMIT, None), (QUEUES, None)])
    return rows


def fan_out_eight(bench: Bench) -> list[Row]:
    plan = bench.plan
    present = [server for server in (YEOUL, LIMIT, NCHAN) if server.missing is None]
    found = bench.measure("B", {server.name: partial(_fan_out, server, 8, plan) for server in present})
    what = f"fan-out to {plan.readers}, 8 publishers"
    return _against("B", found, what, "deliveries_per_s", "events/s", [(LIMIT, Target(">=", 3)), (NCHAN, None)])


def portable(bench: Bench) -> list[Row]:
    plan = bench.plan
    found = bench.measure("C", {server.name: partial(_fan_out, server, 1, plan) for server in (YEOUL, PORTABLE)})
    what = f"fan-out to {plan.readers}, 1 publisher"
    return _against("C", found, what, "deliveries_per_s", "events/s", [(PORTABLE, None)])


def _idle(server: Fanout, count: int) -> Measured:
    with server.run() as running:
        with readers(running.port, server.follow, 50):
            pass  # what a server loads with its first requests is not the connections'
        time.sleep(0.5)
        before, cpu = running.memory(), running.cpu()
        with readers(running.port, server.follow, count, idle=True) as reading:
            cpu = running.cpu() - cpu
            time.sleep(1.0)
            return {
                "kb_per_connection": (running.memory() - before) / count / 1024,
                "connects_per_s": count / reading.connected_in,
                "cpu_us_per_connect": cpu / count * 1e6,
            }


def idle(bench: Bench) -> list[Row]:
    count = as_many_as_files(bench.plan.idle)
    present = [server for server in (YEOUL, QUEUES, NCHAN) if server.missing is None]
    found = bench.measure("D", {server.name: partial(_idle, server, count) for server in present})
    what = f"memory of each of {count} idle readers"
    rows = [Row("D", what, value_of(found, YEOUL.name, "kb_per_connection"), "KB", target=Target("<=", 12))]
    rows += _against("D", found, what, "kb_per_connection", "KB", [(QUEUES, None), (NCHAN, None)])
    rows += _against("D", found, "readers that connect", "connects_per_s", "/s", [(QUEUES, None), (NCHAN, None)])
    return rows


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
            Target("<=", 0.35),
        ),
        ("p50_ms", "p50 latency of a token", "ms", None),
        ("p99_ms", "p99 latency of a token", "ms", None),
    ):
        ours, theirs = value_of(found, YEOUL.name, key), value_of(found, plain, key)
        rows.append(Row("E", what, ours, unit, plain, theirs, target))
    return rows


def _publishing(publishers: int, seconds: float) -> Measured:
    with YEOUL.run() as running:
        publish(running.port, YEOUL.publish, publishers, 0.2)
        before = running.cpu()
        published, took = publish(running.port, YEOUL.publish, publishers, seconds)
        return {"publishes_per_s": published / took, "cpu_us": (running.cpu() - before) / published * 1e6}


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
            "1 publisher": partial(_publishing, 1, plan.fanout / 2),
            "8 publishers": partial(_publishing, 8, plan.fanout / 2),
            "history": partial(_history, plan.stored),
        },
    )
    return [
        Row("F", what, value_of(found, name, key), unit)
        for what, name, key, unit in (
            ("publishing to no reader, 1 publisher", "1 publisher", "publishes_per_s", "requests/s"),
            ("publishing to no reader, 8 publishers", "8 publishers", "publishes_per_s", "requests/s"),
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
}
