"""How often somebody may do something."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from yeoul.asgi.authentication import IDENTITY
from yeoul.asgi.errors import Problem
from yeoul.asgi.rates import Rate, Rates, count_connect, count_publish
from yeoul.auth.identity import ANONYMOUS, OPERATOR, Identity


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def request(identity: Identity = ANONYMOUS, address: str = "192.0.2.1", rates: Rates | None = None) -> Request:
    scope = {"type": "http", "path": "/", "query_string": b"", "headers": [], "client": (address, 5)}
    scope[IDENTITY] = identity
    if rates is not None:
        scope["app"] = SimpleNamespace(state=SimpleNamespace(rates=rates))
    return Request(scope)


def test_over_the_rate_one_waits_until_the_window_has_moved() -> None:
    clock = Clock()
    rate = Rate("3/minute", clock=clock)
    for second in (0, 10, 20):
        clock.now = 1_000.0 + second
        assert rate.hit("a") == 0
    assert rate.hit("a") == 40
    assert rate.hit("a") == 40, "who was refused is not counted"
    assert rate.hit("b") == 0, "others are others"
    clock.now = 1_059.5
    assert rate.hit("a") == 0.5
    clock.now = 1_060.0
    assert rate.hit("a") == 0
    assert rate.hit("a") == 10


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 5))
def test_in_no_window_there_are_more_than_may_be(gaps: list[float], amount: int) -> None:
    clock = Clock()
    rate = Rate(f"{amount}/second", clock=clock)
    passed: list[float] = []
    for gap in gaps:
        clock.now += gap / 4
        wait = rate.hit("a")
        if not wait:
            passed.append(clock.now)
            assert sum(time > clock.now - 1 for time in passed) <= amount
            continue
        before = clock.now
        clock.now += wait * 1.000_001
        assert rate.hit("a") == 0, "after the time that was told one is let through"
        passed.append(clock.now)
        assert clock.now > before


def test_what_is_remembered_is_bounded_however_many_clients_come() -> None:
    clock = Clock()
    rate = Rate("10/hour", clock=clock, max_callers=100, max_times=150)
    for number in range(1_000):
        clock.now += 0.001
        rate.hit(f"address {number}")
    assert len(rate) == 100
    for number in range(1_000):
        clock.now += 0.001
        for _ in range(10):
            rate.hit(f"busy {number}")
    assert len(rate) == 15
    for _ in range(10):
        assert rate.hit("busy 999") > 0, "those that came last are remembered"


def test_who_was_long_ago_is_forgotten() -> None:
    clock = Clock()
    rate = Rate("10/second", clock=clock)
    for number in range(1_000):
        rate.hit(str(number))
    assert len(rate) == 1_000
    clock.now += 1
    rate.hit("new")
    assert len(rate) == 1


@pytest.mark.parametrize(
    "text", ["", "0/second", "1", "1/week", "-1/second", "1 / second", "1.5/second", "9999999/day"]
)
def test_an_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write it as '100/second'"):
        Rate(text)


def test_a_user_has_a_rate_wherever_from_and_the_unknown_one_per_address() -> None:
    rates = Rates(publish="1/minute")
    ann, bob = Identity(user="ann"), Identity(user="bob")
    rates.publish(request(ann))
    rates.publish(request(bob))
    rates.publish(request())
    rates.publish(request(address="192.0.2.2"))
    for again in (request(ann, "192.0.2.9"), request()):
        with pytest.raises(Problem, match="1/minute") as caught:
            rates.publish(again)
        assert caught.value.status == 429
        assert caught.value.headers == {"Retry-After": "60"}
    assert rates.refused == {"publish": 2, "connect": 0, "failures": 0}


def test_a_user_whose_id_is_an_address_is_another_principal() -> None:
    rates = Rates(publish="1/minute")
    rates.publish(request(Identity(user="address:192.0.2.1")))
    rates.publish(request(Identity(user="192.0.2.1")))
    rates.publish(request())


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("unknown", "unknown", True),
    ],
)
def test_in_ipv6_a_network_is_one_address(first: str, second: str, same: bool) -> None:
    rates = Rates(connect="1/minute")
    rates.connect(request(address=first))
    if same:
        with pytest.raises(Problem):
            rates.connect(request(address=second))
    else:
        rates.connect(request(address=second))


def test_the_operator_has_no_bound_and_other_admins_have() -> None:
    rates = Rates(publish="1/minute", connect="1/minute")
    for _ in range(3):
        rates.publish(request(OPERATOR))
        rates.connect(request(OPERATOR))
    admin = replace(OPERATOR, user="ann")
    rates.publish(request(admin))
    with pytest.raises(Problem):
        rates.publish(request(admin))


def test_publishing_and_connecting_are_counted_apart() -> None:
    rates = Rates(publish="1/minute", connect="2/minute")
    count_connect(request(rates=rates))
    count_connect(request(rates=rates))
    count_publish(request(rates=rates))
    with pytest.raises(Problem):
        count_connect(request(rates=rates))
    with pytest.raises(Problem):
        count_publish(request(rates=rates))


def test_without_rates_nothing_is_counted() -> None:
    for _ in range(3):
        count_connect(request())
        count_publish(request(rates=Rates()))
