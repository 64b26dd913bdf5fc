"""Ending streams before the server waits for them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["before_signals"]


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
