from __future__ import annotations

import pytest

from support.outlets import follow
from yeoul.errors import InvalidTopic
from yeoul.hub import Hub, Subscription
from yeoul.hub.reasons import CLIENT_LEFT, CONNECTION_RESET, LIFETIME, EndReason
from yeoul.sse import Event

News = tuple[str, Subscription, str | None]


async def test_a_kind_of_topics_is_watched_by_its_first_part() -> None:
    async with Hub() as hub:
        told: list[News] = []
        hub.watch("chat/*", lambda *news: told.append(news))
        one, _ = await follow(hub, "chat/a")
        deep, _ = await follow(hub, "chat/a/presence")
        for name in ("chat", "chats/a", "other/chat/a"):
            await follow(hub, name)
        one.end()
        assert told == [("chat/a", one, None), ("chat/a/presence", deep, None), ("chat/a", one, CLIENT_LEFT)]
        hub.unwatch("chat/*")
        deep.end()
        assert len(told) == 3


async def test_a_reader_of_several_topics_of_a_kind_is_told_of_once_for_each() -> None:
    async with Hub() as hub:
        told: list[News] = []
        hub.watch("chat/*", lambda *news: told.append(news))
        reader, _ = await follow(hub, "chat/a", "news", "chat/b")
        reader.end(LIFETIME)
        assert told == [
            ("chat/a", reader, None),
            ("chat/b", reader, None),
            ("chat/a", reader, LIFETIME),
            ("chat/b", reader, LIFETIME),
        ]


async def test_a_topic_and_its_kind_may_both_be_watched() -> None:
    async with Hub() as hub:
        told: list[str] = []
        hub.watch("chat/*", lambda *news: told.append("kind"))
        hub.watch("chat/a", lambda *news: told.append("topic"))
        await follow(hub, "chat/a")
        assert sorted(told) == ["kind", "topic"]
        hub.unwatch("chat/a")
        await follow(hub, "chat/a")
        assert sorted(told) == ["kind", "kind", "topic"]


async def test_a_watcher_sees_the_reader_that_it_is_told_of_among_the_topics_readers() -> None:
    async with Hub() as hub:
        seen: list[tuple[int, int]] = []
        hub.watch("chat/*", lambda topic, reader, reason: seen.append((reader.topics[0].readers, len(hub.readers()))))
        reader, _ = await follow(hub, "chat/a")
        reader.end()
        assert seen == [(1, 1), (0, 0)]


@pytest.mark.parametrize(
    ("name", "error"), [("a/b/*", ValueError), ("/*", InvalidTopic), ("*", InvalidTopic), ("a*", InvalidTopic)]
)
async def test_what_is_neither_a_topic_nor_a_kind_is_refused(name: str, error: type[Exception]) -> None:
    async with Hub() as hub:
        with pytest.raises(error):
            hub.watch(name, lambda *news: None)


@pytest.mark.parametrize("name", ["chat/a", "chat/*"])
async def test_a_second_watcher_is_refused_and_the_first_stays(name: str) -> None:
    async with Hub() as hub:
        seen: list[str] = []
        hub.watch(name, lambda topic, reader, reason: seen.append(topic))
        with pytest.raises(ValueError, match="already has a watcher"):
            hub.watch(name, lambda topic, reader, reason: None)
        await follow(hub, "chat/a")
        assert seen == ["chat/a"]
        hub.unwatch(name)
        hub.watch(name, lambda topic, reader, reason: None)


async def test_a_watcher_that_fails_affects_no_reader(caplog: pytest.LogCaptureFixture) -> None:
    def broken(topic: str, reader: Subscription, reason: str | None) -> None:
        raise RuntimeError("broken watcher")

    async with Hub(max_connections=1) as hub:
        told: list[EndReason | None] = []
        hub.watch("chat/a", broken)
        hub.watch("chat/*", lambda topic, reader, reason: told.append(reason))
        for _ in range(2):
            reader, outlet = await follow(hub, "chat/a")
            await hub.publish("chat/a", Event("x"))
            await outlet.take(1)
            reader.end()
        assert told == [None, CLIENT_LEFT, None, CLIENT_LEFT]
        assert hub.stats.readers == 0
    assert "broken watcher" in caplog.text


async def test_only_a_stream_that_ends_with_its_topic_is_told_of_once_more_when_it_was_reset() -> None:
    async with Hub() as hub:
        told: list[EndReason | None] = []
        hub.watch("a", lambda topic, reader, reason: told.append(reason))
        for until_final in (True, False):
            reader, _ = await follow(hub, "a", until_final=until_final)
            reader.end(LIFETIME)
            reader.connection_reset()
        assert told == [None, LIFETIME, CONNECTION_RESET, None, LIFETIME]
