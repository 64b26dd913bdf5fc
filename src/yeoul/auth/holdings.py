"""Things of users that are kept for a while: bounded for each and in all."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

__all__ = ["Holdings"]

_T = TypeVar("_T")

# Seconds between two looks at everything that is kept, for what has expired: where there is room, and where there is
# none (a look at fifty thousand things takes milliseconds, and would come with each new one).
_SWEEP_S = 30.0
_SWEEP_FULL_S = 1.0


class _Held(NamedTuple, Generic[_T]):
    user: str | None
    expires: float
    thing: _T


class Holdings(Generic[_T]):
    """Each thing has a key, the user whose it is (None: nobody's, and not counted for anybody) and the moment from
    which it is gone. Over `max_per_user` the oldest of the same user goes; `put` and `touch` make a thing the newest.
    Times are given by the caller, in seconds of one clock."""

    def __init__(self, *, max_all: int, max_per_user: int) -> None:
        self._max_all = max_all
        self._max_per_user = max_per_user
        self._all: dict[bytes, _Held[_T]] = {}
        self._of_user: dict[str, dict[bytes, None]] = {}
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def is_full(self, now: float) -> bool:
        """Whether nothing more can be put without something else having to go. What has expired may count for a second
        more."""
        pause = _SWEEP_FULL_S if len(self._all) >= self._max_all else _SWEEP_S
        if not 0 <= now - self._swept < pause:
            self._sweep(now)
        return len(self._all) >= self._max_all

    def put(self, key: bytes, user: str | None, expires: float, thing: _T, now: float) -> None:
        """Where it is full, the oldest thing of all goes."""
        self._remove(key)
        if user is not None:
            own = self._of_user.setdefault(user, {})
            if len(own) >= self._max_per_user:
                self._remove(next(iter(own)))
            self._of_user.setdefault(user, {})[key] = None
        if self.is_full(now):
            self._remove(next(iter(self._all)))
        self._all[key] = _Held(user, expires, thing)

    def get(self, key: bytes, now: float) -> _T | None:
        held = self._all.get(key)
        return held.thing if held is not None and now < held.expires else None

    def touch(self, key: bytes) -> None:
        """Makes it the newest."""
        held = self._all.pop(key)
        self._all[key] = held
        if held.user is not None:
            own = self._of_user[held.user]
            own[key] = own.pop(key)

    def pop(self, key: bytes, now: float) -> _T | None:
        held = self._remove(key)
        return held.thing if held is not None and now < held.expires else None

    def drop(self, user: str) -> None:
        """All that is this user's."""
        for key in list(self._of_user.get(user, ())):
            self._remove(key)

    def _remove(self, key: bytes) -> _Held[_T] | None:
        held = self._all.pop(key, None)
        if held is not None and held.user is not None:
            own = self._of_user[held.user]
            own.pop(key)
            if not own:
                del self._of_user[held.user]
        return held

    def _sweep(self, now: float) -> None:
        self._swept = now
        for key in [key for key, held in self._all.items() if held.expires <= now]:
            self._remove(key)
