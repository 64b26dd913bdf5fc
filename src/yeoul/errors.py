"""Every exception that Yeoul raises on purpose.

::

    YeoulError
    ├── BrokerUnavailable                  the broker cannot be reached at the moment
    ├── DatabaseUnavailable                the database cannot be read or written at the moment
    ├── InvalidCursor        (ValueError)  a Last-Event-ID that no Yeoul server wrote
    ├── InvalidParameters    (ValueError)  a request's values are not what its route takes
    ├── InvalidToken                       a credential that is not taken
    ├── InvalidTopic         (ValueError)  a topic name that breaks the rules
    ├── EventTooLarge                      one event is larger than the bound in force
    ├── HubClosed                          the hub is draining or closed
    ├── KeyReused                          an idempotency key came with another request before
    ├── KeysUnavailable                    the keys of the token issuer cannot be fetched at the moment
    ├── TooManyConnections                 as many streams are open as may be
    ├── TooManyRevocations                 as many users are revoked as may be remembered
    ├── TooManyTickets                     as many tickets wait for their use as may
    ├── TooManyTopics                      the broker holds as many topics as it may
    ├── TopicClosed                        the topic has had its final event
    ├── TooMuchWork                        as much work is under way as may be
    ├── UnknownCollection    (ValueError)  no documents are in a collection of this name
    ├── UnknownDocument      (ValueError)  no document, or several, are meant by this
    ├── UnknownModel         (ValueError)  the provider does not offer a model of this name
    ├── UnknownProvider      (ValueError)  no provider has this name
    ├── UnreadableDocument                 a file that no document can be made of
    ├── UnusableDatabase                   the database cannot be opened, and waiting does not help
    └── UpstreamError                      a stream that this server reads from another server failed
        ├── UpstreamRefused                it answered with an error before its first byte
        ├── UpstreamTimeout                it did not connect, begin or go on in time
        ├── UpstreamCut                    it ended without its terminal marker
        └── UpstreamGarbage                it sent something that is not its format

Messages are written for the person who reads them at the other end of HTTP: they say what is wrong and what
would be right, and never hold a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "BrokerUnavailable",
    "DatabaseUnavailable",
    "EventTooLarge",
    "HubClosed",
    "InvalidCursor",
    "InvalidParameters",
    "InvalidToken",
    "InvalidTopic",
    "KeyReused",
    "KeysUnavailable",
    "TooManyConnections",
    "TooManyRevocations",
    "TooManyTickets",
    "TooManyTopics",
    "TooMuchWork",
    "TopicClosed",
    "UnknownCollection",
    "UnknownDocument",
    "UnknownModel",
    "UnknownProvider",
    "UnreadableDocument",
    "UnusableDatabase",
    "UpstreamCut",
    "UpstreamError",
    "UpstreamGarbage",
    "UpstreamRefused",
    "UpstreamTimeout",
    "YeoulError",
]


class YeoulError(Exception):
    """The root: `except YeoulError` catches all of them."""


class BrokerUnavailable(YeoulError):
    """The broker cannot be reached at the moment, or takes nothing: nothing was published. Trying again may help."""


class DatabaseUnavailable(YeoulError):
    """The database cannot be read or written at the moment: locked, its disk full or broken. Nothing was changed."""


class InvalidCursor(YeoulError, ValueError):
    """A Last-Event-ID that no Yeoul server wrote."""


class InvalidParameters(YeoulError, ValueError):
    """A request's values are not what its route takes. `fields`: (name, what would be right) of each wrong one."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(text for _, text in fields))
        self.fields = fields


class InvalidToken(YeoulError):
    """A credential that is not taken: `str()` says why, and what would be right, never what it is."""


class InvalidTopic(YeoulError, ValueError):
    """A topic name that breaks the rules of `yeoul.hub.check_topic`."""


