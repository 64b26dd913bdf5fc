"""How often one may publish and open streams, and what those are told who may not."""

from __future__ import annotations

import asyncio

import pytest

from support.reader import Answer, ask, open_stream
from support.serving import one_outlet
from support.tokens import bearer, demo_token
from support.upstream import Upstream

ANN = bearer(demo_token("ann"))
BOB = bearer(demo_token("bob"))
# An operator is somebody on this machine without a credential; through a proxy nobody is.
ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}


async def publish(port: int, headers: dict[str, str], topic: str = "mine") -> Answer:
    text = {"Content-Type": "text/plain", **headers}
    return await ask(port, f"/topics/{topic}", method="POST", headers=text, body=b"x")


async def connect(port: int, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    async with await open_stream(port, path, headers=headers) as stream:
        return stream.status, stream.headers


@one_outlet
@pytest.mark.settings(publish_rate="3/minute", publish=["mine"])
async def test_over_the_rate_publishes_are_refused_with_the_time_to_wait(port: int) -> None:
    assert [(await publish(port, ANN)).status for _ in range(4)] == [202, 202, 202, 429]
    refused = await publish(port, ANN)
    assert refused.headers["content-type"] == "application/problem+json"
    assert "3/minute" in refused.json()["detail"]
    assert 55 <= int(refused.headers["retry-after"]) <= 60
    assert (await publish(port, BOB)).status == 202, "each user has a rate"
    assert [(await publish(port, {})).status for _ in range(5)] == [202] * 5, "the operator has none"


@one_outlet
@pytest.mark.settings(publish_rate="2/second", publish=["mine"])
async def test_after_the_time_that_was_told_one_may_again(port: int) -> None:
    answers = [await publish(port, ANN) for _ in range(3)]
    assert [answer.status for answer in answers] == [202, 202, 429]
    await asyncio.sleep(int(answers[-1].headers["retry-after"]))  # what a client does
    assert (await publish(port, ANN)).status == 202


@pytest.mark.settings(connect_rate="3/minute")
async def test_over_the_rate_streams_are_refused_whatever_they_are_of(port: int, upstream: Upstream) -> None:
    assert (await connect(port, "/topics/chat/a", ANN))[0] == 200
    assert (await connect(port, "/stream?topic=chat/a&topic=chat/b", ANN))[0] == 200
    assert (await connect(port, "/sse/chat?message=hi", ANN))[0] == 200
    for path in ("/topics/chat/a", "/sse/chat?message=again"):
        status, headers = await connect(port, path, ANN)
        assert status == 429
        assert 1 <= int(headers["retry-after"]) <= 60
    assert len(upstream.requests) == 1, "no work is begun for whom it cannot be streamed to"
    assert (await connect(port, "/topics/chat/a", BOB))[0] == 200
    head = await ask(port, "/topics/chat/a", method="HEAD", headers=ANN)
    assert head.status == 200, "HEAD opens none"


@one_outlet
@pytest.mark.settings(connect_rate="2/minute", open_topics=["news"])
async def test_anonymous_requests_share_the_rate_of_their_address(port: int) -> None:
    for status in (200, 200, 429):
        assert (await connect(port, "/topics/news", ELSEWHERE))[0] == status
    assert (await connect(port, "/topics/news", {"X-Forwarded-For": "192.0.2.8"}))[0] == 200


@one_outlet
@pytest.mark.settings(publish=["mine"])
async def test_in_demo_mode_there_is_no_bound_unless_it_is_set(port: int) -> None:
    answers = await asyncio.gather(*(publish(port, ANN) for _ in range(150)))
    assert {answer.status for answer in answers} == {202}


@one_outlet
@pytest.mark.settings(publish_rate="1/minute", publish=["mine"], cors_origins=["https://app.example.com"])
async def test_a_page_that_is_named_can_read_when_to_come_back(port: int) -> None:
    page = {**ANN, "Origin": "https://app.example.com"}
    await publish(port, page)
    refused = await publish(port, page)
    assert refused.status == 429
    assert refused.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "retry-after" in refused.headers["access-control-expose-headers"]
