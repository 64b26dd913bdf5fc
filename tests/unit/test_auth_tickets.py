"""Tickets: used once, and again only in a browser that shows a pass of their user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from yeoul.auth.identity import ANONYMOUS, OPERATOR, Grants, Identity
from yeoul.auth.tickets import Tickets
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


async def test_a_ticket_is_taken_once_for_the_user_it_was_issued_to(tickets: Tickets) -> None:
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


async def test_after_its_time_it_is_not_taken(tickets: Tickets, clock: Clock) -> None:
    good, late = await tickets.issue(ANN), await tickets.issue(ANN)
    clock.now += 29.9
    assert (await tickets.admit(good)).identity.user == "ann"
    clock.now += 0.1
    assert "expired" in await refusal(tickets, late)


async def test_what_is_no_ticket_is_not_taken(tickets: Tickets) -> None:
    for text in ("", "x", "x" * 100_000, "\ud800", "티켓"):
        assert "unknown" in await refusal(tickets, text)


async def test_for_named_topics_it_can_do_no_more_whoever_asked(tickets: Tickets) -> None:
    admin = replace(ANN, roles=frozenset({"admin", "user"}))
    text = await tickets.issue(admin, ["chat/a", "system/x"])
    identity = (await tickets.admit(text)).identity
    assert identity.may_subscribe("chat/a")
    assert identity.may_subscribe("system/x")
    assert not identity.may_subscribe("chat/b")
    assert not identity.may_publish("chat/a")
    assert not identity.is_admin
    assert identity.roles == {"user"}


async def test_a_used_ticket_is_taken_again_with_a_pass_of_its_user(tickets: Tickets, clock: Clock) -> None:
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


async def test_a_pass_alone_and_a_ticket_as_a_pass_are_nothing(tickets: Tickets) -> None:
    text, pass_text = await used(tickets)
    assert "unknown" in await refusal(tickets, pass_text, pass_text)
    assert "has been used" in await refusal(tickets, text, text)


async def test_several_tabs_share_the_pass(tickets: Tickets) -> None:
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


async def test_where_the_token_never_expires_the_pass_does(tickets: Tickets, clock: Clock) -> None:
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


async def test_a_ticket_does_not_outlive_the_token_that_it_came_from(tickets: Tickets, clock: Clock) -> None:
    text = await tickets.issue(replace(ANN, expires=1_010.0))
    clock.now = 1_010.0
    assert "expired" in await refusal(tickets, text)


async def test_of_one_user_the_oldest_unused_go(clock: Clock) -> None:
    tickets = Tickets(max_unused_per_user=3, clock=clock)
    others = await tickets.issue(BOB)
    texts = [await tickets.issue(ANN) for _ in range(5)]
    for text in texts[:2]:
        assert "unknown" in await refusal(tickets, text)
    for text in (*texts[2:], others):
        assert (await tickets.admit(text)).identity.user


async def test_as_many_unused_as_may_are_told_until_they_expire(clock: Clock) -> None:
    tickets = Tickets(max_unused=3, ticket_seconds=30, clock=clock)
    for number in range(3):
        await tickets.issue(replace(ANN, user=f"u{number}"))
    with pytest.raises(TooManyTickets):
        await tickets.issue(ANN)
    clock.now += 30
    assert (await tickets.admit(await tickets.issue(ANN))).identity.user == "ann"


async def test_used_ones_and_passes_are_bounded_too(clock: Clock) -> None:
    tickets = Tickets(max_used_per_user=2, max_passes_per_user=2, clock=clock)
    text, pass_text = await used(tickets)
    for _ in range(20):
        await used(tickets)
    assert (len(tickets._used), len(tickets._passes)) == (2, 2)
    assert "unknown" in await refusal(tickets, text, pass_text)


async def test_what_is_used_often_stays(clock: Clock) -> None:
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


async def test_an_ended_pass_lets_nobody_in(tickets: Tickets) -> None:
    text, pass_text = await used(tickets)
    await tickets.end_passes([pass_text, "unknown"])
    assert "has been used" in await refusal(tickets, text, pass_text)


async def test_what_was_revoked_is_not_taken_in_any_way(clock: Clock) -> None:
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


async def test_in_a_header_it_is_good_for_one_get_and_yields_no_pass(tickets: Tickets) -> None:
    text = await tickets.issue(ANN)
    with pytest.raises(InvalidToken, match="GET only"):
        await tickets.redeem(text, "POST")
    assert await tickets.redeem(text, "GET") == replace(ANN, way="ticket")
    with pytest.raises(InvalidToken, match="unknown, used or expired"):
        await tickets.redeem(text, "GET")
    assert "unknown" in await refusal(tickets, text)


async def test_an_internal_one_is_for_any_method_and_for_nobody_too_but_not_for_an_address(tickets: Tickets) -> None:
    for identity in (ANN, ANONYMOUS, OPERATOR):
        text = await tickets.issue(identity, internal=True)
        assert "unknown" in await refusal(tickets, text)
        assert await tickets.redeem(text, "POST") == replace(identity, way="own")
        with pytest.raises(InvalidToken):
            await tickets.redeem(text, "POST")


async def test_internal_ones_do_not_push_out_a_users_own(clock: Clock) -> None:
    tickets = Tickets(max_unused_per_user=2, clock=clock)
    own = await tickets.issue(ANN)
    for _ in range(5):
        await tickets.issue(ANN, internal=True)
    assert (await tickets.admit(own)).identity.user == "ann"
