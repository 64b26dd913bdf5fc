"""Coroutines that are run at once, up to their first wait, without a task."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any, TypeVar

__all__ = ["in_task", "rest_of"]

_T = TypeVar("_T")


@types.coroutine
def rest_of(running: Coroutine[Any, Any, _T], waits_for: Any) -> Generator[Any, Any, _T]:
    """The rest of a coroutine of which `running.send(None)` has returned `waits_for`, to be awaited in a task.

    What stands before the first wait must not ask for the current task, as `asyncio.timeout` does: there is none.
    """
    while True:
        try:
            value = yield waits_for
        except BaseException as error:
            step = partial(running.throw, error)
        else:
            step = partial(running.send, value)
        try:
            waits_for = step()
        except StopIteration as done:
            result: _T = done.value
            return result


async def in_task() -> None:
    """Waits once where there is no current task: what follows runs in the one that is then made for the rest."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)
