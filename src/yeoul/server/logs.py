"""What `yeoul serve` writes about itself: one line per record on stderr, for people or for machines.

Everything that is logged in this process goes through here: our own logger, uvicorn's, asyncio's, warnings.
Two things hold for each line, whatever a client has called itself: no value of it can begin another line, and nothing
in it looks like a credential. The second is a second line of defence: our code logs no credential in the first place.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any, TextIO, cast

from ..client.refusal import REDACTED, redact
from ..printable import json_line, printable

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["configure_logs", "redact_secrets", "writing_logs"]

# Records that wait to be written; further ones are left out, and counted.
_MAX_WAITING = 10_000

# Seconds for which the end waits for what is still to be written.
_LAST_S = 1.0


@contextmanager
def writing_logs(fd: int = 2) -> Iterator[None]:
    """While it lasts, a thread formats what the root logger's handlers would, and writes it to this file descriptor: a
    pipe that is not read, or a full disk, holds nothing else up."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    queue: Queue[logging.LogRecord | None] = Queue(_MAX_WAITING)
    waiting = _Waiting(queue)
    listener = _Writer(queue, waiting, [_Lines(fd, handler) for handler in handlers])
    root.handlers[:] = [waiting]
    listener.start()
    try:
        yield
    finally:
        listener.stop()
        root.handlers[:] = handlers


class _Waiting(QueueHandler):
    """Puts records into the queue; where it is full, counts them as `left_out`."""

    queue: Queue[logging.LogRecord | None]

    def __init__(self, queue: Queue[logging.LogRecord | None]) -> None:
        super().__init__(queue)
        self.left_out = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # whole: it is formatted by the thread

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self.left_out += 1


class _Writer(QueueListener):
    """The thread. It says how many records are missing as soon as there is room for that line."""

    queue: Queue[logging.LogRecord | None]

    def __init__(self, queue: Queue[logging.LogRecord | None], waiting: _Waiting, handlers: Sequence[_Lines]) -> None:
        super().__init__(queue, *handlers, respect_handler_level=True)
        self._waiting = waiting

    def dequeue(self, block: bool) -> logging.LogRecord:
        if self.queue.empty():
            self._report()
        record = self.queue.get(block)
        if record is None:
            self._report()
        return cast(logging.LogRecord, record)  # None is the end (QueueListener)

    def enqueue_sentinel(self) -> None:
        """The end comes after what is waiting, or instead of some of it."""
        while True:
            try:
                self.queue.put_nowait(None)
                return
            except Full:
                with suppress(Empty):
                    self.queue.get_nowait()
                    self._waiting.left_out += 1

    def stop(self) -> None:
        self.enqueue_sentinel()
        if self._thread is not None:
            self._thread.join(_LAST_S)  # not longer: it may wait for a pipe that is never read

    def _report(self) -> None:
        left_out, self._waiting.left_out = self._waiting.left_out, 0
        if left_out:
            self.handle(_warning("%d lines were left out: they came faster than they were read", left_out))


class _Lines(logging.Handler):
    """Writes lines to a file descriptor, in the form of another handler. Not through sys.stderr: a thread that waits in
    that at the end of the process would abort it. Lines that could not be written are counted, and the first one that
    can is followed by their number."""

    def __init__(self, fd: int, like: logging.Handler) -> None:
        super().__init__(like.level)
        self.setFormatter(like.formatter)
        self._fd = fd
        self._cut = False  # the last line has no end
        self._failed = 0
        self._reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._cut:
                self._write(b"\n")
            self._write(self._line(record))
            if self._failed:
                self._write(self._line(_warning("%d lines could not be written: %s", self._failed, self._reason)))
                self._failed = 0
        except OSError as error:  # a full disk, a pipe without a reader: the next line may find it well again
            self._failed += 1
            self._reason = error.strerror or repr(error)

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            line = self.format(record)
        except Exception as error:
            line = f"a record of {record.pathname}:{record.lineno} could not be formatted: {error!r}"
        return f"{line}\n".encode(errors="backslashreplace")

    def _write(self, data: bytes) -> None:
        while data:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:  # another process that shares this pipe or terminal may have made it so
                select.select([], [self._fd], [])
                continue
            data = data[written:]
            self._cut = bool(data)


def _warning(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("yeoul", logging.WARNING, __file__, 0, text, arguments, None)


# Of texts: a JWT (or its first two parts, which identify the user), and pairs such as `?ticket=…`, `token: …`.
_JWT = re.compile(r"\beyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]*)?")
_PAIR = re.compile(
    r"(?i)\b(access_token|id_token|token|ticket|secret|password|passwd|api_?key|authorization|cookie)"
    r"(\"?'?\s*[=:]\s*\"?'?)(?!\[redacted\])(?:(?:Bearer|Basic)\s+)?[^\s\"'&;,)}\]]+"
)
# Of fields: by their name.
_SECRET_FIELDS = frozenset(
    {"token", "ticket", "secret", "password", "authorization", "cookie", "set-cookie", "api_key", "query_string"}
)
# No record of ours is nested deeper; one that is must not cost the stack.
_MAX_DEPTH = 6

# Values of the text format that need no quotes.
_PLAIN = re.compile(r"[\w.:/@+~-]+")


def configure_logs(form: str = "text", level: str = "info", stream: TextIO | None = None) -> None:
    """`form`: "text" or "json"; `level`: "debug", "info", "warning" or "error"; `stream`: by default stderr. Replaces
    what has been configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter(_as_json if form == "json" else _as_text))
    handler.setLevel(level.upper())  # whatever level a library gives its own loggers
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    # They log each start, and what our own lines say already.
    for chatty in ("asyncio", "markdown_it", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


class _Formatter(logging.Formatter):
    """structlog's, which is imported for the first record, by the thread that writes it: the start does not wait."""

    def __init__(self, render: Processor) -> None:
        super().__init__()
        self._render = render
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = self._make()
        return self._formatter.format(record)

    def _make(self) -> logging.Formatter:
        import structlog  # noqa: PLC0415

        return structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                _add_time,
                structlog.processors.format_exc_info,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact_secrets,
                self._render,
            ],
        )


def _add_time(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """When it happened: lines may be written (`log_writer`) long after."""
    when = datetime.fromtimestamp(event["_record"].created, UTC)
    event["time"] = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def redact_secrets(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """A structlog processor: what looks like a credential becomes `[redacted]`, at whatever depth it stands."""
    return {key: _redacted(key, value, _MAX_DEPTH) for key, value in event.items()}


def _redacted(name: str, value: object, depth: int) -> Any:
    if name.lower() in _SECRET_FIELDS and value is not None:
        return REDACTED
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return redact(_PAIR.sub(rf"\1\2{REDACTED}", _JWT.sub(REDACTED, value)))
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", item, depth - 1) for item in value]
    return _redacted("", repr(value), depth - 1)


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in ("time", "level", "logger", "event") if key in event}
    return json_line({**first, **event})


def _as_text(logger: WrappedLogger, name: str, event: EventDict) -> str:
    """`<time> <LEVEL> <logger>: <event> name=value …`, then a traceback, indented: a line that begins at the margin is
    a record's first."""
    traceback = str(event.pop("exception", ""))
    head = f"{event.pop('time')} {str(event.pop('level')).upper()} {event.pop('logger')}: {event.pop('event')}"
    fields = "".join(f" {key}={_quoted(value)}" for key, value in event.items() if value is not None)
    lines = [head + fields, *(f"    {line}" for line in traceback.splitlines())]
    return "\n".join(map(printable, lines))


def _quoted(value: object) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
