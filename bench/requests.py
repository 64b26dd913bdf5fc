"""What a request costs, and how soon the server is up: publishing without readers, connecting, starting."""

from __future__ import annotations

import time
from functools import partial

from .drive import publish, readers
from .processes import Running, seconds_until
from .results import Measured, Row, Target
from .rounds import Bench, against, present, value_of
from .servers import CENTRIFUGO, LIMIT, MERCURE, NCHAN, YEOUL, Fanout, free_port, yeoul, yeoul_command
from .tokens import SECRET, tokens

__all__ = ["connecting", "publishing", "starting"]

_PUBLISHERS = 8
_EVERY_S = 0.001  # of each: 8 000 a second in all, which every server can bear
_WARM_UP_S = 0.3
_WARM_UP_READERS = 50
_SETTLE_S = 0.3  # what is left to do for a connection after its head is out counts too
_NEW, _KNOWN = "JWT not seen before", "JWT seen before"
_STARTS = 5


def _publish(server: Fanout, seconds: float) -> Measured:
    options = server.publish_options
    with server.run() as running:
        publish(running.port, server.publish, _PUBLISHERS, _WARM_UP_S, 0, *options)
        before = running.cpu()
        paced = publish(running.port, server.publish, _PUBLISHERS, seconds, _EVERY_S, *options)
        paced_cpu = running.cpu() - before
        before = running.cpu()
        full = publish(running.port, server.publish, _PUBLISHERS, seconds, 0, *options)
        full_cpu = running.cpu() - before
    return {
        "cpu_us": paced_cpu / paced.published * 1e6,
        "full_cpu_us": full_cpu / full.published * 1e6,
        "per_s": full.rate,
        "p50_ms": full.p50_ms,
        "p99_ms": full.p99_ms,
    }


def publishing(bench: Bench) -> list[Row]:
    """Eight publishers and no reader: the cost of a request that does little."""
    others = (LIMIT, NCHAN, CENTRIFUGO, MERCURE)
    found = bench.measure("J", {s.name: partial(_publish, s, bench.plan.fanout) for s in present(YEOUL, *others)})
    what = f"publishing without readers, {_PUBLISHERS} keep-alive publishers"
    targets = [(LIMIT, Target("<=", 10)), (NCHAN, None), (CENTRIFUGO, None), (MERCURE, Target("<=", 1))]
    untargeted = [(server, None) for server in others]
    rate = value_of(found, YEOUL.name, "per_s")
    return [
        *against("J", found, f"{what}, 8 000 requests/s: CPU of each", "cpu_us", "µs", targets),
        *against("J", found, f"{what}, as fast as they can: CPU of each", "full_cpu_us", "µs", untargeted),
        Row("J", f"{what}, as fast as they can", rate, "requests/s", target=Target(">=", 8_000)),
        *against("J", found, f"{what}, as fast as they can", "per_s", "requests/s", untargeted),
    ]


def _cost_of_connecting(running: Running, path: str, count: int, *options: str) -> dict[str, float]:
    before = running.cpu()
    with readers(running.port, path, count, *options, idle=True, seconds=60) as reading:
        time.sleep(_SETTLE_S)
        return {"cpu_us": (running.cpu() - before) / count * 1e6, "per_s": count / reading.connected_in}


def _connect(server: Fanout, count: int) -> Measured:
    with server.run() as running:
        with readers(running.port, server.follow, _WARM_UP_READERS):
            pass  # what a server loads with its first requests is not the cost of a connection
        time.sleep(_SETTLE_S)
        return _cost_of_connecting(running, server.follow, count)


def _connect_users(count: int) -> Measured:
    """Each reader with a token of its own; then all of them again, with the same tokens."""
    path = YEOUL.follow
    with yeoul(YEOUL_JWT_SECRET=SECRET, YEOUL_SUBSCRIBE='["bench"]') as running:
        with readers(running.port, path, _WARM_UP_READERS, "-T", str(tokens(_WARM_UP_READERS, "early"))):
            pass
        time.sleep(_SETTLE_S)
        users = ("-T", str(tokens(count)))
        new = _cost_of_connecting(running, path, count, *users)
        time.sleep(1.0)  # until the server has seen that they are gone
        known = _cost_of_connecting(running, path, count, *users)
    return {
        "new_cpu_us": new["cpu_us"],
        "new_per_s": new["per_s"],
        "known_cpu_us": known["cpu_us"],
        "known_per_s": known["per_s"],
    }


def connecting(bench: Bench) -> list[Row]:
    """Readers that connect all at once: an open topic, then each with a token."""
    count = bench.plan.connecting
    servers = (YEOUL, LIMIT, NCHAN, CENTRIFUGO, MERCURE)
    users = "Yeoul, JWT"
    found = bench.measure(
        "K",
        {**{s.name: partial(_connect, s, count) for s in present(*servers)}, users: partial(_connect_users, count)},
    )
    what = f"{count} readers connect to an open topic"
    ahead = Target("<=", 1)
    targets = [(LIMIT, Target("<=", 8)), (NCHAN, None), (CENTRIFUGO, ahead), (MERCURE, ahead)]
    rows = against("K", found, f"{what}: CPU of each", "cpu_us", "µs", targets)
    rows += against("K", found, f"{what}: rate", "per_s", "/s", [(server, None) for server, _ in targets])
    of_open = value_of(found, YEOUL.name, "cpu_us")
    for kind, key, target in ((_NEW, "new_cpu_us", Target("<=", 1.8)), (_KNOWN, "known_cpu_us", None)):
        cpu = value_of(found, users, key)
        rows.append(Row("K", f"the same with a {kind}: CPU of each", cpu, "µs", "Yeoul, open topic", of_open, target))
    return rows


def _start() -> Measured:
    port = free_port()
    return {"ready_s": seconds_until("yeoul ready on", yeoul_command(port))}


def starting(bench: Bench) -> list[Row]:
    _start()  # compiles what has not been imported yet, and reads the files into the page cache
    found = bench.measure("M", {YEOUL.name: _start}, rounds=_STARTS)
    ready = value_of(found, YEOUL.name, "ready_s")
    return [Row("M", "start-up: from the command to the ready line", ready, "s", target=Target("<=", 1.0))]
