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

__all__ = ["Ending", "Farewell", "before_signals", "end_all"]


@contextmanager
def before_signals(
    loop: asyncio.AbstractEventLoop, ending: Callable[[], Coroutine[None, None, None]]
) -> Iterator[None]:
    """On SIGTERM and SIGINT, starts `ending` on the loop, then calls the handler that was there before; where there was
    none, the process ends as it would have, after `ending`.

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
            return
        task = loop.create_task(ending())
        tasks.add(task)
        if previous[signal.Signals(number)] is signal.SIG_DFL:
            task.add_done_callback(lambda task: default(number))

    def default(number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def handle(number: int, frame: FrameType | None) -> None:
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


# What is to be done between the two farewells: to endless streams, and to those that end by themselves.
Ending = Callable[[], Coroutine[None, None, None]]

# Seconds for which a reader that is behind may still be given what it has not had, before its farewell in a drain.
_PARTING = 1.0
# Readers after which the event loop gets its turn.
_SLICE = 256


class Farewell:
    def __init__(self) -> None:
        self._parting: set[Subscription] = set()
        self._parted = asyncio.Event()

    async def say(self, readers: Iterable[Subscription], reason: EndReason) -> None:
        """Until they all have it. What has been handed out before is theirs."""
        self._parting = set(readers)
        for count, reader in enumerate(list(self._parting), 1):
            reader.end_when_current(reason)
            if count % _SLICE == 0:
                await asyncio.sleep(0)
        if self._parting:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PARTING):
                    self._parted.clear()
                    await self._parted.wait()
        for reader in list(self._parting):
            reader.end(reason)

    def gone(self, reader: Subscription) -> None:
        self._parting.discard(reader)
        if not self._parting:
            self._parted.set()


async def end_all(endings: Iterable[Ending]) -> None:
    # All at once: each may take its grace, and the server that waits for us counts them as one.
    for failure in await asyncio.gather(*(ending() for ending in endings), return_exceptions=True):
        if isinstance(failure, Exception):
            logger.error("what was to be done before the hub closes failed", exc_info=failure)
