from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import pytest
import uvloop

from yeoul.server.acceptor import Acceptor


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    return {"uvloop": uvloop.new_event_loop}


class Greeter(asyncio.Protocol):
    """Notes the first line of what each client says, in the order in which they were read, and answers."""

    said: list[bytes]

    def __init__(self, said: list[bytes]) -> None:
        self.said = said

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.said.append(data.split(b"\r\n", 1)[0])
        self.transport.write(b"hello\n")
        self.transport.close()


@contextmanager
def accepting(said: list[bytes], listener: socket.socket) -> Iterator[int]:
    acceptor = Acceptor(asyncio.get_running_loop(), listener, lambda client, server: Greeter(said))
    try:
        yield listener.getsockname()[1]
    finally:
        acceptor.close()


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(4_096)
    return sock


def connected(port: int, text: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 5)
    client.sendall(text)
    client.setblocking(False)
    return client


async def answer(client: socket.socket) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await asyncio.get_running_loop().sock_recv(client, 100)
        finally:
            client.close()


async def test_all_that_wait_are_answered() -> None:
    said: list[bytes] = []
    listener = listening()
    clients = [connected(listener.getsockname()[1], b"%d\r\n" % number) for number in range(300)]
    with accepting(said, listener):
        assert [await answer(client) for client in clients] == [b"hello\n"] * 300
    assert sorted(said) == sorted(b"%d" % number for number in range(300))


@pytest.mark.parametrize(
    "back", [b"GET /a HTTP/1.1\r\nlast-Event-ID: e-1\r\n\r\n", b"GET /a?lastEventId=e-1 HTTP/1.1\r\n\r\n"]
)
async def test_new_clients_are_read_before_those_that_reconnect(back: bytes) -> None:
    said: list[bytes] = []
    listener = listening()
    port = listener.getsockname()[1]
    clients = [connected(port, back) for _ in range(200)]
    clients += [connected(port, b"GET /livez HTTP/1.1\r\n\r\n")]
    with accepting(said, listener):
        for client in clients:
            assert await answer(client) == b"hello\n"
    assert said.index(b"GET /livez HTTP/1.1") < 50


async def test_a_connection_that_is_silent_is_read_later() -> None:
    said: list[bytes] = []
    with accepting(said, listening()) as port:
        client = connected(port)
        other = connected(port, b"other\r\n")
        assert await answer(other) == b"hello\n"
        client.sendall(b"late\r\n")
        assert await answer(client) == b"hello\n"
    assert said == [b"other", b"late"]


async def test_clients_that_have_left_do_not_delay_others() -> None:
    said: list[bytes] = []
    listener = listening()
    port = listener.getsockname()[1]
    for _ in range(20):
        gone = connected(port, b"gone\r\n")
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        gone.close()
    with accepting(said, listener):
        assert await answer(connected(port, b"here\r\n")) == b"hello\n"
    assert b"here" in said


async def test_closed_it_listens_no_more_and_lets_go_of_those_that_wait() -> None:
    said: list[bytes] = []
    listener = listening()
    port = listener.getsockname()[1]
    waiting = connected(port, b"waiting\r\n")
    loop = asyncio.get_running_loop()
    acceptor = Acceptor(loop, listener, lambda client, server: Greeter(said))
    acceptor._accept()  # taken, and its turn has not come yet
    acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        connected(port)
    with suppress(ConnectionResetError):  # an end is as good
        assert await answer(waiting) == b""
    assert said == []


class Failing(socket.socket):
    """Cannot accept so many times."""

    def __init__(self, number: int, times: int) -> None:
        super().__init__()
        self.number, self.left = number, times
        self.bind(("127.0.0.1", 0))
        self.listen()

    def accept(self) -> tuple[socket.socket, Any]:
        if self.left:
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number))
        return super().accept()


async def test_without_memory_it_waits_and_logs_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("yeoul.server.acceptor._PAUSE", 0.02)
    said: list[bytes] = []
    with accepting(said, Failing(errno.ENOBUFS, 2)) as port:
        assert await answer(connected(port, b"patient\r\n")) == b"hello\n"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "no connection can be accepted" in caplog.text


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_files_a_connection_is_refused_with_the_spare_one(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[bytes] = []
    with accepting(said, Failing(number, 1)) as port:
        refused = await answer(connected(port, b"GET / HTTP/1.1\r\n\r\n"))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert await answer(connected(port, b"next\r\n")) == b"hello\n"
    assert said == [b"next"]
    assert [("ulimit -n" in record.getMessage()) for record in caplog.records] == [True]
