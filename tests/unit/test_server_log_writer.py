"""Log lines, written beside what the server does."""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from yeoul.server import logs as log_writer
from yeoul.server.logs import writing_logs

logger = logging.getLogger("test.log_writer")


@contextmanager
def plain() -> Iterator[None]:
    """One handler, whose form is the message alone."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(logging.INFO)
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    yield
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_all_is_written_in_order_before_it_ends(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with plain(), writing_logs(writing):
        for number in range(100):
            logger.info("%d 여울", number)
        logger.debug("not at this level")
    written = os.read(reading, 65_536).decode()
    assert written == "".join(f"{number} 여울\n" for number in range(100))


def test_a_pipe_without_a_reader_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_LAST_S", 0.05)
    reading, writing = os.pipe()
    with plain(), writing_logs(writing):
        for number in range(log_writer._MAX_WAITING + 5_000):
            logger.info("%d %s", number, "x" * 100)
    (thread,) = [thread for thread in threading.enumerate() if "_monitor" in thread.name]
    written = bytearray()
    while thread.is_alive() or select.select([reading], [], [], 0)[0]:
        if select.select([reading], [], [], 0.01)[0]:
            written += os.read(reading, 65_536)
    lines = written.decode().splitlines()
    assert lines[0].startswith("0 xxx")
    assert log_writer._MAX_WAITING - 10 < len(lines) < log_writer._MAX_WAITING + 2_000
    assert any("were left out" in line for line in lines)
    os.close(reading)
    os.close(writing)


def test_a_pipe_that_others_have_made_non_blocking_is_waited_for(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    lines = [f"{number} {'x' * 1_000}\n" for number in range(200)]  # more than a pipe holds
    written = bytearray()
    with plain(), writing_logs(writing):
        for line in lines:
            logger.info("%s", line[:-1])
        while len(written) < sum(map(len, lines)) and select.select([reading], [], [], 5)[0]:
            written += os.read(reading, 65_536)
    assert written.decode() == "".join(lines)


def test_a_pipe_whose_reader_is_gone_ends_the_writing_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with plain(), writing_logs(writing):
        for number in range(10):
            logger.info("%d", number)
    os.close(writing)


def test_what_cannot_be_formatted_does_not_end_it(pipe: tuple[int, int]) -> None:
    with plain(), writing_logs(pipe[1]):
        logger.info("%d", "no number")
        logger.info("after it")
    first, second = os.read(pipe[0], 65_536).decode().splitlines()
    assert "test_server_log_writer.py" in first
    assert second == "after it"


def test_a_disk_that_is_full_loses_lines_and_says_how_many_when_it_has_room_again(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    room = 25  # bytes until the disk is full; None: no bound
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        nonlocal room
        if fd != writing or room is None:
            return write(fd, data)
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(fd, data[:room])
        room -= written
        return written

    monkeypatch.setattr("yeoul.server.logs.os.write", limited)
    with plain(), writing_logs(writing):
        for number in range(5):
            logger.info("line %d of ten bytes", number)
        full = threading.Event()
        while not full.wait(0.01):
            if room == 0 and logging.getLogger().handlers[0].queue.empty():  # type: ignore[attr-defined]
                full.set()
        room = None
        logger.info("after it")
    lines = os.read(reading, 65_536).decode().splitlines()
    assert lines[:2] == ["line 0 of ten bytes", "line "]
    assert "after it" in lines
    assert "4 lines could not be written: No space left on device" in lines
    assert len(lines) == 4


def test_handlers_are_as_before_when_it_ends() -> None:
    before = list(logging.getLogger().handlers)
    with writing_logs():
        assert logging.getLogger().handlers != before
    assert logging.getLogger().handlers == before
