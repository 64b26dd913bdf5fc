"""What a relayed stream costs: against a generation from the same model server, and beyond that server's own time."""

from __future__ import annotations

import json
import socket
import statistics
import time
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from .drive import Disturbed, readers
from .processes import Running
from .results import Measured
from .servers import upstream, yeoul

__all__ = ["STREAMS", "first_event", "relayed_tokens"]

STREAMS = 50
_PROBES = 60


def _routes(**upstreams: str) -> str:
    return json.dumps(
        [
            {
                "path": f"/{name}",
                "upstream": {"url": f"{url}/chat/completions", "body": {}, "end": [{"data": "[DONE]"}]},
            }
            for name, url in upstreams.items()
        ]
    )


def _gateway(**upstreams: str) -> AbstractContextManager[Running]:
    return yeoul(YEOUL_ROUTES=_routes(**upstreams))


def relayed_tokens(tokens: int, every: float) -> Measured:
    """As the scenario of answers, through a route."""
    with upstream(tokens, every) as url, _gateway(relay=url) as running:
        for count in (2, STREAMS):  # the first ones are for what is loaded and opened once
            before = running.cpu()
            with readers(running.port, "/relay", count, "-n", str(tokens)) as reading:
                arrived = reading.arrived()
                time.sleep(0.2)  # the end of each stream counts too
        if arrived.least != tokens:
            raise Disturbed(f"a stream had {arrived.least} of {tokens} tokens")
        return {"cpu_us_per_token": (running.cpu() - before) / arrived.events * 1e6, "p50_ms": arrived.p50_ms}


def first_event(tokens: int, every: float) -> Measured:
    """From a request to its first event, while 50 streams run: through the gateway, and from the upstream itself."""
    with upstream(tokens, every) as busy, upstream(1, 0) as quick, _gateway(relay=busy, probe=quick) as running:
        own = urlsplit(quick).port or 0
        with readers(running.port, "/relay", STREAMS, "-n", str(tokens)) as reading:
            _until_first_event(running.port, "GET /probe")
            taken = [
                (_until_first_event(running.port, "GET /probe"), _until_first_event(own, "POST /v1/chat/completions"))
                for _ in range(_PROBES)
            ]
            reading.arrived()
    relayed, direct = (statistics.median(times) * 1000 for times in zip(*taken, strict=True))
    return {"relayed_ms": relayed, "direct_ms": direct, "added_ms": relayed - direct}


def _until_first_event(port: int, request: str) -> float:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(f"{request} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        received = b""
        while b"data: {" not in received:
            piece = sock.recv(65_536)
            if not piece:
                raise Disturbed(f"{request} was answered {received[:200]!r}")
            received += piece
    return time.monotonic() - began
