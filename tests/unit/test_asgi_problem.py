"""Problem documents: which error has which status, and what stands in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from yeoul.asgi.errors import Problem, problem, problem_of
from yeoul.errors import (
    EventTooLarge,
    HubClosed,
    InvalidCursor,
    InvalidTopic,
    TooManyRevocations,
    TooManyTopics,
    TooMuchWork,
    TopicClosed,
    UnknownProvider,
    UpstreamError,
    YeoulError,
)


def read(response: Any) -> dict[str, Any]:
    return dict(json.loads(response.body))


@pytest.mark.parametrize(
    ("error", "status", "retry_after", "field"),
    [
        (InvalidCursor("x"), 400, None, "Last-Event-ID"),
        (InvalidTopic("x"), 422, None, "topic"),
        (UnknownProvider("x"), 422, None, "provider"),
        (EventTooLarge(2, 1), 413, None, None),
        (TopicClosed("x"), 409, None, None),
        (TooMuchWork("x"), 429, "5", None),
        (TooManyTopics("x"), 503, "60", None),
        (TooManyRevocations("x"), 503, "3600", None),
        (HubClosed("x"), 503, "1", None),
        (UpstreamError("x"), 500, None, None),
        (YeoulError("x"), 500, None, None),
        (ValueError("x"), 422, None, None),
    ],
)
def test_each_error_has_its_status_and_says_when_to_come_back(
    error: Exception, status: int, retry_after: str | None, field: str | None
) -> None:
    response = problem_of(error)
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    document = read(response)
    assert document["status"] == status
    assert document["detail"] == str(error)
    assert [entry["field"] for entry in document.get("errors", [])] == ([field] if field else [])


def test_a_problem_raised_in_a_route_is_answered_as_it_is() -> None:
    response = problem_of(Problem(403, "no", fields=[("a", "b")], headers={"X-A": "1"}))
    assert response.status_code == 403
    assert response.headers["x-a"] == "1"
    assert read(response) == {
        "title": "Forbidden",
        "status": 403,
        "detail": "no",
        "error": {"message": "no", "type": "forbidden", "param": "a", "code": None},
        "errors": [{"field": "a", "detail": "b"}],
    }


def test_the_response_is_a_problem_document_that_no_cache_keeps() -> None:
    response = problem(404, "nothing here: 없음")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert read(response) == {
        "title": "Not Found",
        "status": 404,
        "detail": "nothing here: 없음",
        "error": {"message": "nothing here: 없음", "type": "not_found", "code": None},
    }


def test_text_that_utf_8_cannot_carry_does_not_break_the_document() -> None:
    response = problem(422, "no \ud800", fields=[("\udfff", "x\ud800")])
    assert read(response)["errors"] == [{"field": "?", "detail": "x?"}]
