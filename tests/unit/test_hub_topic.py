from __future__ import annotations

import pytest

from support.outlets import follow
from yeoul.errors import InvalidTopic
from yeoul.hub import Encoding, Hub, check_topic
from yeoul.hub import topic as topic_module
from yeoul.hub.topic import MAX_TOPIC_LENGTH
from yeoul.sse import Event


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "chat/general",
        "notifications/u42",
        "generations/QyUzh3MDN-_x",
        "한국어/방",
        "日本/ñandú",
        "a.b",
        "...",
        "a/.b/..c",
        "urn:x:1",
        "user@example.org",
        "(1)+[2]=3;4,5!'$~",
        "🌊",
        "x" * MAX_TOPIC_LENGTH,
    ],
)
def test_names_that_may_be(name: str) -> None:
    assert check_topic(name) is name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "1 to 200 characters"),
        ("x" * (MAX_TOPIC_LENGTH + 1), "has 201"),
        ("/a", "empty"),
        ("a/", "empty"),
        ("a//b", "empty"),
        ("/", "empty"),
        (".", "'.' or '..'"),
        ("a/../b", "'.' or '..'"),
        ("a/.", "'.' or '..'"),
        ("a b", "U+0020"),
        ("a\tb", "U+0009"),
        ("a\nb", "U+000A"),
        ("a\rb", "U+000D"),
        ("a\0b", "U+0000"),
        ("a\x7fb", "U+007F"),
        ("a\x85b", "U+0085"),
        ("a\u00a0b", "U+00A0"),
        ("a\u200bb", "U+200B"),
        ("a\u202eb", "U+202E"),
        ("a\u2028b", "U+2028"),
        ("\ufeffa", "U+FEFF"),
        ("a\ue000", "U+E000"),
        ("a\ud800", "U+D800"),
        *((f"a{char}", f"U+{ord(char):04X}") for char in '*?#&%"<>\\^`{|}'),
    ],
)
def test_names_that_may_not_be_and_the_rule_they_break(name: str, why: str) -> None:
    with pytest.raises(InvalidTopic) as refused:
        check_topic(name)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_readers_of_the_same_topics_and_encoding_stand_in_one_group() -> None:
    shout = Encoding(lambda frame: frame.wire.upper())
    async with Hub() as hub:
        plain, _ = await follow(hub, "a")
        same, _ = await follow(hub, "a")
        loud, _ = await follow(hub, "a", encoding=shout)
        [topic] = plain.topics
        assert [group.readers for group in topic.all_groups()] == [[plain, same], [loud]]
        assert {kind.encoding for kind in topic.groups} == {plain.encoding, shout}
        loud.end()
        assert [group.readers for group in topic.all_groups()] == [[plain, same]]
        plain.end()
        same.end()
        assert not topic.groups


async def test_a_reader_of_several_topics_stands_in_a_group_of_its_own_in_each() -> None:
    async with Hub() as hub:
        one, _ = await follow(hub, "a")
        both, _ = await follow(hub, "a", "b")
        a, b = both.topics
        assert [group.readers for group in a.all_groups()] == [[one], [both]]
        assert [group.readers for group in b.all_groups()] == [[both]]
        both.end()
        assert [group.readers for group in a.all_groups()] == [[one]]
        assert not b.groups


async def test_a_reader_whose_outlet_is_full_stands_nowhere() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a")
        outlet.full = True
        await hub.publish("a", Event("x"))
        await outlet.take(1)
        [topic] = reader.topics
        assert not topic.groups
        assert topic.readers == 1
        reader.end()


async def test_a_full_group_is_followed_by_another_and_gaps_in_it_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_module, "_MAX_READERS", 3)
    async with Hub() as hub:
        readers = [(await follow(hub, "a"))[0] for _ in range(7)]
        [topic] = readers[0].topics
        assert [len(group) for group in topic.all_groups()] == [3, 3, 1]
        for reader in readers[1:6]:
            reader.end()
        assert [len(group) for group in topic.all_groups()] == [1, 1]
        late, outlet = await follow(hub, "a")
        assert [len(group) for group in topic.all_groups()] == [3], "small groups become one"
        await hub.publish("a", Event("x"))
        await outlet.take(1)
        assert (late.events, readers[0].events, readers[6].events) == (1, 1, 1)


async def test_readers_that_come_while_events_wait_do_not_stay_in_groups_of_their_own() -> None:
    async with Hub() as hub:
        outlets = [(await follow(hub, "a"))[1]]
        [topic] = hub.topics()
        for number in range(5):
            await hub.publish("a", Event(str(number)))
            outlets.append((await follow(hub, "a"))[1])  # has read the event that the others wait for
        assert len(list(topic.all_groups())) == 6
        await outlets[0].take(5)
        outlets.append((await follow(hub, "a"))[1])
        outlets.append((await follow(hub, "a"))[1])
        await hub.publish("a", Event("last"))
        for outlet in outlets:
            await outlet.until(lambda outlet: outlet.data and outlet.data[-1] == "last")
        assert len(list(topic.all_groups())) < 6
        assert [len(outlet.data) for outlet in outlets] == [6, 5, 4, 3, 2, 1, 1, 1]
