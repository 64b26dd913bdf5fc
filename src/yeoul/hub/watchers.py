"""Who is told of readers that come, go, and move on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..observe import logger
from .topic import check_topic

if TYPE_CHECKING:
    from .subscription import Subscription

__all__ = ["Watcher", "Watchers"]

# Called when a reader joins a watched topic (reason None), and when it leaves, with the reason: "client" where the
# client went away, anything else where this server ended the stream. Once for each of the reader's topics. A reader of
# a stream that ends with its topic may be told of once more, as "reset": its end may not have arrived.
Watcher = Callable[[str, "Subscription", str | None], None]

_BELOW = "/*"


class Watchers:
    """One watcher per topic, one per kind of topic (its name's first part), one pace per topic."""

    def __init__(self) -> None:
        self.by_topic: dict[str, Watcher] = {}
        self.by_kind: dict[str, Watcher] = {}
        self.paces: dict[str, Callable[[], None]] = {}

    def watch(self, name: str, watcher: Watcher | None) -> None:
        """Raises InvalidTopic, ValueError."""
        kind = name.removesuffix(_BELOW)
        if kind == name:
            table = self.by_topic
        elif "/" in kind:
            raise ValueError(f"{name!r} cannot be watched: watch a topic, or all below its first part, as in 'chat/*'")
        else:
            table = self.by_kind
        check_topic(kind)
        if watcher is None:
            table.pop(kind, None)
        else:
            table[kind] = watcher

    def watch_pace(self, topic: str, moved: Callable[[], None] | None) -> None:
        if moved is None:
            self.paces.pop(topic, None)
        else:
            self.paces[topic] = moved

    def tell(self, reader: Subscription, reason: str | None) -> None:
        if not self.by_topic and not self.by_kind:
            return
        for topic in reader.topics:
            for watcher in self._of(topic.name):
                try:
                    watcher(topic.name, reader, reason)
                except Exception:
                    # It must not keep a reader from being let in, or what the reader held from being given back.
                    logger.exception("whoever watches the readers of a topic has failed")

    def moved(self, reader: Subscription) -> None:
        """A reader that lags has been given more."""
        if self.paces:
            for topic in reader.topics:
                pace = self.paces.get(topic.name)
                if pace is not None:
                    pace()

    def _of(self, topic: str) -> Iterator[Watcher]:
        exact = self.by_topic.get(topic)
        if exact is not None:
            yield exact
        kind, _, below = topic.partition("/")
        if below and kind in self.by_kind:
            yield self.by_kind[kind]
