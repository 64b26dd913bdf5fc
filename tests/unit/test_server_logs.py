from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from yeoul.server.logs import configure_logs, redact_secrets

FORGED = "u1\n2026-01-01T00:00:00Z ERROR yeoul: forged\r\x1b[31m\u2028\x85 user=admin"
# In two parts, so that no scanner takes it for a real one.
JWT = "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logging of the test runner, whatever a test does to it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in ("markdown_it", "asyncio", "uvicorn"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(stream: io.StringIO) -> list[str]:
    text = stream.getvalue()
    assert text.endswith("\n")
    return text[:-1].split("\n")


def logged(form: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logs(form, level, stream)
    return stream


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(stream)]


def test_a_line_has_the_time_of_its_record_however_late_it_is_written() -> None:
    logged("text")
    record = logging.makeLogRecord({"msg": "late", "name": "yeoul", "levelname": "INFO", "created": 1_767_225_600.125})
    assert logging.getLogger().handlers[0].format(record) == "2026-01-01T00:00:00.125Z INFO yeoul: late"


def test_a_record_is_one_json_object_with_what_it_was_given() -> None:
    stream = logged("json")
    extra = {"user": "김철수", "topics": ("a", "b"), "seconds": 1.5, "events": 3, "reason": None}
    logging.getLogger("yeoul").info("stream ended", extra=extra)
    (record,) = records(stream)
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "info",
        "logger": "yeoul",
        "event": "stream ended",
        "user": "김철수",
        "topics": ["a", "b"],
        "seconds": 1.5,
        "events": 3,
        "reason": None,
    }


def test_a_record_is_one_line_of_text_with_what_it_was_given() -> None:
    stream = logged("text")
    extra = {"user": "김철수", "topics": ("chat/a", "b"), "seconds": 1.5, "reason": None, "name_": "two words"}
    logging.getLogger("yeoul").info("stream ended", extra=extra)
    (line,) = lines(stream)
    when, rest = line.split(" ", 1)
    assert when.endswith("Z")
    assert rest == 'INFO yeoul: stream ended user=김철수 topics="chat/a,b" seconds=1.5 name_="two words"'


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("where", ["message", "argument", "field", "list", "key"])
def test_no_value_can_begin_a_line_of_its_own(form: str, where: str) -> None:
    stream = logged(form)
    logger = logging.getLogger("yeoul")
    match where:
        case "message":
            logger.info(FORGED)
        case "argument":
            logger.info("hello %s", FORGED)
        case "field":
            logger.info("hello", extra={"user": FORGED})
        case "list":
            logger.info("hello", extra={"topics": ["a", FORGED]})
        case "key":
            logger.info("hello", extra={FORGED: "a"})
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    assert "forged" in text


def test_a_value_cannot_forge_another_field_in_text() -> None:
    stream = logged("text")
    logging.getLogger("yeoul").info("hello", extra={"user": 'u1 user=admin "'})
    assert lines(stream)[0].endswith('user="u1 user=admin \\""')


def test_a_traceback_is_a_field_in_json() -> None:
    stream = logged("json")
    try:
        raise ValueError("boom\nforged")
    except ValueError:
        logging.getLogger("yeoul").exception("failed")
    (record,) = records(stream)
    assert (record["event"], record["level"]) == ("failed", "error")
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ValueError: boom\nforged")


def test_a_traceback_is_indented_in_text() -> None:
    stream = logged("text")
    try:
        raise ValueError(f"boom\n{FORGED}")
    except ValueError:
        logging.getLogger("yeoul").exception("failed")
    first, *rest = lines(stream)
    assert first.endswith("ERROR yeoul: failed")
    assert rest[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in rest)


def test_the_loggers_of_libraries_and_warnings_come_the_same_way() -> None:
    stream = logged("json")
    logging.getLogger("uvicorn.error").warning("odd")
    logging.getLogger("uvicorn.access").info("GET /?token=x")
    logging.getLogger("markdown_it.rules").info("step")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert [(r["logger"], r["event"].split(": ")[-1].split("\n")[0]) for r in records(stream)] == [
        ("uvicorn.error", "odd"),
        ("py.warnings", "old"),
    ]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_kept(level: str, count: int) -> None:
    stream = logged("json", level)
    logger = logging.getLogger("yeoul")
    for log in (logger.debug, logger.info, logger.warning, logger.error):
        log("x")
    assert len(records(stream)) == count


def test_to_configure_again_replaces_what_was() -> None:
    first, second = logged("json"), logged("json")
    logging.getLogger("yeoul").info("x")
    assert first.getvalue() == ""
    assert len(records(second)) == 1


@pytest.mark.parametrize(
    "text",
    [
        f"GET /stream?topic=a&token={JWT}",
        "GET /stream?ticket=s3cr3t-value",
        "Authorization: Bearer s3cr3t-value",
        '{"token": "s3cr3t-value"}',
        "api_key='s3cr3t-value'",
        f"it was {JWT}",
        "Bearer s3cr3t-value",
        "cookie: yeoul_token=s3cr3t-value; b=1",
    ],
)
@pytest.mark.parametrize("place", ["text", "list", "dict", "bytes"])
def test_what_looks_like_a_credential_is_redacted(text: str, place: str) -> None:
    value: Any = {"text": text, "list": [text], "dict": {"a": {"b": text}}, "bytes": text.encode()}[place]
    shown = repr(redact_secrets(None, "info", {"value": value}))
    assert "s3cr3t" not in shown
    assert JWT.split(".")[1] not in shown
    assert "[redacted]" in shown


@pytest.mark.parametrize("name", ["token", "Authorization", "ticket", "password", "query_string"])
def test_fields_that_are_named_as_secrets_are_redacted_whatever_they_hold(name: str) -> None:
    assert redact_secrets(None, "info", {name: 17, "user": "u"}) == {name: "[redacted]", "user": "u"}


@pytest.mark.parametrize("text", ["42 tokens were written", "the ticket is not for this topic", "chat/token", "a=b"])
def test_text_without_credentials_stays(text: str) -> None:
    assert redact_secrets(None, "info", {"event": text}) == {"event": text}


def test_what_is_nested_without_end_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "…" in repr(redact_secrets(None, "info", {"value": endless}))
