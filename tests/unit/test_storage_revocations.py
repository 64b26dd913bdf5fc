"""Whose tokens were taken back: in force at once, on disk when it is acknowledged, forgotten in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.transactions import writing
from yeoul.errors import DatabaseUnavailable, TooManyRevocations
from yeoul.storage.database import Database
from yeoul.storage.revocations import Revocations


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path) as opened:
        yield opened


async def loaded(database: Database, clock: Clock, keep: float | None = 100.0, **bounds: int) -> Revocations:
    revocations = Revocations(database, clock=clock, **bounds)
    await revocations.load(keep_seconds=keep)
    return revocations


async def test_what_was_issued_until_then_is_refused_and_what_comes_after_is_not(
    database: Database, clock: Clock
) -> None:
    revocations = await loaded(database, clock)
    assert await revocations.revoke("ann") == ("ann", 1_000.0)
    assert revocations.revoked("ann", 999.0)
    assert revocations.revoked("ann", 1_000.0)
    assert revocations.revoked("ann", None), "a token that does not say when it was made may be an old one"
    assert not revocations.revoked("ann", 1_000.1)
    assert not revocations.revoked("bob", None)


async def test_another_process_knows_it(database: Database, clock: Clock) -> None:
    await (await loaded(database, clock)).revoke("ann' --")
    again = await loaded(database, clock)
    assert again.revoked("ann' --", 1_000.0)
    assert again.all() == [("ann' --", 1_000.0)]


async def test_revoked_again_the_later_time_counts_even_where_the_clock_was_set_back(
    database: Database, clock: Clock
) -> None:
    revocations = await loaded(database, clock)
    await revocations.revoke("ann")
    clock.now = 1_050.0
    await revocations.revoke("ann")
    assert revocations.revoked("ann", 1_040.0)
    clock.now = 900.0
    await revocations.revoke("ann")
    for known in (revocations, await loaded(database, clock)):
        assert known.revoked("ann", 1_050.0)
        assert known.all() == [("ann", 1_050.0)]


async def test_it_is_forgotten_when_no_token_of_its_time_can_be_left(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock)
    await revocations.revoke("ann")
    clock.now = 1_099.9
    assert revocations.revoked("ann", 1_000.0)
    clock.now = 1_100.0
    assert not revocations.revoked("ann", 1_000.0)
    assert revocations.all() == []
    assert not (await loaded(database, clock)).revoked("ann", 1_000.0)
    await revocations.revoke("bob")
    clock.now = 1_000.0
    assert (await loaded(database, clock)).all() == [("bob", 1_100.0)], "the other one is off the disk"


async def test_where_tokens_never_expire_it_never_does(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock, None)
    await revocations.revoke("ann")
    clock.now += 10**9
    assert revocations.revoked("ann", None)
    await revocations.revoke("bob")
    assert [user for user, _ in (await loaded(database, clock, None)).all()] == ["ann", "bob"]


async def test_tokens_are_accepted_again_after_a_revocation_is_lifted(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock)
    await revocations.revoke("ann")
    assert await revocations.lift("ann")
    assert not revocations.revoked("ann", None)
    assert not await revocations.lift("ann")
    assert (await loaded(database, clock)).all() == []


async def test_it_is_in_force_before_it_is_on_the_disk(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock)
    seen: list[tuple[bool, int]] = []
    async with writing(database):  # nobody else can write
        task = asyncio.create_task(
            revocations.revoke("ann", lambda: seen.append((revocations.revoked("ann", None), len(revocations.all()))))
        )
        while not seen:
            await asyncio.sleep(0)
        assert seen == [(True, 0)]
        assert not task.done()
    await task
    assert revocations.all() == [("ann", 1_000.0)]


async def test_what_cannot_be_written_is_not_claimed(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    revocations = await loaded(database, clock)
    await revocations.revoke("bob")
    clock.now += 1
    closed: list[str] = []
    monkeypatch.setattr("yeoul.storage.database.BUSY_S", 0.05)
    async with writing(database):
        for user in ("ann", "bob"):
            with pytest.raises(DatabaseUnavailable):
                await revocations.revoke(user, lambda user=user: closed.append(user))  # type: ignore[misc]
    assert closed == ["ann", "bob"]
    assert not revocations.revoked("ann", None)
    assert revocations.revoked("bob", 1_000.0), "what was written before holds"
    assert not revocations.revoked("bob", 1_000.5)
    assert (await loaded(database, clock)).all() == revocations.all() == [("bob", 1_000.0)]


async def test_many_at_once_are_all_kept(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock)
    await asyncio.gather(*(revocations.revoke(f"u{number % 10}") for number in range(40)))
    assert [user for user, _ in (await loaded(database, clock)).all()] == [f"u{number}" for number in range(10)]


async def test_more_than_can_be_remembered_are_refused(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock, max_users=2)
    await revocations.revoke("a")
    await revocations.revoke("b")
    with pytest.raises(TooManyRevocations):
        await revocations.revoke("c")
    await revocations.revoke("a")
    assert await revocations.lift("b")
    await revocations.revoke("c")


async def test_those_that_are_over_make_room_for_others(database: Database, clock: Clock) -> None:
    revocations = await loaded(database, clock, max_users=1)
    await revocations.revoke("a")
    clock.now += 100.0
    await revocations.revoke("b")
    assert len(revocations) == 1


async def test_a_user_who_is_revoked_again_while_the_revocation_is_lifted_stays_revoked(
    database: Database, clock: Clock
) -> None:
    revocations = await loaded(database, clock)
    await revocations.revoke("ann")
    began = asyncio.Event()
    async with writing(database):
        lifting = asyncio.create_task(revocations.lift("ann"))
        await asyncio.sleep(0)
        clock.now += 1
        revoking = asyncio.create_task(revocations.revoke("ann", began.set))
        await began.wait()
    assert await lifting
    assert revocations.revoked("ann", 1_000.5), "streams were ended, and must not come back meanwhile"
    await revoking
    assert (await loaded(database, clock)).all() == revocations.all() == [("ann", 1_001.0)]


async def test_a_later_time_that_cannot_be_written_is_not_claimed_either(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    revocations = await loaded(database, clock)
    first_is_written = asyncio.Event()
    began = asyncio.Event()
    write = revocations._write

    async def failing(user: str, at: float) -> None:
        if at == 1_000.0:
            return await write(user, at)
        await first_is_written.wait()
        raise DatabaseUnavailable("its disk is full")

    monkeypatch.setattr(revocations, "_write", failing)
    first = asyncio.create_task(revocations.revoke("ann", began.set))
    await began.wait()
    clock.now += 1
    second = asyncio.create_task(revocations.revoke("ann"))
    await first
    first_is_written.set()
    with pytest.raises(DatabaseUnavailable):
        await second
    assert not revocations.revoked("ann", 1_000.5)
    assert (await loaded(database, clock)).all() == revocations.all() == [("ann", 1_000.0)]
