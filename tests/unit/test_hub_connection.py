from __future__ import annotations

import json
import time

import pytest

from support.outlets import MemoryOutlet, follow, turns
from yeoul.hub import Encoding, Hub
from yeoul.hub.limits import Principal
from yeoul.sse import Event, encode


def until(left: float) -> Principal:
    return Principal("ann", expires=time.time() + left)


def told(outlet: MemoryOutlet) -> list[tuple[str, dict[str, object]]]:
    return [(event.type, json.loads(event.data)) for event in outlet.events if event.type.startswith("stream.")]


async def test_a_reader_is_told_that_its_token_is_about_to_end_and_then_that_it_has() -> None:
    async with Hub(heartbeat=1e6) as hub:
        principal = until(600)
        reader, outlet = await follow(hub, "a", principal=principal)
        now = hub.loop.time()
        reminder = reader.on_time(now)
        assert reminder == pytest.approx(now + 540, abs=1)
        assert outlet.payloads == []
        end = reader.on_time(now + 541)
        assert end == pytest.approx(now + 600, abs=1)
        [(kind, data)] = told(outlet)
        assert (kind, data["expires"]) == ("stream.reauth", int(principal.expires or 0))
        assert data["in"] == pytest.approx(59, abs=1)
        assert reader.live
        assert reader.on_time(now + 560) == end, "it is told once"
        await hub.publish("a", Event("still there"))
        await outlet.take(2)
        assert reader.on_time(now + 601) is None
        assert told(outlet)[1:] == [("stream.bye", {"reason": "expired", "reconnect": True})]
        assert outlet.finished
        assert hub.stats.closed == {"expired": 1}


async def test_the_wheel_keeps_both_times() -> None:
    async with Hub(heartbeat=0.1) as hub:
        _, outlet = await follow(hub, "a", principal=until(0.5))
        began = hub.loop.time()
        await outlet.until(lambda outlet: outlet.finished)
        assert [kind for kind, _ in told(outlet)] == ["stream.reauth", "stream.bye"]
        assert 0.4 < hub.loop.time() - began < 1.5


async def test_this_machines_clock_may_be_set_without_ending_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Hub(heartbeat=1e6) as hub:
        reader, outlet = await follow(hub, "a", principal=until(600))
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 10_000)
        now = hub.loop.time()
        assert reader.on_time(now + 100) == pytest.approx(now + 540, abs=1)
        assert outlet.payloads == []


async def test_an_answer_ends_with_its_readers_token_and_the_work_goes_on() -> None:
    async with Hub(heartbeat=1e6) as hub:
        reader, outlet = await follow(hub, "a", principal=until(60), until_final=True)
        await hub.publish("a", Event("1"))
        await outlet.take(1)
        assert reader.on_time(hub.loop.time() + 61) is None
        assert outlet.types == ["message", "stream.bye"]
        last = await hub.publish("a", Event("2"), final=True)
        _, again = await follow(hub, "a", after=reader.cursor, principal=until(60), until_final=True)
        assert (again.data, again.finished) == (["2"], True)
        assert last.offset == 2


async def test_a_form_without_events_about_the_stream_is_ended_without_them() -> None:
    encoding = Encoding(control=lambda event: b"" if event.type.startswith("stream.") else encode(event))
    async with Hub(heartbeat=1e6) as hub:
        reader, outlet = await follow(hub, "a", principal=until(60), encoding=encoding)
        now, touched = hub.loop.time(), reader.touched
        reader.on_time(now + 55)
        assert reader.touched == touched, "nothing was written: its silence goes on"
        assert reader.on_time(now + 61) is None
        assert (outlet.payloads, outlet.finished) == ([], True)


async def test_a_reader_that_lags_is_reminded_when_it_has_room_and_given_nothing_after_the_end() -> None:
    async with Hub(heartbeat=1e6, send_timeout=1e6) as hub:
        reader, outlet = await follow(hub, "a", principal=until(600), full=True)
        await hub.publish("a", Event("0"))
        await turns()
        await hub.publish("a", Event("1"))
        now = hub.loop.time()
        again = reader.on_time(now + 550)
        assert told(outlet) == []
        assert again is not None
        assert again <= now + 550, "it is looked at with the next tick"
        outlet.full = False
        reader.resume()
        reader.on_time(now + 551)
        assert [kind for kind, _ in told(outlet)] == ["stream.reauth"]
        outlet.full = True
        await hub.publish("a", Event("2"))
        await turns()
        await hub.publish("a", Event("3"))
        assert reader.lagging
        assert reader.on_time(now + 601) is None
        assert outlet.data[0] == "0"
        assert "3" not in outlet.data
        assert (outlet.aborted, outlet.finished) == (True, False)
        assert hub.stats.closed == {"expired": 1}


async def test_one_that_the_reminder_fills_reads_on_when_it_has_room() -> None:
    async with Hub(heartbeat=1e6) as hub:
        reader, outlet = await follow(hub, "a", principal=until(600))
        outlet.full = True
        reader.on_time(hub.loop.time() + 545)
        assert reader.lagging
        await hub.publish("a", Event("0"))
        await turns()
        assert outlet.types == ["stream.reauth"]
        outlet.full = False
        reader.resume()
        await outlet.take(2)
        assert outlet.types == ["stream.reauth", "message"]


async def test_the_end_of_its_life_comes_before_that_of_its_token() -> None:
    async with Hub(heartbeat=1e6, max_lifetime=100) as hub:
        reader, outlet = await follow(hub, "a", principal=until(600))
        assert reader.on_time(hub.loop.time() + 101) is None
        assert told(outlet) == [("stream.bye", {"reason": "lifetime", "reconnect": True})]
