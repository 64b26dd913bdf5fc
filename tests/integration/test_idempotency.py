"""A publish that is sent again because its answer was lost is not done twice."""

from __future__ import annotations

import asyncio

import pytest

from support.reader import Answer, ask, open_stream
from support.serving import one_outlet
from support.tokens import bearer, demo_token

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def publish(
    port: int, text: str, key: str = KEY, topic: str = "a", headers: dict[str, str] | None = None
) -> Answer:
    sent = {"Content-Type": "text/plain", "Idempotency-Key": key, **(headers or {})}
    return await ask(port, f"/topics/{topic}", method="POST", headers=sent, body=text.encode())


async def published(port: int, topic: str = "a") -> list[str]:
    async with await open_stream(port, f"/topics/{topic}?newest=100") as stream:
        await publish(port, "last", "last", topic)
        await stream.until(lambda events: events[-1].data == "last" if events else False)
        return [event.data for event in stream.events if event.type == "message"][:-1]


async def test_the_same_publish_again_is_answered_alike_and_delivered_once(port: int) -> None:
    first = await publish(port, "hello")
    again = await publish(port, "hello")
    assert (first.status, again.status) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert await published(port) == ["hello"]


@one_outlet
async def test_of_many_at_once_one_is_published(port: int) -> None:
    answers = await asyncio.gather(*(publish(port, "hello") for _ in range(20)))
    assert {answer.status for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status == 202}) == 1
    assert await published(port) == ["hello"]


@one_outlet
async def test_another_body_is_refused_and_another_topic_or_user_is_another_publish(port: int) -> None:
    assert (await publish(port, "hello")).status == 202
    wrong = await publish(port, "other")
    assert wrong.status == 422
    assert "new key" in wrong.json()["detail"]
    ann = bearer(demo_token("ann", roles="admin"))
    for topic, headers in (("b", {}), ("a", ann)):
        answer = await publish(port, "hello", topic=topic, headers=headers)
        assert (answer.status, answer.headers.get("idempotency-replayed")) == (202, None)
    assert await published(port) == ["hello", "hello"]


@one_outlet
async def test_what_was_refused_may_be_sent_again_with_the_same_key(port: int) -> None:
    assert (await publish(port, "x", topic="generations/x")).status == 422
    image = await publish(port, "x", headers={"Content-Type": "image/png"})
    assert image.status == 415
    assert (await publish(port, "x")).status == 202
    assert await published(port) == ["x"]


@one_outlet
@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "é"])
async def test_an_invalid_key_is_refused(port: int, key: str) -> None:
    assert (await publish(port, "x", key)).status == 400
    assert await published(port) == []


@one_outlet
@pytest.mark.settings(idempotency_keep_s=0.05)
async def test_after_its_time_a_key_may_be_used_anew(port: int) -> None:
    first = await publish(port, "one")
    async with asyncio.timeout(20):
        while (answer := await publish(port, "two")).status == 422:
            await asyncio.sleep(0.01)
    assert (answer.status, answer.json() == first.json()) == (202, False)


@one_outlet
async def test_openapi_tells_of_the_key_once(port: int) -> None:
    operation = (await ask(port, "/openapi.json")).json()["paths"]["/topics/{topic}"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["topic", "Idempotency-Key"]
