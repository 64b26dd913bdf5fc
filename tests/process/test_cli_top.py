"""`yeoul top` in a terminal, and without one."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from support.command import environment, yeoul
from support.reader import open_stream
from support.serving import free_port, yeoul_serve
from support.tokens import bearer, demo_token

pytestmark = pytest.mark.timeout(240)

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with yeoul_serve(env={"YEOUL_OWN_DOCUMENTS": "false"}) as served:
        yield served.port


@dataclass
class Terminal:
    process: subprocess.Popen[bytes]
    master: int
    seen: bytes = b""

    async def until(self, text: str) -> None:
        """Until it has shown this since the last time."""
        async with asyncio.timeout(20):
            while text.encode() not in self.seen:
                self.seen += await asyncio.to_thread(os.read, self.master, 65_536)
        self.seen = self.seen.partition(text.encode())[2]

    async def rest(self) -> bytes:
        while True:
            try:
                piece = await asyncio.to_thread(os.read, self.master, 65_536)
            except OSError:  # the other end is closed (Linux)
                return self.seen
            self.seen += piece


@contextmanager
def terminal(*arguments: str, columns: int = 80, lines: int = 24, **env: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    clean = {name: value for name, value in environment(**env).items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "yeoul", *arguments],
        env={**clean, "TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


async def test_one_look_is_printed(server: int) -> None:
    headers = bearer(demo_token("김", "철수"))
    async with await open_stream(server, "/topics/chat/일반", headers=headers) as stream:
        await stream.take(1)
        done = await asyncio.to_thread(yeoul, "top", "--once", YEOUL_URL=f"http://127.0.0.1:{server}")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"http://127.0.0.1:{server}" in done.stdout
    assert "1 of 1,000" in done.stdout
    assert "chat/일반" in done.stdout
    assert "김  chat/일반" in done.stdout
    assert "\x1b" not in done.stdout


def test_without_a_terminal_one_look_is_printed_too(server: int) -> None:
    done = yeoul("top", YEOUL_URL=f"http://127.0.0.1:{server}")
    assert done.returncode == 0
    assert "of 1,000" in done.stdout


def test_without_the_role_admin_the_error_says_what_is_needed(server: int) -> None:
    token = demo_token("u1")
    done = yeoul("top", "--once", YEOUL_URL=f"http://127.0.0.1:{server}", YEOUL_TOKEN=token)
    assert (done.returncode, done.stdout) == (1, "")
    assert "403 Forbidden" in done.stderr
    assert "needs a token with the role `admin`: set YEOUL_TOKEN" in done.stderr
    assert token not in done.stderr


def test_one_look_at_nothing_fails() -> None:
    done = yeoul("top", "--once", YEOUL_URL=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "cannot be reached: connection refused" in done.stderr
    assert "Traceback" not in done.stderr


async def test_it_goes_on_while_the_server_is_away() -> None:
    port = free_port()
    env = {"YEOUL_OWN_DOCUMENTS": "false"}
    with terminal("top", "--interval", "0.2", YEOUL_URL=f"http://127.0.0.1:{port}") as shown:
        await shown.until("connection refused; trying again")
        with yeoul_serve("--port", str(port), env=env) as served:
            await shown.until("of 1,000")
            served.signal()
            await asyncio.to_thread(served.wait)
        await shown.until("connection refused, last seen")
        with yeoul_serve("--port", str(port), env=env):
            await shown.until("up 1 s")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_gives_the_terminal_back_as_it_was(server: int, number: signal.Signals) -> None:
    with terminal("top", "--interval", "0.2", columns=50, YEOUL_URL=f"http://127.0.0.1:{server}") as shown:
        await shown.until(ENTER.decode())
        await shown.until("of 1,000")
        shown.process.send_signal(number)
        rest = await shown.rest()
        assert await asyncio.to_thread(shown.process.wait, 10) == 0
    assert LEAVE in rest
    assert SHOW_CURSOR in rest
    after = rest.partition(LEAVE)[2]
    assert b"Traceback" not in after
    assert b"of 1,000" not in after
