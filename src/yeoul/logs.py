"""What `yeoul serve` writes about itself: one line per record on stderr, for people or for machines.

Everything that is logged in this process goes through here: our own logger, uvicorn's, asyncio's, alembic's, warnings.
Two things hold for each line, whatever a client has called itself: no value of it can begin another line, and nothing
in it looks like a credential. The second is a second line of defence: our code logs no credential in the first place.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from .client.refusal import REDACTED, redact
from .printable import json_line, printable

__all__ = ["configure_logs", "redact_secrets"]

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
    # They tell of each start, of what is our own to tell, and (aiosqlite) whatever people save, word by word.
    for chatty in ("aiosqlite", "alembic", "asyncio", "markdown_it", "uvicorn"):
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
