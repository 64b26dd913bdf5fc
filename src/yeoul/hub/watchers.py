"""Callbacks of other layers: who joins and leaves a topic, and when a lagging reader gets on."""

from __future__ import annotations

from collections.abc import Callable

from ..observe import logger
from .reasons import EndReason
from .subscription import Subscription
from .topic import check_topic

__all__ = ["Watcher", "Watchers"]

# Called when a reader joins a watched topic (reason None), and when it leaves, with the reason: CLIENT_LEFT where the
# client went away, any other where this server ended the stream. Once for each of the reader's topics. After the end of
# a stream that ends with its topic it may be called once more, with CONNECTION_RESET: the end may not have arrived.
Watcher = Callable[[str, Subscription, EndReason | None], None]

_BELOW = "/*"


class Watchers:
    """At most one watcher for each topic, one for each kind of topic (the first part of its name), and one progress
    callback for each topic."""

    def __init__(self) -> None:
        self._by_topic: dict[str, Watcher] = {}
        self._by_kind: dict[str, Watcher] = {}
        self._progress: dict[str, Callable[[], None]] = {}

    def watch(self, name: str, watcher: Watcher) -> None:
        """Raises InvalidTopic, ValueError."""
        table, key = self._table(name)
        check_topic(key)
        if key in table:
            raise ValueError(f"{name!r} already has a watcher: a topic has one source, and one watcher of its readers")
        table[key] = watcher

    def unwatch(self, name: str) -> None:
        """Raises ValueError."""
        table, key = self._table(name)
        table.pop(key, None)

    def watch_progress(self, topic: str, moved: Callable[[], None]) -> None:
        """Raises ValueError."""
        if topic in self._progress:
            raise ValueError(f"the progress of topic {topic!r} is already watched")
        self._progress[topic] = moved

    def unwatch_progress(self, topic: str) -> None:
        self._progress.pop(topic, None)

    def notify(self, reader: Subscription, reason: EndReason | None) -> None:
        """The reader has joined its topics (None), or left them."""
        if not self._by_topic and not self._by_kind:
            return
        for topic in reader.topics:
            name = topic.name
            exact = self._by_topic.get(name)
            if exact is not None:
                _call(exact, name, reader, reason)
            if self._by_kind:
                kind, _, below = name.partition("/")
                watcher = self._by_kind.get(kind) if below else None
                if watcher is not None:
                    _call(watcher, name, reader, reason)

    def notify_progress(self, reader: Subscription) -> None:
        if self._progress:
            for topic in reader.topics:
                moved = self._progress.get(topic.name)
                if moved is not None:
                    moved()

    def _table(self, name: str) -> tuple[dict[str, Watcher], str]:
        kind = name.removesuffix(_BELOW)
        if kind == name:
            return self._by_topic, name
        if "/" in kind:
            raise ValueError(f"{name!r} cannot be watched: watch a topic, or all below its first part, as in 'chat/*'")
        return self._by_kind, kind


def _call(watcher: Watcher, topic: str, reader: Subscription, reason: EndReason | None) -> None:
    try:
        watcher(topic, reader, reason)
    except Exception:
        # It must not keep a reader from joining, or what the reader held from being given back.
        logger.exception("a watcher of topic %r raised an exception", topic)
