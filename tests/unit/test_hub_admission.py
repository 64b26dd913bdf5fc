from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from yeoul.errors import TooManyConnections
from yeoul.hub.limits import ANONYMOUS, ConnectionLimits, Principal


def of(user: str | None = None, address: str | None = None) -> Principal:
    return Principal(user, None, address)


def refused(admission: ConnectionLimits, principal: Principal) -> TooManyConnections:
    with pytest.raises(TooManyConnections) as caught:
        admission.acquire(principal)
    return caught.value


def test_without_bounds_all_are_accepted_and_nothing_is_remembered() -> None:
    admission = ConnectionLimits()
    for _ in range(1_000):
        admission.acquire(of("u", "192.0.2.1"))
    assert (admission.taken, admission.by_user, admission.by_address) == (1_000, {}, {})


@pytest.mark.parametrize(
    ("admission", "principal", "bound", "words"),
    [
        (ConnectionLimits(total=2), of(), "all", ["2 streams on this server", "try again"]),
        (ConnectionLimits(per_user=2), of("ann"), "user", ["2 streams of one user", "close one", "several topics"]),
        (
            ConnectionLimits(per_address=2),
            of("ann", "192.0.2.1"),
            "address",
            ["2 streams from one address", "close one"],
        ),
    ],
    ids=["all", "user", "address"],
)
def test_at_a_bound_the_text_says_which_its_value_and_what_to_do(
    admission: ConnectionLimits, principal: Principal, bound: str, words: list[str]
) -> None:
    admission.acquire(principal)
    admission.acquire(principal)
    error = refused(admission, principal)
    assert error.bound == bound
    for word in words:
        assert word in str(error)
    assert "ann" not in str(error)
    admission.release(principal)
    admission.check(principal)
    admission.acquire(principal)


def test_a_refused_reader_takes_no_place() -> None:
    admission = ConnectionLimits(total=5, per_user=1, per_address=3)
    admission.acquire(of("ann", "192.0.2.1"))
    for _ in range(10):
        refused(admission, of("ann", "192.0.2.2"))
    assert admission.taken == 1
    assert admission.by_address == {"192.0.2.1": 1}


def test_looking_whether_there_is_room_takes_none() -> None:
    admission = ConnectionLimits(total=1)
    for _ in range(3):
        admission.check(ANONYMOUS)
    admission.acquire(ANONYMOUS)
    with pytest.raises(TooManyConnections):
        admission.check(ANONYMOUS)


def test_those_who_are_not_known_have_no_bound_of_a_user() -> None:
    admission = ConnectionLimits(per_user=1)
    admission.acquire(of(address="192.0.2.1"))
    admission.acquire(of(address="192.0.2.1"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:0:8000::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("/run/client.sock", "/run/client.sock", True),
        ("/run/client.sock", "/run/other.sock", False),
    ],
)
def test_an_address_is_counted_as_it_is_and_one_of_ipv6_by_its_network(one: str, other: str, same: bool) -> None:
    admission = ConnectionLimits(per_address=1)
    admission.acquire(of(address=one))
    if same:
        assert refused(admission, of(address=other)).bound == "address"
    else:
        admission.acquire(of(address=other))


def test_readers_without_an_address_have_no_bound_of_one() -> None:
    admission = ConnectionLimits(per_address=1)
    admission.acquire(ANONYMOUS)
    admission.acquire(ANONYMOUS)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_this_machines_own_addresses_are_bounded_only_where_that_is_wanted(address: str) -> None:
    free = ConnectionLimits(per_address=1, limit_loopback=False)
    for _ in range(3):
        free.acquire(of(address=address))
    free.acquire(of(address="192.0.2.1"))
    refused(free, of(address="192.0.2.1"))
    bound = ConnectionLimits(per_address=1)
    bound.acquire(of(address=address))
    refused(bound, of(address=address))


@pytest.mark.parametrize("bound", ["total", "per_user", "per_address"])
def test_a_bound_of_zero_is_refused(bound: str) -> None:
    with pytest.raises(ValueError, match="1 or more, or None"):
        ConnectionLimits(**{bound: 0})


USERS = [None, "ann", "bob"]
ADDRESSES = [None, "127.0.0.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
NETWORK = {"2001:db8::2": "2001:db8::1"}  # the same /64


class Places(RuleBasedStateMachine):
    """Against a list of who is in."""

    MOST, PER_USER, PER_ADDRESS = 6, 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.admission = ConnectionLimits(self.MOST, self.PER_USER, self.PER_ADDRESS, limit_loopback=False)
        self.inside: list[Principal] = []

    @rule(user=st.sampled_from(USERS), address=st.sampled_from(ADDRESSES))
    def come(self, user: str | None, address: str | None) -> None:
        principal = of(user, address)
        full = set()
        if len(self.inside) >= self.MOST:
            full.add("all")
        if user is not None and sum(p.user == user for p in self.inside) >= self.PER_USER:
            full.add("user")
        network = NETWORK.get(address or "", address)
        others = [NETWORK.get(p.address or "", p.address) for p in self.inside]
        if address not in (None, "127.0.0.1") and others.count(network) >= self.PER_ADDRESS:
            full.add("address")
        if full:
            assert refused(self.admission, principal).bound in full
        else:
            self.admission.acquire(principal)
            self.inside.append(principal)

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        principal = data.draw(st.sampled_from(self.inside))
        self.inside.remove(principal)
        self.admission.release(principal)

    @invariant()
    def what_is_kept_is_of_those_inside(self) -> None:
        assert self.admission.taken == len(self.inside)
        assert sum(self.admission.by_user.values()) == sum(p.user is not None for p in self.inside)
        assert all(self.admission.by_user.values())
        assert all(self.admission.by_address.values())


TestPlaces = Places.TestCase
TestPlaces.settings = settings(deadline=None, derandomize=True, max_examples=60, stateful_step_count=30)
