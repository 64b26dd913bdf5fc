from __future__ import annotations

import logging
from typing import Any

import pytest

from support.outlets import MemoryOutlet, follow, turns
from yeoul.hub import Hub, SubscribeOptions
from yeoul.hub.limits import Principal
from yeoul.hub.reasons import KICKED
from yeoul.sse import Event


def lines(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.message == message]


async def test_the_end_of_a_stream_is_one_line_that_says_whose_what_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yeoul")
    async with Hub() as hub:
        reader = await hub.subscribe(["a", "b"], SubscribeOptions(principal=Principal("ann", "Ann", "192.0.2.1")))
        outlet = MemoryOutlet()
        reader.start(outlet)
        await hub.publish("a", Event("x"), Event("y"))
        await outlet.take(2)
        reader.end(KICKED)
        reader.end()
    [line] = lines(caplog, "stream ended")
    assert (line["connection"], line["user"], line["address"]) == (reader.id, "ann", "192.0.2.1")
    assert (line["topics"], line["reason"]) == (["a", "b"], "kicked")
    assert (line["events"], line["gaps"]) == (2, 0)
    assert line["bytes"] == sum(map(len, outlet.payloads))
    assert 0 <= line["seconds"] < 60
    assert lines(caplog, "stream opened") == []


async def test_an_opened_stream_is_a_line_for_those_who_look_closely(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "yeoul")
    async with Hub() as hub:
        reader, _ = await follow(hub, "a")
        [line] = lines(caplog, "stream opened")
        assert (line["connection"], line["topics"]) == (reader.id, ["a"])


async def test_nothing_is_logged_for_a_delivery_nor_where_the_level_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "yeoul")
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a")
        await hub.publish("a", Event("x"))
        await outlet.take(1)
        reader.end()
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, "yeoul")
    async with Hub() as hub:
        _, outlet = await follow(hub, "a")
        caplog.clear()
        for _ in range(10):
            await hub.publish("a", Event("x"))
            await turns()
        await outlet.take(10)
        assert caplog.records == []


async def test_the_name_of_a_piece_of_work_that_lets_one_read_it_is_not_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "yeoul")
    async with Hub() as hub:
        await follow(hub, "generations/QyUzh3MDN-_xAAAAAAAAAA", until_final=True)
        await follow(hub, "rooms/kitchen")
    assert [line["topics"] for line in lines(caplog, "stream ended")] == [["rooms/kitchen"], ["generations/QyUzh3…"]]


async def test_the_servers_own_readers_leave_no_trail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "yeoul")
    async with Hub() as hub:
        (await hub.subscribe(["a"], SubscribeOptions(internal=True))).end()
    assert caplog.records == []
