"""Tickets: used once, and again only by the browser that has a pass of their user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from yeoul.auth.identity import ANONYMOUS, OPERATOR, Grants, Identity
from yeoul.auth.tickets import ExpiringStore, Tickets
from yeoul.errors import InvalidToken, TooManyTickets

ANN = Identity(user="ann", roles=frozenset({"user"}), grants=Grants.of(["chat/*"]), expires=2_000.0, way="bearer")
BOB = replace(ANN, user="bob")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    return Tickets(ticket_seconds=30, pass_seconds=500, clock=clock)


async def refusal(tickets: Tickets, text: str, *passes: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await tickets.admit(text, passes)
    assert not any(len(secret) > 20 and secret in str(caught.value) for secret in (text, *passes))
    return str(caught.value)


async def used(tickets: Tickets, identity: Identity = ANN, *passes: str) -> tuple[str, str]:
    """A ticket that was used, and the pass that came of it."""
    text = await tickets.issue(identity)
    admission = await tickets.admit(text, passes)
    assert admission.new_pass is not None
    return text, admission.new_pass.text


async def test_a_ticket_is_accepted_once_for_its_user(tickets: Tickets) -> None:
    text = await tickets.issue(ANN)
    identity = (await tickets.admit(text)).identity
    assert identity == replace(ANN, way="ticket")
    assert "has been used" in await refusal(tickets, text)


async def test_tickets_and_passes_cannot_be_guessed(tickets: Tickets) -> None:
    texts = {await tickets.issue(ANN) for _ in range(50)}
    _, pass_text = await used(tickets)
    assert len(texts) == 50
    assert {len(text) for text in texts} | {len(pass_text)} == {43}  # 256 bits


async def test_only_digests_are_kept(tickets: Tickets) -> None:
    unused = await tickets.issue(ANN)
    text, pass_text = await used(tickets)
    for holdings in (tickets._unused, tickets._used, tickets._passes):
        shown = repr(holdings._all) + repr(holdings._of_user)
        assert not any(secret in shown for secret in (unused, text, pass_text))


async def test_an_expired_ticket_is_refused(tickets: Tickets, clock: Clock) -> None:
    good, late = await tickets.issue(ANN), await tickets.issue(ANN)
    clock.now += 29.9
    assert (await tickets.admit(good)).identity.user == "ann"
    clock.now += 0.1
    assert "expired" in await refusal(tickets, late)


async def test_other_text_is_refused(tickets: Tickets) -> None:
    for text in ("", "x", "x" * 100_000, "\ud800", "티켓"):
        assert "unknown" in await refusal(tickets, text)


async def test_a_ticket_with_topics_has_no_other_permission(tickets: Tickets) -> None:
    admin = replace(ANN, roles=frozenset({"admin", "user"}))
    text = await tickets.issue(admin, ["chat/a", "system/x"])
    identity = (await tickets.admit(text)).identity
    assert identity.may_subscribe("chat/a")
    assert identity.may_subscribe("system/x")
    assert not identity.may_subscribe("chat/b")
    assert not identity.may_publish("chat/a")
    assert not identity.is_admin
    assert identity.roles == {"user"}


async def test_a_used_ticket_is_accepted_with_a_pass_of_its_user(tickets: Tickets, clock: Clock) -> None:
    text, pass_text = await used(tickets)
    clock.now += 900  # long after the ticket was good, until the token expires
    for _ in range(3):
        admission = await tickets.admit(text, ["other", pass_text])
        assert admission.identity == replace(ANN, way="pass")
        assert admission.new_pass is None
    clock.now = 2_000.0
    assert "expired" in await refusal(tickets, text, pass_text)


async def test_another_users_pass_does_not_help(tickets: Tickets) -> None:
    text, pass_text = await used(tickets)
    _, of_bob = await used(tickets, BOB)
    assert "has been used" in await refusal(tickets, text, of_bob)
    assert "has been used" in await refusal(tickets, text, "made-up", "")
    assert (await tickets.admit(text, [of_bob, pass_text])).identity.user == "ann"


async def test_a_pass_alone_and_a_ticket_as_a_pass_are_refused(tickets: Tickets) -> None:
    text, pass_text = await used(tickets)
    assert "unknown" in await refusal(tickets, pass_text, pass_text)
    assert "has been used" in await refusal(tickets, text, text)


async def test_several_tabs_share_a_pass(tickets: Tickets) -> None:
    first, pass_text = await used(tickets)
    second = await tickets.issue(ANN)
    admission = await tickets.admit(second, [pass_text])
    assert admission.new_pass is None
    for text in (first, second):
        assert (await tickets.admit(text, [pass_text])).identity.user == "ann"


async def test_tabs_that_open_at_the_same_time_need_not_agree_on_a_pass(tickets: Tickets) -> None:
    first, _ = await used(tickets)
    second, of_second = await used(tickets)  # overwrites the cookie of the first
    for text in (first, second):
        assert (await tickets.admit(text, [of_second])).identity.user == "ann"


async def test_a_newer_token_prolongs_the_pass(tickets: Tickets, clock: Clock) -> None:
    _, pass_text = await used(tickets)
    renewed = await tickets.issue(replace(ANN, expires=3_000.0))
    admission = await tickets.admit(renewed, [pass_text])
    assert admission.new_pass is not None
    assert (admission.new_pass.text, admission.new_pass.seconds) == (pass_text, 2_000.0)
    clock.now = 2_999.0
    assert (await tickets.admit(renewed, [pass_text])).identity.user == "ann"


async def test_a_pass_expires_where_the_token_never_does(tickets: Tickets, clock: Clock) -> None:
    demo = replace(ANN, expires=None)
    text = await tickets.issue(demo)
    admission = await tickets.admit(text)
    assert admission.new_pass is not None
    assert admission.new_pass.seconds == 500
    shown = [admission.new_pass.text]
    assert (await tickets.admit(await tickets.issue(demo), shown)).new_pass is None
    clock.now += 251
    later = await tickets.issue(demo)
    prolonged = (await tickets.admit(later, shown)).new_pass
    assert prolonged is not None
    assert (prolonged.text, prolonged.seconds) == (shown[0], 500)
    clock.now += 250
    assert "expired" in await refusal(tickets, text, *shown)
    assert (await tickets.admit(later, shown)).identity.user == "ann"


async def test_a_ticket_does_not_outlive_its_token(tickets: Tickets, clock: Clock) -> None:
    text = await tickets.issue(replace(ANN, expires=1_010.0))
    clock.now = 1_010.0
    assert "expired" in await refusal(tickets, text)


async def test_the_oldest_unused_tickets_of_a_user_are_removed(clock: Clock) -> None:
    tickets = Tickets(max_unused_per_user=3, clock=clock)
    others = await tickets.issue(BOB)
    texts = [await tickets.issue(ANN) for _ in range(5)]
    for text in texts[:2]:
        assert "unknown" in await refusal(tickets, text)
    for text in (*texts[2:], others):
        assert (await tickets.admit(text)).identity.user


async def test_too_many_unused_tickets_are_refused_until_some_expire(clock: Clock) -> None:
    tickets = Tickets(max_unused=3, ticket_seconds=30, clock=clock)
    for number in range(3):
        await tickets.issue(replace(ANN, user=f"u{number}"))
    with pytest.raises(TooManyTickets):
        await tickets.issue(ANN)
    clock.now += 30
    assert (await tickets.admit(await tickets.issue(ANN))).identity.user == "ann"


async def test_used_tickets_and_passes_are_bounded(clock: Clock) -> None:
    tickets = Tickets(max_used_per_user=2, max_passes_per_user=2, clock=clock)
    text, pass_text = await used(tickets)
    for _ in range(20):
        await used(tickets)
    assert (len(tickets._used), len(tickets._passes)) == (2, 2)
    assert "unknown" in await refusal(tickets, text, pass_text)


async def test_recently_used_tickets_and_passes_are_kept(clock: Clock) -> None:
    tickets = Tickets(max_used_per_user=2, max_passes_per_user=2, clock=clock)
    text, pass_text = await used(tickets)
    for _ in range(20):
        await used(tickets)
        assert (await tickets.admit(text, [pass_text])).identity.user == "ann"


async def test_a_dropped_user_has_neither_tickets_nor_passes(tickets: Tickets) -> None:
    unused = await tickets.issue(ANN)
    text, pass_text = await used(tickets)
    of_bob = await tickets.issue(BOB)
    await tickets.drop("ann")
    assert "unknown" in await refusal(tickets, unused)
    assert "unknown" in await refusal(tickets, text, pass_text)
    assert (await tickets.admit(of_bob)).identity.user == "bob"


async def test_an_ended_pass_is_refused(tickets: Tickets) -> None:
    text, pass_text = await used(tickets)
    await tickets.end_passes([pass_text, "unknown"])
    assert "has been used" in await refusal(tickets, text, pass_text)


async def test_tickets_and_passes_of_revoked_tokens_are_refused(clock: Clock) -> None:
    revoked: dict[str, float] = {}

    def is_revoked(user: str, issued: float | None) -> bool:
        return user in revoked and (issued is None or issued <= revoked[user])

    tickets = Tickets(revoked=is_revoked, clock=clock)
    old = replace(ANN, issued=900.0)
    text, pass_text = await used(tickets, old)
    unused, header = await tickets.issue(old), await tickets.issue(old)
    revoked["ann"] = 950.0
    for refused in (await refusal(tickets, text, pass_text), await refusal(tickets, unused)):
        assert "revoked" in refused
    with pytest.raises(InvalidToken, match="revoked"):
        await tickets.redeem(header, "GET")
    assert (await tickets.admit(await tickets.issue(replace(ANN, issued=951.0)))).identity.user == "ann"
    assert (await tickets.admit(await tickets.issue(BOB))).identity.user == "bob"


# --- in a header


async def test_a_redeemed_ticket_is_for_one_get_and_creates_no_pass(tickets: Tickets) -> None:
    text = await tickets.issue(ANN)
    with pytest.raises(InvalidToken, match="GET only"):
        await tickets.redeem(text, "POST")
    assert await tickets.redeem(text, "GET") == replace(ANN, way="ticket")
    with pytest.raises(InvalidToken, match="unknown, used or expired"):
        await tickets.redeem(text, "GET")
    assert "unknown" in await refusal(tickets, text)


async def test_an_internal_ticket_is_for_any_method_and_identity_and_not_for_a_query(tickets: Tickets) -> None:
    for identity in (ANN, ANONYMOUS, OPERATOR):
        text = await tickets.issue(identity, internal=True)
        assert "unknown" in await refusal(tickets, text)
        assert await tickets.redeem(text, "POST") == replace(identity, way="own")
        with pytest.raises(InvalidToken):
            await tickets.redeem(text, "POST")


async def test_internal_tickets_do_not_remove_those_of_a_user(clock: Clock) -> None:
    tickets = Tickets(max_unused_per_user=2, clock=clock)
    own = await tickets.issue(ANN)
    for _ in range(5):
        await tickets.issue(ANN, internal=True)
    assert (await tickets.admit(own)).identity.user == "ann"


# --- the store


def keys(store: ExpiringStore[str], now: float = 0.0) -> list[bytes]:
    return [key for key in (b"1", b"2", b"3", b"4") if store.get(key, now) is not None]


def test_the_oldest_entry_of_the_same_user_is_removed() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=10, max_per_user=2)
    store.put(b"4", "bob", 9.0, "x", 0.0)
    for key in (b"1", b"2", b"3"):
        store.put(key, "ann", 9.0, "x", 0.0)
    assert keys(store) == [b"2", b"3", b"4"]


def test_touch_makes_an_entry_the_newest() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=3, max_per_user=2)
    store.put(b"1", "ann", 9.0, "x", 0.0)
    store.put(b"2", "ann", 9.0, "x", 0.0)
    store.touch(b"1")
    store.put(b"3", "ann", 9.0, "x", 0.0)
    assert keys(store) == [b"1", b"3"]


def test_entries_without_a_user_are_bounded_in_all() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=3, max_per_user=1)
    for key in (b"1", b"2", b"3", b"4"):
        store.put(key, None, 9.0, "x", 0.0)
    assert keys(store) == [b"2", b"3", b"4"]


def test_an_expired_entry_makes_room() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=2, max_per_user=5)
    store.put(b"1", "ann", 5.0, "x", 0.0)
    store.put(b"2", "ann", 9.0, "x", 0.0)
    assert store.is_full(4.0)
    assert (store.get(b"1", 4.9), store.get(b"1", 5.0), store.pop(b"1", 5.0)) == ("x", None, None)
    store.put(b"1", "ann", 5.0, "x", 0.0)
    assert not store.is_full(5.0)
    store.put(b"3", "ann", 9.0, "x", 5.0)
    assert keys(store, 5.0) == [b"2", b"3"]


def test_expired_entries_are_swept_while_there_is_room() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=100, max_per_user=100)
    for number in range(50):
        store.put(bytes([number]), f"u{number}", 5.0, "x", 0.0)
    store.put(b"new", "ann", 100.0, "x", 60.0)
    assert len(store) == 1


def test_a_full_store_is_swept_once_a_second() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=1, max_per_user=9)
    store.put(b"1", "ann", 5.5, "x", 0.0)
    assert store.is_full(5.0)
    assert store.is_full(5.9)
    assert not store.is_full(6.0)


def test_all_entries_of_a_user_are_dropped() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=9, max_per_user=9)
    for key, user in ((b"1", "ann"), (b"2", "bob"), (b"3", "ann")):
        store.put(key, user, 9.0, "x", 0.0)
    store.drop("ann")
    store.drop("nobody")
    assert keys(store) == [b"2"]
    assert len(store) == 1


def test_an_entry_put_again_belongs_to_the_new_user() -> None:
    store: ExpiringStore[str] = ExpiringStore(max_all=9, max_per_user=9)
    store.put(b"1", "ann", 9.0, "x", 0.0)
    store.put(b"1", "bob", 9.0, "y", 0.0)
    store.drop("ann")
    assert store.get(b"1", 0.0) == "y"
