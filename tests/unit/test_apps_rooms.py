"""Announcing members, with a real hub, also where that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from support.outlets import MemoryOutlet
from yeoul.apps.live import rooms as module
from yeoul.apps.live.rooms import Rooms, check_room
from yeoul.hub import Hub, MemoryBroker, SubscribeOptions, Subscription
from yeoul.hub.limits import Principal
from yeoul.sse import Event
from yeoul.stream import Cursor


class Failing(MemoryBroker):
    """Cannot be reached, as long as the test says so."""

    failing = False

    def __init__(self) -> None:
        super().__init__()
        self.failed = asyncio.Event()

    async def publish(self, topic: str, events: Sequence[Event], *, final: bool = False) -> Cursor:
        if self.failing:
            self.failed.set()
            raise ConnectionError("the broker is away")
        return await super().publish(topic, events, final=final)


async def come(hub: Hub, user: str | None, *topics: str, name: str | None = None) -> tuple[Subscription, MemoryOutlet]:
    reader = await hub.subscribe(topics or ["chat/r"], SubscribeOptions(principal=Principal(user, name or user)))
    outlet = MemoryOutlet()
    reader.start(outlet)
    return reader, outlet


def told(outlet: MemoryOutlet) -> list[Any]:
    """`+ann`, `-ann`, or the list of who is there."""
    found: list[Any] = []
    for event in outlet.events:
        data = json.loads(event.data)
        found.append(
            sorted(user["id"] for user in data["users"])
            if event.type == "presence"
            else ("+" if event.type == "join" else "-") + data["user"]["id"]
        )
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PACE", 0.001)
    monkeypatch.setattr(module, "_RETRY", 0.001)


async def test_a_failed_announcement_is_mended_by_the_whole_list(caplog: pytest.LogCaptureFixture) -> None:
    broker = Failing()
    async with Hub(broker) as hub:
        Rooms(hub, grace=0)
        _, outlet = await come(hub, None, "chat/r/presence")
        broker.failing = True
        ann, _ = await come(hub, "ann")
        await come(hub, "bob")
        await broker.failed.wait()
        ann.end()
        broker.failing = False
        await outlet.until(lambda outlet: ["bob"] in told(outlet))
        assert told(outlet)[-1] == ["bob"]
        await come(hub, "cyd")
        await outlet.until(lambda outlet: told(outlet)[-1] == "+cyd")
        assert "the members of room 'r' could not be announced" in caplog.text


async def test_a_room_whose_topic_cannot_be_made_holds_no_other_up(caplog: pytest.LogCaptureFixture) -> None:
    async with Hub(MemoryBroker(max_topics=3)) as hub:
        rooms = Rooms(hub, grace=0)
        _, outlet = await come(hub, None, "chat/b/presence")
        await come(hub, "ann", "chat/a", "chat/b")
        await outlet.until(lambda outlet: told(outlet) == ["+ann"])
        assert "room 'a' could not be announced: 3 topics are in use" in caplog.text
        assert json.loads(rooms.state("a"))["count"] == 1, "who comes is told by the list"


async def test_ten_changes_are_announced_one_by_one_and_more_as_a_list() -> None:
    async with Hub() as hub:
        Rooms(hub, grace=0)
        _, outlet = await come(hub, None, "chat/r/presence")
        for number in range(10):
            await come(hub, f"u{number}")
        await outlet.until(lambda outlet: told(outlet) == [f"+u{number}" for number in range(10)])
        readers = [(await come(hub, f"v{number}"))[0] for number in range(11)]
        await outlet.until(lambda outlet: len(told(outlet)) == 11)
        assert len(told(outlet)[-1]) == 21
        for reader in readers:
            reader.end()
        await outlet.until(lambda outlet: len(told(outlet)) == 12)
        assert told(outlet)[-1] == [f"u{number}" for number in range(10)]


async def test_a_name_that_utf8_cannot_carry_is_shown_with_replacements() -> None:
    async with Hub() as hub:
        rooms = Rooms(hub, grace=0)
        _, outlet = await come(hub, None, "chat/r/presence")
        await come(hub, "ann\ud800", name="Ann\udfff")
        await outlet.until(lambda outlet: told(outlet) == ["+ann?"])
        assert json.loads(rooms.greeting("r").data)["users"][0]["name"] == "Ann?"


async def test_topics_that_are_no_rooms_have_no_people() -> None:
    async with Hub() as hub:
        rooms = Rooms(hub, grace=0)
        await come(hub, "ann", "chat/a:b", "chat/cafe\u0301", "chat/r/presence", "chat/r/deeper", "chat")
        assert (rooms.count, rooms.places) == (0, 0)


async def test_no_timer_is_left_when_the_hub_ends_during_a_grace_period() -> None:
    async with Hub() as hub:
        rooms = Rooms(hub, grace=600)
        reader, _ = await come(hub, "ann")
        reader.end()
        assert rooms._timer is not None
    assert rooms._timer is None


@pytest.mark.parametrize("name", ["general", "서울", "हिन्दी", "a-b_c.d", "7", "x" * 64, "presence"])
def test_a_room_has_a_name_of_any_script(name: str) -> None:
    assert check_room(name) == name


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a b", "a/b", ".", "..", "a\n", "a\0", "a*", "a~b", "\u202e", "🌊", "@"]
)
def test_an_invalid_room_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a room's name"):
        check_room(name)


async def test_a_hub_that_is_opened_again_announces_its_members() -> None:
    hub = Hub()
    rooms = Rooms(hub, grace=600)
    for _ in range(2):
        async with hub:
            _, outlet = await come(hub, None, "chat/r/presence")
            await come(hub, "ann")
            await outlet.until(lambda outlet: told(outlet) == ["+ann"])
            assert rooms.places == 1
