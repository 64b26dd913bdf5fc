from __future__ import annotations

import asyncio
import time

import pytest

from support.outlets import MemoryOutlet, follow, turns
from yeoul.errors import InvalidToken, InvalidTopic, TooManyConnections, TooManyTopics
from yeoul.hub import Hub, MemoryBroker, SubscribeOptions, Subscription
from yeoul.hub.broker import BrokerStats
from yeoul.hub.limits import Principal
from yeoul.hub.reasons import DRAIN, ERROR, FINAL, KICKED, REVOKED
from yeoul.sse import Event
from yeoul.stream import Journal

ANN = Principal("ann", "Ann", "192.0.2.1")
BOB = Principal("bob", "Bob", "192.0.2.1")


def places(hub: Hub) -> int:
    return hub._readers._limits.taken


# --- who reads


async def test_those_who_read_are_listed_with_what_is_known_of_them() -> None:
    async with Hub() as hub:
        before = time.time()
        ann, outlet = await follow(hub, "a", "b", principal=ANN)
        bob, _ = await follow(hub, "a", principal=BOB)
        cursor = await hub.publish("a", Event("x"))
        await outlet.take(1)
        assert hub.readers() == [ann, bob]
        assert [reader.principal.user for reader in hub.readers()] == ["ann", "bob"]
        assert [topic.name for topic in ann.topics] == ["a", "b"]
        assert before <= ann.since <= time.time()
        assert (ann.cursor, ann.events, ann.gaps, ann.lagging) == (cursor, 1, 0, False)
        assert ann.sent == sum(map(len, outlet.payloads))
        ann.end()
        assert hub.readers() == [bob]


async def test_no_two_streams_have_the_same_id() -> None:
    async with Hub() as hub:
        ids = {(await follow(hub, "a"))[0].id for _ in range(200)}
        assert len(ids) == 200
        assert all(8 <= len(id) <= 16 and id.isascii() for id in ids)


async def test_all_that_is_written_is_counted_and_only_topics_events_are_events() -> None:
    async with Hub(MemoryBroker(), heartbeat=10) as hub:
        first = await hub.publish("a", Event("0"))
        await hub.publish("a", Event("1"))
        reader, outlet = await follow(hub, "a", after=first, opening=[Event("{}", "stream.hello")])
        await hub.publish("a", Event("2"), Event("3"))
        await outlet.take(4)
        reader.on_time(reader.touched + 10)
        reader.end(DRAIN)
        assert reader.events == 3
        assert reader.sent == sum(map(len, outlet.payloads))


