"""What may be said of a failure: no address, no foreign text, and a status that HTTP knows."""

from __future__ import annotations

import pytest

from yeoul.errors import (
    EventTooLarge,
    HubClosed,
    InvalidCursor,
    InvalidParameters,
    TooManyTopics,
    TooMuchWork,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamTimeout,
)
from yeoul.relay.failure import GONE, Failure, failure_of, stopped
from yeoul.relay.route import Route, Upstream


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (UpstreamRefused("at http://10.0.0.1: refused"), "unreachable", 502),
        (UpstreamRefused("to http://10.0.0.1", status=301), "garbage", 502),
        (UpstreamRefused("nothing", status=204), "garbage", 502),
        (UpstreamRefused("no", status=404), "404", 404),
        (UpstreamRefused("no", status=503), "503", 503),
        (UpstreamRefused("no", status=407), "407", 502),
        (UpstreamRefused("no", status=520), "520", 502),
        (UpstreamTimeout("late"), "timeout", 504),
        (UpstreamCut("cut"), "cut", 502),
        (UpstreamGarbage("what"), "garbage", 502),
        (EventTooLarge(3, 2), "garbage", 502),
        (UpstreamError("it"), "cut", 502),
        (InvalidParameters([("q", "q is missing")]), "wrong", 422),
        (TooMuchWork("much"), "busy", 429),
        (InvalidCursor("no position"), "wrong", 400),
        (HubClosed("closed"), "busy", 503),
        (TooManyTopics("many"), "busy", 503),
        (KeyError("sk-SECRET"), "failed", 500),
    ],
)
def test_each_failure_has_its_kind_and_status(error: Exception, kind: str, status: int) -> None:
    failure = failure_of(error, "the service")
    assert (failure.kind, failure.status) == (kind, status)
    assert "10.0.0.1" not in failure.message
    assert "SECRET" not in failure.message


def test_how_long_to_wait_is_handed_on() -> None:
    assert failure_of(UpstreamRefused("no", status=429, retry_after=7), "x").retry_after == 7


def test_the_log_is_told_what_the_reader_is_not() -> None:
    failure = failure_of(UpstreamRefused("cannot be reached at http://10.0.0.1"), "the service")
    assert failure.message == "the service cannot be reached"
    assert failure.private == "cannot be reached at http://10.0.0.1"


def test_the_routes_own_words_come_first() -> None:
    route = Route(path="/a", upstream=Upstream(url="http://x"), messages={"gone": "weg", "429": "später"})
    assert GONE.text(route) == "weg"
    assert failure_of(UpstreamRefused("no", status=429), "x").text(route) == "später"
    assert Failure("cut", 502, "as it is").text(route) == "as it is"


def test_who_was_stopped_is_told_whether_to_ask_again() -> None:
    assert stopped("cancelled").message == "this stream was stopped"
    assert "ask again" in stopped("interrupted").message
