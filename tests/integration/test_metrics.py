"""/metrics: everything that is bounded or refused is counted, by labels that no client chooses; and the dashboard that
reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.polling import eventually, metrics
from support.reader import ask, open_stream, publish
from support.serving import one_outlet
from support.tokens import bearer, demo_token

DEPLOY = Path(__file__).parents[2] / "deploy" / "grafana"


async def counted(port: int, name: str) -> dict[str, float]:
    """Samples of one metric, by their labels."""
    found = await metrics(port)
    return {key.removeprefix(name): value for key, value in found.items() if re.fullmatch(rf"{name}(\{{.*\}})?", key)}


@one_outlet
async def test_requests_are_counted_by_route_and_status_not_by_address(port: int) -> None:
    for number in range(20):
        await publish(port, f"secret-topic/{number}", "x")
        assert (await ask(port, f"/nowhere/{number}")).status == 404
        assert (await ask(port, "/topics/a", method="PROPFIND")).status == 405
    assert (await ask(port, "/topics/bad%20name", method="POST", json_body={"data": "x"})).status == 422
    found = await counted(port, "yeoul_requests_total")
    assert found['{method="POST",route="/topics/{topic:rest}",status="202"}'] == 20
    assert found['{method="POST",route="/topics/{topic:rest}",status="422"}'] == 1
    assert found['{method="GET",route="none",status="404"}'] == 20
    assert sum(value for labels, value in found.items() if 'method="other"' in labels) == 20
    assert len(found) <= 6


@one_outlet
async def test_no_name_that_a_client_chooses_is_in_the_metrics(port: int) -> None:
    token = demo_token("secret-user", "Secret Name")
    async with await open_stream(port, "/topics/chat/secret-room", headers=bearer(token)) as stream:
        await stream.take(1)
        await ask(port, f"/topics/secret-topic?token={token}")
        text = (await ask(port, "/metrics")).text
    assert "secret" not in text.lower()
    assert token not in text


@pytest.mark.settings(max_connections=1)
async def test_streams_that_are_refused_are_counted_by_bound(port: int) -> None:
    async with await open_stream(port, "/topics/a") as stream:
        await stream.take(1)
        for _ in range(2):
            assert (await ask(port, "/topics/a")).status == 429
        found = await metrics(port)
        assert found['yeoul_connections_refused_total{bound="all"}'] == 2
        assert found['yeoul_bound{of="connections"}'] == 1
        assert found["yeoul_topics"] == 1


@one_outlet
async def test_probes_are_not_in_the_numbers_of_events_and_streams(port: int) -> None:
    for path in ("/readyz", "/livez", "/readyz"):
        assert (await ask(port, path)).status == 200
    found = await metrics(port)
    names = ("published_events", "deliveries", "delivered_bytes", "connections_opened", "gaps")
    assert {name: found[f"yeoul_{name}_total"] for name in names} == dict.fromkeys(names, 0)
    async with await open_stream(port, "/topics/a") as stream:
        await publish(port, "a", "x")
        await stream.take(2)
        assert (await ask(port, "/readyz")).status == 200
        found = await metrics(port)
    assert (found["yeoul_deliveries_total"], found["yeoul_connections_opened_total"]) == (1, 1)


@one_outlet
@pytest.mark.settings(publish_rate="2/minute")
async def test_requests_over_a_rate_are_counted_by_kind(port: int) -> None:
    for status in (202, 202, 429):
        answer = await ask(
            port, "/topics/own", method="POST", json_body={"data": "x"}, headers=bearer(demo_token(roles="admin"))
        )
        assert answer.status == status
    assert (await counted(port, "yeoul_rate_refusals_total"))['{kind="publish"}'] == 1


@one_outlet
async def test_credentials_are_counted_by_way_and_outcome(port: int) -> None:
    await ask(port, "/topics/a", headers=bearer("bad token"))
    await ask(port, "/topics/a?token=bad")
    await ask(port, "/topics/a?ticket=bad")
    await ask(port, "/livez", headers=bearer(demo_token()))
    await ask(port, "/livez", headers={"X-Forwarded-For": "192.0.2.1"})
    await ask(port, "/livez", headers={"Cookie": "yeoul_token=bad", "X-Forwarded-For": "192.0.2.1"})
    found = await counted(port, "yeoul_identifications_total")
    assert found['{outcome="refused",way="bearer"}'] == 1
    assert found['{outcome="refused",way="query"}'] == 1
    assert found['{outcome="refused",way="ticket"}'] == 1
    assert found['{outcome="known",way="bearer"}'] == 1
    assert found['{outcome="nobody",way="none"}'] == 1
    assert found['{outcome="refused",way="cookie"}'] == 1


@one_outlet
async def test_tickets_are_counted(port: int) -> None:
    answer = await ask(port, "/auth/tickets", method="POST", headers=bearer(demo_token()), json_body={})
    assert answer.status in (200, 201), answer
    ticket = answer.json()["ticket"]
    async with await open_stream(port, f"/topics/chat/a?ticket={ticket}") as stream:
        assert stream.status == 200
    assert (await ask(port, f"/topics/chat/a?ticket={ticket}")).status == 401
    assert await counted(port, "yeoul_tickets_total") == {
        '{what="again"}': 0,
        '{what="issued"}': 1,
        '{what="used"}': 1,
    }


@one_outlet
async def test_publishes_with_a_key_are_counted_when_they_come_again(port: int) -> None:
    for _ in range(3):
        answer = await ask(
            port, "/topics/a", method="POST", json_body={"data": "x"}, headers={"Idempotency-Key": "order-1"}
        )
        assert answer.status == 202
    found = await metrics(port)
    assert found['yeoul_publish_repeats_total{what="replayed"}'] == 2
    assert found["yeoul_idempotency_keys"] == 1
    assert found["yeoul_published_events_total"] == 1


async def test_people_in_rooms_are_counted(port: int) -> None:
    async with (
        await open_stream(port, "/topics/chat/a", headers=bearer(demo_token("u1"))) as one,
        await open_stream(port, "/topics/chat/a", headers=bearer(demo_token("u2"))) as two,
    ):
        await one.take(1)
        await two.take(1)
        found = await metrics(port)
        assert (found["yeoul_chat_rooms"], found["yeoul_chat_places"]) == (1, 2)


async def test_how_long_streams_were_open_is_counted_when_they_end(port: int) -> None:
    async with await open_stream(port, "/topics/a") as stream:
        await stream.take(1)

    async def ended() -> bool:
        return (await metrics(port))["yeoul_connection_seconds_count"] == 1

    await eventually(ended)


@one_outlet
async def test_the_lag_of_the_event_loop_is_measured(port: int) -> None:
    async def measured() -> bool:
        return (await metrics(port))["yeoul_loop_lag_seconds_count"] >= 1

    await eventually(measured)


@one_outlet
async def test_what_the_broker_keeps_is_shown_beside_its_bounds(port: int) -> None:
    await publish(port, "a", "x" * 1_000)
    found = await metrics(port)
    assert found["yeoul_broker_topics"] == 1
    assert 1_000 <= found["yeoul_broker_bytes"] <= 1_300
    assert found['yeoul_bound{of="broker_bytes"}'] == 536_870_912
    assert found["yeoul_broker_head"] == 1


@one_outlet
@pytest.mark.settings(open_metrics=False)
async def test_metrics_are_for_admins_where_that_is_set(port: int) -> None:
    assert (await ask(port, "/metrics", headers=bearer(demo_token(roles="user")))).status == 403
    assert (await ask(port, "/metrics", headers={"X-Forwarded-For": "192.0.2.1"})).status == 401
    assert (await ask(port, "/metrics", headers=bearer(demo_token(roles="admin")))).status == 200


# --- the dashboard


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "yeoul.json").read_text())
    return loaded


def queries() -> list[str]:
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_the_dashboard_is_sound() -> None:
    loaded = dashboard()
    assert loaded["schemaVersion"] >= 39
    assert [variable["name"] for variable in loaded["templating"]["list"]] == ["datasource", "instance"]
    panels = loaded["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places, panel["title"]
        places |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            expr = target["expr"]
            assert expr.count("(") == expr.count(")")
            assert expr.count("{") == expr.count("}")
            assert '{instance=~"$instance"' in expr


@one_outlet
async def test_each_metric_and_label_that_the_dashboard_asks_for_is_there(port: int) -> None:
    await ask(port, "/readyz")
    async with await open_stream(port, "/sse/chat?message=hi") as stream:
        await stream.rest()
    async with await open_stream(port, "/topics/chat/a", headers=bearer(demo_token())) as stream:
        await stream.take(1)

    async def closed() -> bool:
        return bool(await counted(port, "yeoul_connections_closed_total"))

    await eventually(closed)
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families((await ask(port, "/metrics")).text):
        declared = f"{family.name}_total" if family.type == "counter" else family.name
        labels.setdefault(declared, set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    # Where nothing was refused there is no sample to read the label from.
    labels["yeoul_connections_refused_total"] = {"bound"}
    labels["yeoul_relays_ended_total"] = {"state"}
    for expr in queries():
        names = re.findall(r"\b((?:yeoul|process)_\w+)(?=[{\[])", expr)
        assert names, expr
        for name in names:
            assert name in labels, f"{name} in {expr}"
        asked = set(re.findall(r"(\w+)=[~\"]", expr)) - {"instance"}
        for group in re.findall(r"by \(([^)]*)\)", expr):
            asked |= {label.strip() for label in group.split(",")} - {"instance"}
        known = set().union(*(labels[name] for name in names))
        assert asked <= known, f"{asked - known} in {expr}"


@one_outlet
async def test_the_alerts_that_are_proposed_ask_for_what_is_there(port: int) -> None:
    text = (await ask(port, "/metrics")).text
    names = set(re.findall(r"\byeoul_\w+", (DEPLOY / "README.md").read_text()))
    assert len(names) >= 5
    for name in names:
        assert f"# TYPE {name.removesuffix('_bucket')} " in text, name
