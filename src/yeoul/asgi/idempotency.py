"""Requests that a client repeats because it does not know whether the first one arrived: executed once.

The header `Idempotency-Key` of draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from .authentication import caller_of
from .errors import Problem
from .headers import headers_of, text_of

__all__ = ["REPLAYED", "IdempotencyKeys", "RequestKey", "has_key", "once", "request_key_of"]

# The header of a response that repeats an earlier one.
REPLAYED = "Idempotency-Replayed"

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

# Bounds of what is remembered: responses in all; of one caller, which must not displace those of others; bytes.
_MAX_ANSWERS = 20_000
_MAX_PER_CALLER = 2_000
_MAX_BYTES = 16 * 1024 * 1024
# What a response counts beside its own bytes.
_OVERHEAD = 500

# The caller, and a digest of method, path, query and key (a path may be as long as a head).
_Name = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class _Answer:
    digest: bytes
    until: float
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def size(self) -> int:
        return _OVERHEAD + len(self.body) + sum(len(name) + len(value) for name, value in self.headers)

    def again(self) -> Response:
        response = Response(self.body, self.status)
        response.raw_headers = [*self.headers, (REPLAYED.lower().encode(), b"true")]
        return response


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The `Idempotency-Key` of a request: `name` is unique for the caller, the address and the key; `content` is a
    digest of the body."""

    caller: str
    place: bytes
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.caller} {self.place.hex()}"


def has_key(request: Request) -> bool:
    """Whether it was sent with an `Idempotency-Key`, valid or not."""
    return b"idempotency-key" in headers_of(request.scope)


async def request_key_of(request: Request) -> RequestKey | None:
    """None for a request without a key. Raises Problem (400) for an invalid key."""
    if not has_key(request):
        return None
    keys = [value.decode("latin-1") for value in headers_of(request.scope).all(b"idempotency-key")]
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Problem(400, "invalid Idempotency-Key: send one of 1 to 255 visible ASCII characters, such as a UUID")
    return RequestKey(_caller(request), _place(request, keys[0]), await _digest(request))


class IdempotencyKeys:
    """Remembers the responses to requests with a key, for `keep_seconds`, as far as its bounds allow."""

    def __init__(
        self,
        keep_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_answers: int = _MAX_ANSWERS,
        max_per_caller: int = _MAX_PER_CALLER,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._max_answers = max_answers
        self._max_per_caller = max_per_caller
        self._max_bytes = max_bytes
        # The oldest first. There are at most as many under way as there are requests.
        self._answers: dict[_Name, _Answer] = {}
        self._callers: dict[str, dict[_Name, None]] = {}
        self._under_way: dict[_Name, bytes] = {}
        self._bytes = 0
        self.counts: dict[str, int] = {"replayed": 0, "refused": 0}

    def __len__(self) -> int:
        """Responses that are remembered."""
        return len(self._answers)

    async def once(self, request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
        """The response of `answer`, or the one that the same request of the same caller with this key had before; a
        header `Idempotency-Replayed: true` then says so. Only success is remembered: a request that failed has changed
        nothing, and may succeed the next time.

        Raises Problem: 400 for an invalid key, 409 while the first request with it is under way, 422 where the first
        request had another body.
        """
        key = await request_key_of(request)
        if key is None:
            return await answer()
        name, digest = (key.caller, key.place), key.content
        known = self._known(name, digest)
        if known is not None:
            self.counts["replayed"] += 1
            return known.again()
        self._under_way[name] = digest
        try:
            response = await answer()
            if 200 <= response.status_code < 300:
                until = self._clock() + self._keep_seconds
                body = bytes(response.body)
                self._remember(name, _Answer(digest, until, response.status_code, list(response.raw_headers), body))
            return response
        finally:
            del self._under_way[name]

    def _known(self, name: _Name, digest: bytes) -> _Answer | None:
        self._forget_old()
        answer = self._answers.get(name)
        first = self._under_way.get(name) if answer is None else answer.digest
        if first is not None and first != digest:
            self.counts["refused"] += 1
            raise Problem(
                422, "this Idempotency-Key was used with another body: generate a new key for each new request"
            )
        if name in self._under_way:
            self.counts["refused"] += 1
            raise Problem(
                409,
                "the first request with this Idempotency-Key is still being processed: wait",
                headers={"Retry-After": "1"},
            )
        return answer

    def _remember(self, name: _Name, answer: _Answer) -> None:
        own = self._callers.setdefault(name[0], {})
        if len(own) >= self._max_per_caller:
            self._forget(next(iter(own)))
        self._answers[name] = answer
        self._callers.setdefault(name[0], {})[name] = None
        self._bytes += answer.size
        while len(self._answers) > self._max_answers or self._bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def _forget_old(self) -> None:
        now = self._clock()
        while self._answers:
            name, oldest = next(iter(self._answers.items()))
            if oldest.until > now:
                return
            self._forget(name)

    def _forget(self, name: _Name) -> None:
        self._bytes -= self._answers.pop(name).size
        own = self._callers[name[0]]
        del own[name]
        if not own:
            del self._callers[name[0]]


async def once(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """`IdempotencyKeys.once` with the keys of the application (`app.state.idempotency_keys`); an application without
    any ignores the header. `PublishRoute` calls this for all POST routes of a router."""
    keys: IdempotencyKeys | None = getattr(request.app.state, "idempotency_keys", None)
    return await answer() if keys is None else await keys.once(request, answer)


def _caller(request: Request) -> str:
    owner = caller_of(request).owner
    return owner or f"address:{request.client.host if request.client else ''}"


def _place(request: Request, key: str) -> bytes:
    place = (request.method, request.url.path, request.url.query, key)
    return hashlib.sha256(repr(place).encode(errors="surrogatepass")).digest()


async def _digest(request: Request) -> bytes:
    kind = text_of(request.scope, b"content-type").encode("latin-1")
    return hashlib.sha256(kind + b"\0" + await request.body()).digest()
