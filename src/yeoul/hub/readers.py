"""All streams that are open: let in, listed, and taken off the list."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidToken, TooManyConnections
from ..stream import Cursor
from .admission import Admission
from .encoding import Encoding
from .place import place_of
from .principal import Principal
from .subscription import Subscription
from .topic import Topic, Topics, check_topic
from .trail import note_ended, note_opened
from .watchers import Watchers

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Readers"]


class Readers:
    """Iterates over those that are open, in the order in which they came."""

    def __init__(self, hub: Hub, topics: Topics, admission: Admission, watchers: Watchers) -> None:
        self._hub = hub
        self._topics = topics
        self._admission = admission
        self._watchers = watchers
        self._open: dict[Subscription, None] = {}

    async def let_in(
        self,
        topics: Sequence[str],
        *,
        after: Cursor | None,
        newest: int | Mapping[str, int],
        afresh: Collection[str],
        encoding: Encoding,
        until_final: bool,
        principal: Principal,
        internal: bool,
    ) -> Subscription:
        """`Hub.subscribe`, which says what these are."""
        names = self._check(topics, principal)
        if not internal:
            self._counting_refusals(self._admission.enter, principal)
        followed: list[Topic] = []
        try:
            followed = await self._topics.attach(names)
            reader = Subscription(
                self._hub,
                followed,
                place=place_of(self._hub.broker, followed, after, newest, afresh),
                encoding=encoding,
                until_final=until_final,
                principal=principal,
                budget=None if after is None or until_final else self._hub.max_replay_bytes,
            )
        except BaseException:
            self._topics.detach(followed)
            if not internal:
                self._admission.leave(principal)
            raise
        if not internal:
            self._note_opened(reader)
        return reader

    def release(self, reader: Subscription, reason: str) -> None:
        """Takes back all that it held. Once, however it ended: `Connection.close` sees to that."""
        self._topics.detach(reader.topics)
        if reader not in self._open:
            return  # an internal one
        del self._open[reader]
        self._admission.leave(reader.principal)
        stats = self._hub.stats
        stats.readers -= 1
        stats.closed[reason] = stats.closed.get(reason, 0) + 1
        stats.durations.observe(reader.age)
        note_ended(reader, reason)
        self._watchers.tell(reader, reason)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def _check(self, topics: Sequence[str], principal: Principal) -> list[str]:
        names = list(dict.fromkeys(topics))
        most = self._hub.max_topics_per_reader
        if not 1 <= len(names) <= most:
            raise ValueError(f"follow 1 to {most} topics with one stream, not {len(names)}")
        for name in names:
            check_topic(name)
        if principal.expires is not None and principal.expires <= time.time():
            raise InvalidToken("the token has expired: get a new one")
        return names

    def check_admission(self, principal: Principal) -> None:
        """`Hub.check_admission`."""
        self._counting_refusals(self._admission.check, principal)

    def _counting_refusals(self, step: Callable[[Principal], None], principal: Principal) -> None:
        try:
            step(principal)
        except TooManyConnections as error:
            refused = self._hub.stats.refused
            refused[error.bound] = refused.get(error.bound, 0) + 1
            raise

    def _note_opened(self, reader: Subscription) -> None:
        self._open[reader] = None
        self._hub.stats.readers += 1
        self._hub.stats.opened += 1
        note_opened(reader)
        self._watchers.tell(reader, None)
