from __future__ import annotations

import json

from yeoul.hub.encoding import bye_event, gap_event, reauth_event
from yeoul.hub.reasons import DRAIN, REVOKED
from yeoul.stream import Cursor, Gap


def test_a_gap_says_what_was_asked_for_what_follows_and_why() -> None:
    event = gap_event(Gap(Cursor("ep", 3), Cursor("ep", 8), "budget", 7))
    assert event.type == "stream.gap"
    assert json.loads(event.data) == {"requested": "ep-3", "oldest": "ep-8", "reason": "budget"}
    assert json.loads(gap_event(Gap(Cursor("ep", 3), None, "evicted", 7)).data)["oldest"] is None


def test_readers_that_shall_reconnect_get_different_retries() -> None:
    waits = {bye_event(DRAIN, retry_ms=1_000).retry for _ in range(50)}
    assert len(waits) > 1
    assert all(wait is not None and 200 <= wait <= 1_000 for wait in waits)


def test_a_reader_that_shall_not_reconnect_gets_no_retry() -> None:
    event = bye_event(REVOKED, retry_ms=1_000)
    assert (event.type, event.retry) == ("stream.bye", None)
    assert json.loads(event.data) == {"reason": "revoked", "reconnect": False}


def test_the_end_of_a_token_is_told_in_whole_seconds_and_as_what_is_left() -> None:
    event = reauth_event(1_700_000_000.9, 59.96)
    assert event.type == "stream.reauth"
    assert json.loads(event.data) == {"expires": 1_700_000_000, "in": 60.0}
