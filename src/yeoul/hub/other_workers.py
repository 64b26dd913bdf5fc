"""Noticing that other worker processes serve the same listening socket, each with data of its own."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress

__all__ = ["OtherWorkers"]


class OtherWorkers:
    """Each process claims a name that is made of the socket's number (an abstract Unix socket, which is gone with its
    process); where another process has it, that one serves the same socket. Linux only: elsewhere none are found.

    `handover`: seconds for which two may serve it without being found, as when gunicorn replaces a worker.
    """

    def __init__(self, socket_id: int, *, handover: float) -> None:
        self._name = f"\0yeoul-memory-hub-{socket_id}"
        self._handover = handover
        self._claims: list[socket.socket] = []
        self._settled = sys.platform != "linux" or self._claim(self._name)
        self._since = time.monotonic()

    def found(self) -> bool:
        """True once, in one of the processes."""
        if self._settled or time.monotonic() - self._since < self._handover:
            return False
        self._settled = True
        return not self._claim(self._name) and self._claim(f"{self._name}-found")

    def close(self) -> None:
        for claim in self._claims:
            claim.close()
        self._claims.clear()

    def _claim(self, name: str) -> bool:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(name)
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True

    def __del__(self) -> None:
        with suppress(Exception):  # a hub that was dropped without `close`
            self.close()
