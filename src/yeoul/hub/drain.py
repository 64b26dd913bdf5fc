"""Ending streams before the server waits for them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from ..observe import logger
from .reasons import EndReason
from .subscription import Subscription

__all__ = ["BeforeClose", "Farewell", "before_signals", "first_of", "run_all"]


@contextmanager
def before_signals(
    loop: asyncio.AbstractEventLoop,
    close: Callable[[], Coroutine[None, None, None]],
    hurry: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """On SIGTERM and SIGINT, starts `close` on the loop, on each further one calls `hurry`; then calls the handler that
    was there before. Where there was none, the process ends as it would have, after `close`.

    uvicorn and granian begin to shut down by waiting for open responses, which an endless stream never lets them
    finish (uvicorn 0.54: for ever without `--timeout-graceful-shutdown`). Only Python's main thread may set handlers;
    elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    tasks: set[asyncio.Task[None]] = set()
    previous = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}

    def end(number: int) -> None:
        if tasks:
            hurry()
            return
        task = loop.create_task(close())
        tasks.add(task)
        if previous[signal.Signals(number)] is signal.SIG_DFL:
            task.add_done_callback(lambda task: default(number))

    def default(number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop may have ended
            loop.call_soon_threadsafe(end, number)
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    # A loop's own add_signal_handler (granian, uvloop) leaves a C-level handler whose Python side is a no-op: chain
    # to it all the same, the wake-up file descriptor still reaches the loop.
    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in previous.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


# What is awaited between the two farewells: to endless streams, and to those that end by themselves.
BeforeClose = Callable[[], Coroutine[None, None, None]]

# Seconds for which a reader that is behind may still be given what it has not had, before its farewell in a drain.
_GRACE = 1.0
# Readers after which the event loop gets its turn.
_SLICE = 256


class Farewell:
    """Ends readers, each as soon as it has everything, and all of them after a moment."""

    def __init__(self) -> None:
        self._left: dict[Subscription, None] = {}
        self._all_ended: asyncio.Event | None = None

    async def end(self, readers: Iterable[Subscription], reason: EndReason, hurry: asyncio.Event) -> None:
        self._left = dict.fromkeys(readers)
        self._all_ended = asyncio.Event()
        for count, reader in enumerate(list(self._left), 1):
            reader.end_when_current(reason)
            if count % _SLICE == 0:
                await asyncio.sleep(0)
        if self._left:
            await first_of(self._all_ended.wait(), hurry.wait(), seconds=_GRACE)
        self._all_ended = None
        for reader in list(self._left):
            reader.end(reason)

    def ended(self, reader: Subscription) -> None:
        self._left.pop(reader, None)
        if not self._left and self._all_ended is not None:
            self._all_ended.set()


async def first_of(*works: Coroutine[None, None, object], seconds: float) -> None:
    """Returns when one of them is done, after so many seconds at the latest. The others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_all(callbacks: Iterable[BeforeClose]) -> None:
    # All at once: each may take its grace, and the server that waits for us counts them as one.
    for failure in await asyncio.gather(*(callback() for callback in callbacks), return_exceptions=True):
        if isinstance(failure, Exception):
            logger.error("a callback before the hub's close has failed", exc_info=failure)
