"""Log lines are written by a thread: whoever reads stderr slowly, or not at all, must not hold up the streams.

A pipe that nobody reads is full after 64 KiB, and a write to it then waits for ever: with a line for each stream that
ends, a server whose supervisor does not read would stand still in the midst of its shutdown.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Thread

__all__ = ["writing_logs"]

# Records that wait to be written; more are left out, and counted.
_MAX_WAITING = 10_000

# Seconds for which the end waits for what is still to be written.
_PARTING = 1.0


@contextmanager
def writing_logs(fd: int = 2) -> Iterator[None]:
    """While it lasts, what the root logger's handlers write is formatted and written to this file descriptor by a
    thread."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    writer = _Writer(fd, handlers)
    root.handlers[:] = [writer]
    thread = Thread(target=writer.run, name="log writer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        writer.finish()
        thread.join(_PARTING)
        root.handlers[:] = handlers


class _Writer(logging.Handler):
    """Takes records, and writes them as `handlers` would."""

    def __init__(self, fd: int, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._fd = fd
        self._handlers = handlers
        self._waiting: Queue[logging.LogRecord | None] = Queue(_MAX_WAITING)
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(record)
        except Full:
            self._left_out += 1

    def finish(self) -> None:
        """The end is after what is waiting, or instead of some of it."""
        while True:
            try:
                self._waiting.put_nowait(None)
                return
            except Full:
                self._drop_one()

    def run(self) -> None:
        with suppress(OSError):  # there is nothing left to write to, and nobody to tell
            self._write_all()

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._write(record)
            if self._waiting.empty():
                self._tell_left_out()
        self._tell_left_out()

    def _tell_left_out(self) -> None:
        left_out, self._left_out = self._left_out, 0
        if left_out:
            text = "%d lines were left out: they came faster than they were read"
            self._write(logging.LogRecord("yeoul", logging.WARNING, __file__, 0, text, (left_out,), None))

    def _write(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno < handler.level:
                continue
            try:
                line = handler.format(record)
            except Exception as error:
                line = f"a record of {record.pathname}:{record.lineno} could not be written: {error!r}"
            # Not through sys.stderr: a thread that waits in it at the end of the process would abort that.
            self._write_out(f"{line}\n".encode(errors="backslashreplace"))

    def _write_out(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # whoever shares this pipe or terminal with us may have made it so
                select.select([], [self._fd], [])

    def _drop_one(self) -> None:
        try:
            self._waiting.get_nowait()
            self._left_out += 1
        except Empty:
            pass
