"""Asks a server one kind of thing after the other while something befalls it, and tells how long each answer took.

    python prober.py PORT PID TOKEN TOPIC…

A process of its own: what is slow in a test's client must not look like a slow server. Each kind has a thread of its
own and a new connection for each request, as somebody who comes now. What is published goes to the topics in turn.
Time in which the server (PID) was ready to run and other processes had the cores is not the server's, and is left out.
The end of stdin ends it; it then writes one JSON object: by kind, how many, the slowest in seconds, and the slowest by
the clock; what has failed; and what was published where.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

_PAUSE_S = 0.03
_PUBLISH_PAUSE_S = 0.2  # each of these goes to thousands
_GIVE_UP_S = 20.0


class Prober:
    def __init__(self, port: int, pid: int, token: str, topics: list[str]) -> None:
        self.kinds: dict[str, dict[str, float]] = {}
        self.failed: list[str] = []
        self.published: list[tuple[str, str, str]] = []  # topic, id, data
        self._port = port
        self._schedule = Path(f"/proc/{pid}/schedstat")
        self._credential = {"Authorization": f"Bearer {token}"}
        self._topics = topics
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(kind, probe))
            for kind, probe in {
                "GET /livez": lambda: self._get("/livez"),
                "GET /readyz": lambda: self._get("/readyz"),
                "publish": self._publish,
                "a new stream's first byte": lambda: self._get(f"/topics/{topics[0]}", first_byte=True),
            }.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, kind: str, probe: Callable[[], None]) -> None:
        found = self.kinds[kind] = {"count": 0, "slowest": 0.0, "by the clock": 0.0}
        while not self._over.is_set():
            began, kept = time.monotonic(), self._kept_waiting()
            try:
                probe()
            except Exception as error:
                self.failed.append(f"{kind}: {error!r}")
            took = time.monotonic() - began
            found["by the clock"] = max(found["by the clock"], took)
            found["slowest"] = max(found["slowest"], took - (self._kept_waiting() - kept))
            found["count"] += 1
            self._over.wait(_PUBLISH_PAUSE_S if kind == "publish" else _PAUSE_S)

    def _kept_waiting(self) -> float:
        """Seconds for which the server has waited for a core so far; 0 where the system does not tell."""
        try:
            return int(self._schedule.read_text().split()[1]) / 1e9
        except FileNotFoundError:
            return 0.0

    def _get(self, path: str, *, first_byte: bool = False) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_GIVE_UP_S)
        try:
            connection.request("GET", path, headers=self._credential)
            answer = connection.getresponse()
            got = answer.read(1) if first_byte else answer.read()
            if answer.status != 200 or not got:
                raise ValueError(f"{path} was answered {answer.status}: {got!r}")
        finally:
            connection.close()

    def _publish(self) -> None:
        topic, data = self._topics[len(self.published) % len(self._topics)], f"during {len(self.published)}"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_GIVE_UP_S)
        try:
            connection.request("POST", f"/topics/{topic}", data, {**self._credential, "Content-Type": "text/plain"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 202:
                raise ValueError(f"publishing was answered {answer.status}: {body!r}")
            self.published.append((topic, json.loads(body)["id"], data))
        finally:
            connection.close()


def main() -> None:
    prober = Prober(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    prober.start()
    sys.stdout.write("probing\n")
    sys.stdout.flush()
    sys.stdin.read()
    prober.stop()
    json.dump({"kinds": prober.kinds, "failed": prober.failed, "published": prober.published}, sys.stdout)


if __name__ == "__main__":
    main()