async def test_followed_topics_are_listed_with_their_readers_and_what_is_kept() -> None:
    async with Hub() as hub:
        await hub.publish("nobody", Event("x"))
        await follow(hub, "a", "b")
        await follow(hub, "a")
        await hub.publish("a", Event("x"), Event("y"))
        found = {topic.name: (topic.readers, topic.events) for topic in hub.topics()}
        assert found == {"a": (2, 2), "b": (1, 0)}
        assert hub.followed == 2
        [size] = [topic.bytes for topic in hub.topics() if topic.name == "a"]
        assert size > 0
        assert isinstance(hub.broker, MemoryBroker)
        assert hub.broker.stats() == BrokerStats(3, size + size // 2)


# --- sending some away


async def test_only_matching_readers_are_disconnected() -> None:
    async with Hub() as hub:
        ann = [await follow(hub, "a", principal=ANN), await follow(hub, "b", principal=ANN)]
        bob, other = await follow(hub, "a", principal=BOB)
        ended = hub.disconnect(lambda reader: reader.principal.user == "ann", REVOKED)
        assert ended == 2
        for reader, outlet in ann:
            assert (reader.closed, outlet.finished) == (True, True)
            assert outlet.types == ["stream.bye"]
            assert outlet.data == ['{"reason": "revoked", "reconnect": false}']
            assert b"retry:" not in outlet.payloads[0]
        assert hub.readers() == [bob]
        await hub.publish("a", Event("x"))
        assert [event.data for event in await other.take(1)] == ["x"]
        assert hub.stats.closed == {"revoked": 2}
        assert hub.disconnect(lambda reader: False, KICKED) == 0


async def test_a_reader_that_is_behind_gets_nothing_more_than_the_farewell() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a", full=True)
        await hub.publish("a", Event("0"))
        await turns()
        await hub.publish("a", Event("1"))
        outlet.full = False  # room again, and it has not yet been told
        assert reader.lagging
        hub.disconnect(lambda reader: True, KICKED)
        assert outlet.types == ["message", "stream.bye"]
        assert outlet.finished


async def test_one_whose_socket_is_full_is_ended_without_a_word() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a", full=True)
        await hub.publish("a", Event("0"))
        await turns()
        assert hub.disconnect(lambda reader: True, KICKED) == 1
        assert (outlet.types, outlet.aborted, reader.closed) == (["message"], True, True)
        assert hub.stats.closed == {"kicked": 1}
        assert hub.stats.lagging == 0


async def test_one_that_is_sent_away_before_its_first_byte_is_told_why() -> None:
    async with Hub() as hub:
        reader = await hub.subscribe(["a"], SubscribeOptions(principal=ANN))
        hub.disconnect(lambda reader: True, REVOKED)
        outlet = MemoryOutlet()
        reader.start(outlet, Event("{}", "stream.hello"))
        assert outlet.data == ['{"reason": "revoked", "reconnect": false}']
        assert outlet.finished
        assert places(hub) == 0


# --- bounds


async def test_a_refused_stream_changes_nothing_and_is_counted_by_its_bound() -> None:
    async with Hub(max_connections=3, max_connections_per_user=2, max_connections_per_address=2) as hub:
        one, outlet = await follow(hub, "a", principal=Principal("ann"))
        await follow(hub, "a", principal=Principal("ann"))
        with pytest.raises(TooManyConnections):
            await hub.subscribe(["b"], SubscribeOptions(principal=Principal("ann")))
        third, _ = await follow(hub, "a", principal=BOB)
        for principal in (ANN, BOB, Principal()):
            with pytest.raises(TooManyConnections):
                await hub.subscribe(["b"], SubscribeOptions(principal=principal))
        with pytest.raises(TooManyConnections):
            hub.reserve(Principal())
        assert hub.stats.refused == {"user": 2, "all": 3}
        assert (hub.stats.readers, hub.stats.opened, hub.followed, places(hub)) == (3, 3, 1, 3)
        await hub.publish("a", Event("x"))
        await outlet.take(1)
        third.end()
        reservation = hub.reserve(BOB)
        with pytest.raises(TooManyConnections):
            await hub.subscribe(["b"], SubscribeOptions(principal=BOB))
        last = await hub.subscribe(["b"], SubscribeOptions(principal=BOB, reservation=reservation))
        with pytest.raises(RuntimeError):
            await hub.subscribe(["b"], SubscribeOptions(principal=BOB, reservation=reservation))
        assert not one.closed
        last.end()
        assert places(hub) == 2


async def test_a_reservation_that_is_not_used_is_given_back_once() -> None:
    async with Hub(max_connections=1) as hub:
        reservation = hub.reserve(BOB)
        assert places(hub) == 1
        reservation.release()
        reservation.release()
        assert places(hub) == 0
        reservation = hub.reserve(BOB)
        del reservation
        assert places(hub) == 0


async def test_a_place_is_given_back_where_a_stream_cannot_be_made() -> None:
    async with Hub(max_connections=1) as hub:
        with pytest.raises(IndexError):
            await hub.subscribe(["a"], SubscribeOptions(newest=-1))
        assert (hub.followed, places(hub)) == (0, 0)


async def test_a_place_is_given_back_once_however_a_stream_ends() -> None:
    async with Hub(max_connections=100, max_connections_per_user=100, max_connections_per_address=100) as hub:
        ends = [
            lambda reader: reader.end(),
            lambda reader: reader.end(DRAIN),
            lambda reader: reader.end(ERROR),
            lambda reader: reader.end(FINAL),
            lambda reader: reader.end(KICKED),
        ]
        for end in ends:
            for full in (False, True):
                reader, _ = await follow(hub, "a", principal=ANN, full=full)
                end(reader)
                end(reader)
                reader.end()
                assert places(hub) == 0
                never = await hub.subscribe(["a"], SubscribeOptions(principal=ANN))
                end(never)
                never.start(MemoryOutlet())
                assert places(hub) == 0
        assert hub._readers._limits.by_user == hub._readers._limits.by_address == {}


@pytest.mark.parametrize(
    ("topics", "error"), [(["a b"], InvalidTopic), ([], ValueError), (["a", "b", "c"], TooManyTopics)]
)
async def test_a_stream_that_cannot_be_takes_no_place(topics: list[str], error: type[Exception]) -> None:
    async with Hub(MemoryBroker(max_topics=2), max_connections=5) as hub:
        with pytest.raises(error):
            await hub.subscribe(topics)
        assert (places(hub), hub.followed) == (0, 0)


async def test_a_broker_that_fails_or_a_client_that_is_cancelled_leaves_no_place_taken() -> None:
    class Broker(MemoryBroker):
        failing = False

        async def attach(self, topic: str) -> Journal:
            if topic == "b":
                if self.failing:
                    raise ConnectionError("the store is away")
                await asyncio.get_running_loop().create_future()
            return await super().attach(topic)

    broker = Broker()
    async with Hub(broker, max_connections=5) as hub:
        waiting = asyncio.create_task(hub.subscribe(["a", "b"]))
        await turns()
        assert places(hub) == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        broker.failing = True
        with pytest.raises(ConnectionError):
            await hub.subscribe(["a", "b"])
        assert (places(hub), hub.followed, broker._journals._held) == (0, 0, {})


async def test_a_token_that_has_expired_opens_nothing() -> None:
    async with Hub(max_connections=5) as hub:
        with pytest.raises(InvalidToken, match="expired"):
            await hub.subscribe(["a"], SubscribeOptions(principal=Principal("ann", expires=time.time() - 0.001)))
        assert (places(hub), hub.stats.opened) == (0, 0)


async def test_the_servers_own_readers_take_no_place_and_are_not_counted() -> None:
    async with Hub(max_connections=1) as hub:
        told: list[Subscription] = []
        hub.watch("a", lambda topic, reader, reason: told.append(reader))
        await follow(hub, "b")
        reader = await hub.subscribe(["a"], SubscribeOptions(internal=True))
        outlet = MemoryOutlet()
        reader.start(outlet)
        await hub.publish("a", Event("x"))
        await outlet.take(1)
        assert reader not in hub.readers()
        assert (hub.stats.readers, hub.stats.opened, places(hub)) == (1, 1, 1)
        reader.end()
        assert (hub.stats.readers, hub.stats.closed, places(hub), told) == (1, {}, 1, [])
        assert hub.followed == 1