class EventTooLarge(YeoulError):
    """One event is larger than the bound in force.

    `events`: the `Event`s that a decoder had decoded from the same piece before it came to this one.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"an event of at least {size} bytes is over the limit of {limit} bytes")
        self.size = size
        self.limit = limit
        self.events: list[Any] = []


class HubClosed(YeoulError):
    """The hub is draining or closed: it takes no new reader and no new event."""


class KeyReused(YeoulError):
    """An idempotency key came with another request before."""


class KeysUnavailable(YeoulError):
    """A token cannot be checked at the moment, because its key cannot be asked for: it is neither taken nor refused."""


class TooManyConnections(YeoulError):
    """As many streams are open as may be. `bound`: which of the bounds was met, "all", "user" or "address"."""

    def __init__(self, message: str, bound: str) -> None:
        super().__init__(message)
        self.bound = bound


class TooManyRevocations(YeoulError):
    """As many users are revoked as may be remembered: one more would not be."""


class TooManyTickets(YeoulError):
    """As many tickets wait for their use as may."""


class TooManyTopics(YeoulError):
    """The broker holds as many topics as it may."""


class TopicClosed(YeoulError):
    """The topic has had its final event: nothing can follow it."""


class TooMuchWork(YeoulError):
    """As much work is under way as may be at once."""


class UnknownCollection(YeoulError, ValueError):
    """No documents are in a collection of this name."""


class UnknownDocument(YeoulError, ValueError):
    """No document, or more than one, is meant by an id or a title."""


class UnknownModel(YeoulError, ValueError):
    """The provider does not offer a model of this name."""


class UnknownProvider(YeoulError, ValueError):
    """No provider has this name."""


class UnreadableDocument(YeoulError):
    """A file that no document can be made of; the text says why, as in "README.md: it is empty"."""


class UnusableDatabase(YeoulError):
    """The database cannot be opened, and will not be until an operator intervenes: the text says how."""


class UpstreamError(YeoulError):
    """A stream that this server reads from another server failed.

    `str()` is a sentence of ours, fit for every reader. `detail` is what the upstream itself said or where it is,
    redacted, for logs and operators ("" where nothing is known); `full` is both. `kind` names the class of failure,
    `retryable` says whether the same request may succeed later, `retry_after` after how many seconds at the earliest,
    where the upstream said so.
    """

    kind: str = "failed"
    retryable: bool = True

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        kind: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.detail = detail
        self.retry_after = retry_after
        if kind is not None:
            self.kind = kind
        if retryable is not None:
            self.retryable = retryable

    @property
    def full(self) -> str:
        return f"{self}: {self.detail}" if self.detail else str(self)


class UpstreamRefused(UpstreamError):
    """The upstream answered with an error before its first byte, or could not be reached.

    `status` is its HTTP status, None where there was no answer at all; `said` the message in its body, redacted (a part
    of `detail`); `body` the beginning of its body as it came, to be looked at by programs and never shown; `location`
    where a redirect leads, as it came.

    Kinds: `unreachable`, `credentials` (401, 403), `not_found` (404), `rate_limited` (429), `unavailable` (408, 425 and
    5xx), `rejected` (every other 4xx), `invalid` (a redirect, no content).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        said: str = "",
        body: bytes = b"",
        detail: str = "",
        kind: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        location: str = "",
    ) -> None:
        default, passes = _refusal_kind(status)
        super().__init__(
            message,
            detail=detail,
            kind=kind or default,
            retryable=passes if retryable is None else retryable,
            retry_after=retry_after,
        )
        self.status = status
        self.said = said
        self.body = body
        self.location = location


def _refusal_kind(status: int | None) -> tuple[str, bool]:
    """The kind of a refusal, and whether it may pass (RFC 9110: 408, 5xx; RFC 8470: 425; RFC 6585: 429)."""
    match status:
        case None:
            return "unreachable", True
        case 401 | 403:
            return "credentials", False
        case 404:
            return "not_found", False
        case 429:
            return "rate_limited", True
        case 501 | 505:
            return "rejected", False
        case 408 | 425:
            return "unavailable", True
    if status < 400:
        return "invalid", False
    return ("unavailable", True) if status >= 500 else ("rejected", False)


class UpstreamTimeout(UpstreamError):
    """The upstream did not connect, begin or go on in time."""

    kind = "timeout"


class UpstreamCut(UpstreamError):
    """The upstream's stream ended, cleanly or not, without its terminal marker."""

    kind = "cut"


class UpstreamGarbage(UpstreamError):
    """The upstream sent something that is not its format."""

    kind = "invalid"
    retryable = False
