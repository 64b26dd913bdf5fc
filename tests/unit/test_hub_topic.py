from __future__ import annotations

import pytest

from support.outlets import follow
from yeoul.errors import InvalidTopic
from yeoul.hub import Encoding, Hub, check_topic
from yeoul.hub.topic import MAX_TOPIC_LENGTH
from yeoul.sse import Event
from yeoul.stream import Frame


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


async def test_a_reader_of_one_topic_stands_with_those_of_its_encoding() -> None:
    shout = Encoding(lambda frame: frame.wire.upper())
    async with Hub() as hub:
        plain, _ = await follow(hub, "a")
        loud, _ = await follow(hub, "a", encoding=shout)
        [topic] = plain.topics
        assert {encoding: list(group) for encoding, group in topic.groups.items()} == {
            plain.encoding: [plain],
            shout: [loud],
        }
        loud.end()
        assert shout not in topic.groups
        plain.end()
        assert not topic.groups


async def test_a_reader_of_several_topics_stands_apart_in_each() -> None:
    async with Hub() as hub:
        reader, _ = await follow(hub, "a", "b")
        assert [[*topic.mixed.values()] for topic in reader.topics] == [[{reader: None}], [{reader: None}]]
        reader.end()
        assert [topic.mixed for topic in reader.topics] == [{}, {}]


async def test_a_reader_whose_outlet_is_full_stands_nowhere() -> None:
    async with Hub() as hub:
        reader, outlet = await follow(hub, "a")
        outlet.full = True
        reader.deliver(b"x", Frame(hub.epoch, 1, 0, Event("x"), 0.0), 1, hub.loop.time())
        [topic] = reader.topics
        assert not topic.groups
        assert topic.readers == 1
        reader.end()
