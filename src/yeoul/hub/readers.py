"""The streams that are open: how they are opened, counted, logged, and what each of them held when it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..errors import InvalidToken, TooManyConnections
from ..observe import logger
from ..stream import Cursor, Position
from .limits import ConnectionLimits, Principal, Reservation
from .reasons import EndReason
from .subscription import ReaderHost, SubscribeOptions, Subscription
from .topic import ReaderKind, Topic, Topics, check_topic
from .watchers import Watchers

__all__ = ["Readers"]

_T = TypeVar("_T")


class Readers:
    """Iterates over those that are open, in the order in which they came."""

    def __init__(
        self,
        host: ReaderHost,
        topics: Topics,
        limits: ConnectionLimits,
        watchers: Watchers,
        *,
        max_topics: int,
        max_lifetime: float | None,
        max_replay_bytes: int | None,
    ) -> None:
        self._host = host
        self._topics = topics
        self._limits = limits
        self._watchers = watchers
        self._max_topics = max_topics
        self._max_lifetime = max_lifetime
        self._max_replay_bytes = max_replay_bytes
        self._open: dict[Subscription, None] = {}
        self._internal: dict[Subscription, None] = {}  # not counted, not iterated over

    async def open(self, names: Sequence[str], options: SubscribeOptions) -> Subscription:
        """`Hub.subscribe`."""
        principal = options.principal
        names = self._check(names, principal)
        if options.reservation is not None:
            options.reservation.use()
        elif not options.internal:
            self._count_refusal(self._limits.acquire, principal)
        topics: tuple[Topic, ...] = ()
        try:
            topics = await self._topics.attach(names)
            reader = Subscription(
                self._host,
                ReaderKind(topics, options.encoding, options.until_final, options.internal),
                await self._position(topics, options),
                principal,
                max_lifetime=self._max_lifetime,
                # Readers of streams that end with their topic are given all of it: half an answer is useless.
                max_replay_bytes=None if options.after is None or options.until_final else self._max_replay_bytes,
            )
        except BaseException:
            self._topics.detach(topics)
            if not options.internal:
                self._limits.release(principal)
            raise
        if options.internal:
            self._internal[reader] = None
        else:
            self._note_opened(reader)
        return reader

    def release(self, reader: Subscription, reason: EndReason) -> None:
        """Takes back all that it held. Called once, however it ended."""
        self._topics.detach(reader.topics)
        if reader.internal:
            del self._internal[reader]
            return
        del self._open[reader]
        self._limits.release(reader.principal)
        stats = self._host.stats
        stats.readers -= 1
        stats.closed[reason.name] = stats.closed.get(reason.name, 0) + 1
        stats.durations.observe(reader.age)
        if logger.isEnabledFor(reason.log_level):
            _log_end(reader, reason)
        self._watchers.notify(reader, reason)

    def end_all(self, reason: EndReason) -> None:
        for reader in [*self._open, *self._internal]:
            reader.end(reason)

    def reserve(self, principal: Principal) -> Reservation:
        """`Hub.reserve`."""
        return self._count_refusal(self._limits.reserve, principal)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def _check(self, names: Sequence[str], principal: Principal) -> Sequence[str]:
        if len(names) > 1:
            names = list(dict.fromkeys(names))
        if not 1 <= len(names) <= self._max_topics:
            raise ValueError(f"follow 1 to {self._max_topics} topics with one stream, not {len(names)}")
        for name in names:
            if name not in self._topics:
                check_topic(name)
        if principal.expires is not None and principal.expires <= time.time():
            raise InvalidToken("the token has expired: get a new one")
        return names

    async def _position(self, topics: Sequence[Topic], options: SubscribeOptions) -> Position:
        broker, newest = self._host.broker, options.newest
        journals = [topic.journal for topic in topics]
        if options.after is None and newest == 0:
            return Position(journals, broker.head)  # as `of_new_reader` finds, for most readers
        counts = [newest if isinstance(newest, int) else newest.get(topic.name, 0) for topic in topics]
        if options.after is None:
            return Position.of_new_reader(journals, counts, broker.head)
        returning = [
            count if topic.name in options.always_new else None for topic, count in zip(topics, counts, strict=True)
        ]
        head = broker.head
        if isinstance(options.after, Cursor) and options.after.epoch == broker.epoch and options.after.offset > head:
            head = await broker.newest()  # it may come from another process, which has been pushed more than this one
        return Position.of_returning_reader(journals, options.after, returning, epoch=broker.epoch, head=head)

    def _count_refusal(self, step: Callable[[Principal], _T], principal: Principal) -> _T:
        try:
            return step(principal)
        except TooManyConnections as error:
            refused = self._host.stats.refused
            refused[error.bound] = refused.get(error.bound, 0) + 1
            raise

    def _note_opened(self, reader: Subscription) -> None:
        self._open[reader] = None
        self._host.stats.readers += 1
        self._host.stats.opened += 1
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("stream opened", extra=_about(reader))
        self._watchers.notify(reader, None)


def _log_end(reader: Subscription, reason: EndReason) -> None:
    about = {
        **_about(reader),
        "reason": reason.name,
        "seconds": round(reader.age, 3),
        "events": reader.events,
        "bytes": reader.sent,
        "gaps": reader.gaps,
    }
    logger.log(reason.log_level, "stream ended", extra=about)


def _about(reader: Subscription) -> dict[str, object]:
    return {
        "connection": reader.id,
        "user": reader.principal.user,
        "address": reader.principal.address,
        "topics": [_shown(topic.name, reader.until_final) for topic in reader.topics],
    }


# Characters of an unguessable name that are shown: enough to tell two apart, too few to read what it names.
_SHOWN = 6


def _shown(topic: str, job: bool) -> str:
    """The id of a job gives access to it, and logs are read by others than its owner."""
    kind, _, id = topic.rpartition("/")
    return f"{kind}/{id[:_SHOWN]}…" if job and len(id) > _SHOWN else topic
