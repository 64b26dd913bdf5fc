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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from ..client.refusal import REDACTED, redact
from ..printable import json_line, printable

__all__ = ["configure_logs", "redact_secrets", "writing_logs"]

# Records that wait to be written; more are left out, and counted.
_MAX_WAITING = 10_000

# Seconds for which the end waits for what is still to be written.
_PARTING = 1.0


@contextmanager
def writing_logs(fd: int = 2) -> Iterator[None]:
    """While it lasts, what the root logger's handlers write is formatted and written to this file descriptor by a
    thread."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    writer = _Writer(fd, handlers)
    root.handlers[:] = [writer]
    thread = Thread(target=writer.run, name="log writer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        writer.finish()
        thread.join(_PARTING)
        root.handlers[:] = handlers


class _Writer(logging.Handler):
    """Takes records, and writes them as `handlers` would."""

    def __init__(self, fd: int, handlers: list[logging.Handler]) -> None:
        super().__init__()
        self._fd = fd
        self._handlers = handlers
        self._waiting: Queue[logging.LogRecord | None] = Queue(_MAX_WAITING)
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._waiting.put_nowait(record)
        except Full:
            self._left_out += 1

    def finish(self) -> None:
        """The end is after what is waiting, or instead of some of it."""
        while True:
            try:
                self._waiting.put_nowait(None)
                return
            except Full:
                self._drop_one()

    def run(self) -> None:
        with suppress(OSError):  # there is nothing left to write to, and nobody to tell
            self._write_all()

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            self._write(record)
            if self._waiting.empty():
                self._tell_left_out()
        self._tell_left_out()

    def _tell_left_out(self) -> None:
        left_out, self._left_out = self._left_out, 0
        if left_out:
            text = "%d lines were left out: they came faster than they were read"
            self._write(logging.LogRecord("yeoul", logging.WARNING, __file__, 0, text, (left_out,), None))

    def _write(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            if record.levelno < handler.level:
                continue
            try:
                line = handler.format(record)
            except Exception as error:
                line = f"a record of {record.pathname}:{record.lineno} could not be written: {error!r}"
            # Not through sys.stderr: a thread that waits in it at the end of the process would abort that.
            self._write_out(f"{line}\n".encode(errors="backslashreplace"))

    def _write_out(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # whoever shares this pipe or terminal with us may have made it so
                select.select([], [self._fd], [])

    def _drop_one(self) -> None:
        try:
            self._waiting.get_nowait()
            self._left_out += 1
        except Empty:
            pass


# Of texts: a JWT (or the two parts of it that say who somebody is), and pairs such as `?ticket=…`, `token: …`.
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
    render = _as_json if form == "json" else _as_text
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            _add_time,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redact_secrets,
            render,
        ],
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
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
