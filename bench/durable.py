"""Scenario N: what it costs to keep events in a file, against keeping them in memory."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from .drive import Disturbed, publish, readers
from .results import Measured, Row, Target
from .rounds import Bench, value_of
from .servers import upstream, yeoul, yeoul_answers

__all__ = ["durable"]

_PUBLISHERS = 8
_BATCH = 50
_REPLAYED = 10_000
_ANSWERS = 200
_TOKEN_EVERY = 0.05
_MEMORY, _SQLITE = "memory", "SQLite"


@contextmanager
def _broker(name: str) -> Iterator[str]:
    """The URL of a new broker; a file is on the disk of the working directory."""
    if name == _MEMORY:
        yield "memory://"
        return
    with tempfile.TemporaryDirectory(dir=".", prefix="bench-broker-") as folder:
        yield f"sqlite:///{Path(folder).absolute() / 'broker.db'}"


def _lines(count: int) -> tuple[str, ...]:
    """A body of so many events. The publisher writes the time into the first, the others have one of long ago."""
    stamps = ["STAMP", *["1000000000"] * (count - 1)]
    body = "".join(json.dumps({"data": f"{stamp} {'x' * 100}"}) + "\n" for stamp in stamps)
    return ("-H", "Content-Type: application/x-ndjson", "-d", body)


def _publish(name: str, batch: int, seconds: float) -> Measured:
    options = _lines(batch)
    with _broker(name) as url, yeoul(YEOUL_BROKER=url) as running:
        publish(running.port, "/topics/bench", _PUBLISHERS, 0.3, 0, *options)
        before = running.cpu()
        done = publish(running.port, "/topics/bench", _PUBLISHERS, seconds, 0, *options)
        cpu = running.cpu() - before
    return {
        "events_per_s": done.rate * batch,
        "p99_ms": done.p99_ms,
        "cpu_us_per_event": cpu / (done.published * batch) * 1e6,
    }


def _replay(name: str) -> Measured:
    """One reader of a topic that has been read from the file."""
    options = _lines(100)
    with _broker(name) as url:
        with yeoul(YEOUL_BROKER=url) as running:
            kept = 0
            while kept < _REPLAYED:
                kept += publish(running.port, "/topics/bench", 1, 0.2, 0, *options).published * 100
            if name == _MEMORY:
                return _read(running.port)
        with yeoul(YEOUL_BROKER=url) as running:
            publish(running.port, "/topics/other", 1, 0.2)  # what a server loads with its first requests is not it
            return _read(running.port)


def _read(port: int) -> Measured:
    began = time.monotonic()
    with readers(port, f"/topics/bench?newest={_REPLAYED}", 1, "-n", str(_REPLAYED)) as reading:
        arrived = reading.arrived()
    if arrived.least != _REPLAYED:
        raise Disturbed(f"the reader was given {arrived.least} of {_REPLAYED} events")
    return {"replay_ms": (time.monotonic() - began) * 1_000}


def _tokens(name: str, tokens: int) -> Measured:
    options = ("-X", "POST", "-H", "Content-Type: application/json", "-d", '{"prompt": "hello"}')
    with (
        upstream(tokens, _TOKEN_EVERY) as model,
        _broker(name) as url,
        yeoul_answers(model, YEOUL_BROKER=url) as running,
    ):
        for count in (2, _ANSWERS):  # the first ones are for what is loaded and opened once
            before = running.cpu()
            with readers(running.port, "/generations?dialect=json", count, *options, "-n", str(tokens)) as reading:
                arrived = reading.arrived()
                time.sleep(0.2)  # the end of each answer counts too
        if arrived.least != tokens:
            raise Disturbed(f"an answer had {arrived.least} of {tokens} tokens")
        return {"cpu_us_per_token": (running.cpu() - before) / arrived.events * 1e6, "p99_ms": arrived.p99_ms}


def durable(bench: Bench) -> list[Row]:
    plan = bench.plan
    brokers = (_SQLITE, _MEMORY)
    batches = bench.measure("N batches", {name: partial(_publish, name, _BATCH, plan.fanout) for name in brokers})
    single = bench.measure("N single", {name: partial(_publish, name, 1, plan.fanout) for name in brokers})
    replay = bench.measure("N replay", {name: partial(_replay, name) for name in brokers})
    tokens = bench.measure("N tokens", {name: partial(_tokens, name, plan.tokens) for name in brokers})
    what = f"SQLite, {_PUBLISHERS} publishers"
    rows = []
    for found, key, text, unit, target in (
        (batches, "events_per_s", f"{what}, batches of {_BATCH}", "events/s", Target(">=", 10_000)),
        (batches, "p99_ms", f"{what}, batches of {_BATCH}: p99 of a publish", "ms", Target("<=", 30)),
        (single, "events_per_s", f"{what}, one event each", "events/s", None),
        (single, "p99_ms", f"{what}, one event each: p99 of a publish", "ms", None),
        (replay, "replay_ms", f"SQLite, {_REPLAYED} events to one reader after a restart", "ms", Target("<=", 150)),
    ):
        rows.append(Row("N", text, value_of(found, _SQLITE, key), unit, target=target))
        rows.append(Row("N", f"… in memory: {key}", value_of(found, _MEMORY, key), unit))
    ours, theirs = (value_of(tokens, name, "cpu_us_per_token") for name in brokers)
    text = f"SQLite, {_ANSWERS} answers, 1 token per {_TOKEN_EVERY * 1000:g} ms: CPU"
    rows.append(Row("N", text, ours, "µs/token", _MEMORY, theirs, Target("<=", 1.5)))
    rows.append(Row("N", "SQLite: p99 latency of a token", value_of(tokens, _SQLITE, "p99_ms"), "ms"))
    return rows
