"""Which users are in which room, whatever their streams do."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yeoul.apps.live.presence import MAX_LISTED, Presence

GRACE = 10.0


def told(presence: Presence) -> dict[str, list[str]]:
    """`+ann` has come, `-ann` has gone."""
    found = {room: presence.changes(room) for room in list(presence.changed)}
    return {room: [("+" if c.joined else "-") + c.member.user for c in changes] for room, changes in found.items()}


def users(presence: Presence, room: str = "r") -> list[str]:
    """As the list of the room shows them, which is kept and built anew where it has to be."""
    shown = json.loads(presence.members_json(room))
    assert shown == [member.shown() for member in presence.members(room)]
    assert presence.count(room) >= len(shown)
    return [member["id"] for member in shown]


def arrive(presence: Presence, reader: object, user: str = "ann", room: str = "r", name: str | None = None) -> None:
    presence.arrive(reader, room, user, name or user.title(), "then")


def test_a_user_enters_and_has_left_after_the_grace_period() -> None:
    presence = Presence(grace=GRACE)
    arrive(presence, "tab")
    assert told(presence) == {"r": ["+ann"]}
    presence.depart("tab", "r", 100.0)
    assert presence.next_expiry == 110.0
    presence.expire(109.9)
    assert users(presence) == ["ann"]
    presence.expire(110.0)
    assert users(presence) == []
    assert told(presence) == {"r": ["-ann"]}
    assert presence.next_expiry is None


def test_a_reconnect_within_the_grace_period_is_no_change() -> None:
    presence = Presence(grace=GRACE)
    arrive(presence, "first")
    told(presence)
    presence.depart("first", "r", 0.0)
    arrive(presence, "second")
    presence.expire(1_000.0)
    assert told(presence) == {}
    assert users(presence) == ["ann"]


def test_two_tabs_are_one_member_until_both_are_closed() -> None:
    presence = Presence(grace=GRACE)
    arrive(presence, "one")
    arrive(presence, "two")
    assert told(presence) == {"r": ["+ann"]}
    presence.depart("one", "r", 0.0)
    presence.expire(1_000.0)
    assert told(presence) == {}
    presence.depart("two", "r", 1_000.0)
    presence.expire(1_010.0)
    assert told(presence) == {"r": ["-ann"]}


def test_a_stream_that_is_reported_twice_counts_once() -> None:
    presence = Presence(grace=GRACE)
    arrive(presence, "tab")
    arrive(presence, "tab")
    arrive(presence, "other", "bob")
    presence.depart("tab", "r", 0.0)
    presence.depart("tab", "r", 0.0)
    presence.depart("nobody", "r", 0.0)
    presence.expire(GRACE)
    assert users(presence) == ["bob"]


def test_a_user_who_cannot_come_back_has_left_with_the_last_stream() -> None:
    presence = Presence(grace=GRACE)
    arrive(presence, "one")
    arrive(presence, "two")
    presence.depart("one", "r", 0.0, permanent=True)
    assert users(presence) == ["ann"]
    presence.depart("two", "r", 0.0, permanent=True)
    assert users(presence) == []


def test_without_a_grace_period_users_leave_at_once() -> None:
    presence = Presence(grace=0)
    arrive(presence, "tab")
    told(presence)
    presence.depart("tab", "r", 0.0)
    assert told(presence) == {"r": ["-ann"]}


def test_a_reader_of_the_list_in_between_is_told_the_last_change() -> None:
    presence = Presence(grace=0)
    arrive(presence, "first")
    assert users(presence) == ["ann"]  # and shown to a reader
    presence.depart("first", "r", 0.0)
    assert told(presence) == {"r": ["-ann"]}
    assert not presence.changed
    arrive(presence, "second")
    told(presence)
    presence.depart("second", "r", 0.0)
    assert users(presence) == []  # and shown to a reader
    arrive(presence, "third")
    assert told(presence) == {"r": ["+ann"]}


def test_one_stream_may_be_in_many_rooms() -> None:
    presence = Presence(grace=GRACE)
    rooms = [f"r{number}" for number in range(50)]
    for room in rooms:
        arrive(presence, "tab", room=room)
    assert told(presence) == {room: ["+ann"] for room in rooms}
    for room in rooms:
        presence.depart("tab", room, 0.0)
    presence.expire(GRACE)
    assert told(presence) == {room: ["-ann"] for room in rooms}
    assert repr(presence) == "<Presence 0 places in 0 rooms, 0 in the grace period>"


def test_a_name_is_the_newest_that_the_user_has() -> None:
    presence = Presence(grace=GRACE)
    arrive(presence, "one", name="Ann")
    assert users(presence) == ["ann"]
    arrive(presence, "two", name="Ann B.")
    assert [member["name"] for member in json.loads(presence.members_json("r"))] == ["Ann B."]


def test_a_list_names_the_first_members_and_counts_all() -> None:
    presence = Presence(grace=0)
    for number in range(MAX_LISTED + 5):
        arrive(presence, number, f"u{number}")
        assert users(presence) == [f"u{n}" for n in range(number + 1)][:MAX_LISTED]
        assert presence.count("r") == number + 1
    presence.depart(3, "r", 0.0)
    assert users(presence) == [f"u{n}" for n in range(MAX_LISTED + 1) if n != 3]
    presence.depart(MAX_LISTED + 4, "r", 0.0)
    assert (users(presence)[-1], presence.count("r")) == (f"u{MAX_LISTED}", MAX_LISTED + 3)
    assert (users(presence, "elsewhere"), presence.count("elsewhere")) == ([], 0)


def test_the_list_is_kept_while_the_members_that_it_names_stay() -> None:
    presence = Presence(grace=0)
    for number in range(MAX_LISTED):
        arrive(presence, number, f"u{number}")
    before = presence.members_json("r")
    for number in range(MAX_LISTED, MAX_LISTED + 50):
        arrive(presence, number, f"u{number}")
    presence.depart(MAX_LISTED, "r", 0.0)
    assert presence.members_json("r") is before
    presence.depart(0, "r", 0.0)
    assert presence.members_json("r") != before


def test_thousands_whose_grace_ends_at_once_are_removed_in_slices() -> None:
    presence = Presence(grace=GRACE)
    for number in range(5_000):
        arrive(presence, number, f"u{number}")
    for number in range(5_000):
        presence.depart(number, "r", 0.0)
    calls = 0
    while presence.next_expiry is not None:
        presence.expire(GRACE)
        calls += 1
    assert (presence.places, presence.rooms) == (0, 0)
    assert 2 <= calls <= 5
    assert len(presence.changes("r")) == 5_000


def test_over_the_bound_the_absent_go_early_then_newcomers_are_not_counted() -> None:
    presence = Presence(grace=GRACE, max_places=2)
    arrive(presence, "a", "ann")
    arrive(presence, "b", "bob")
    presence.depart("a", "r", 0.0)
    arrive(presence, "c", "cyd")
    arrive(presence, "d", "dan")
    assert users(presence) == ["bob", "cyd"]
    presence.depart("d", "r", 0.0)
    presence.depart("c", "r", 0.0)
    presence.expire(GRACE)
    arrive(presence, "e", "eve")
    assert users(presence) == ["bob", "eve"]


class Rooms(RuleBasedStateMachine):
    """Against the plainest model: each stream by itself, and for each user in each room when it had its last one."""

    USERS = st.sampled_from(["ann", "bob", "cyd"])
    ROOMS = st.sampled_from(["r1", "r2"])

    def __init__(self) -> None:
        super().__init__()
        self.presence = Presence(grace=GRACE)
        self.now = 0.0
        self.numbers = 0
        self.streams: dict[tuple[int, str], str] = {}
        self.graces: dict[tuple[str, str], float] = {}
        # What readers know who have followed from the beginning, or from the last list on, and apply each change.
        self.views: list[set[tuple[str, str]]] = [set(), set()]

    @rule(user=USERS, room=ROOMS, again=st.booleans())
    def connect(self, user: str, room: str, again: bool) -> None:
        self.numbers += 1
        for _ in range(1 + again):
            arrive(self.presence, self.numbers, user, room)
        self.streams[self.numbers, room] = user
        self.graces.pop((room, user), None)

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), permanent=st.booleans(), again=st.booleans())
    def end(self, data: st.DataObject, permanent: bool, again: bool) -> None:
        number, room = data.draw(st.sampled_from(sorted(self.streams)))
        for _ in range(1 + again):
            self.presence.depart(number, room, self.now, permanent=permanent)
        user = self.streams.pop((number, room))
        left = Counter((room, user) for (_, room), user in self.streams.items())
        if not left[room, user] and not permanent:
            self.graces[room, user] = self.now + GRACE

    @rule(seconds=st.sampled_from([0.5, 4.0, 10.0, 25.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.presence.expire(self.now)
        self.graces = {place: until for place, until in self.graces.items() if until > self.now}
        assert self.presence.next_expiry == min(self.graces.values(), default=None)

    @rule()
    def follow(self) -> None:
        self.views[1] = self.there()

    @rule()
    def tell(self) -> None:
        for room in list(self.presence.changed):
            for change in self.presence.changes(room):
                for view in self.views:
                    (view.add if change.joined else view.discard)((room, change.member.user))
        assert self.views == [self.there()] * 2
        assert not self.presence.changed

    @invariant()
    def those_with_a_stream_or_in_their_grace_are_there(self) -> None:
        found = {(room, user) for room in ("r1", "r2") for user in users(self.presence, room)}
        assert found == self.there()
        assert self.presence.places == len(found)
        assert self.presence.rooms == len({room for room, _ in found})

    def there(self) -> set[tuple[str, str]]:
        return {(room, user) for (_, room), user in self.streams.items()} | set(self.graces)


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
