"""For those who run it: is it alive, is it ready, how is it doing."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from ..asgi.problem import problem
from ..hub import Hub
from ..llm.generations import Generations
from ..observe import Distribution
from ..relay.relays import Relays

__all__ = ["ops"]


def ops(hub: Hub, generations: Generations, relays: Relays | None = None) -> APIRouter:
    router = APIRouter(tags=["operations"])
    registry = CollectorRegistry()
    registry.register(_StatsCollector(hub, generations, relays))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

    @router.get("/livez", response_class=PlainTextResponse, summary="Whether the process answers at all")
    async def alive() -> str:
        return "ok\n"

    @router.get("/readyz", response_class=PlainTextResponse, summary="Whether new requests should be sent here")
    async def ready() -> Response:
        if hub.draining:
            return problem(503, "this server is shutting down", headers={"Retry-After": "1"})
        return PlainTextResponse("ok\n")

    @router.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


class _StatsCollector(Collector):
    """Reads the plain counters of the hot paths when Prometheus asks."""

    def __init__(self, hub: Hub, generations: Generations, relays: Relays | None) -> None:
        self._hub = hub
        self._generations = generations
        self._relays = relays

    def collect(self) -> Iterable[Metric]:
        yield from self._of_hub()
        yield from self._of_generations()
        yield from self._of_relays()

    def _of_hub(self) -> Iterable[Metric]:
        stats = self._hub.stats
        yield GaugeMetricFamily("yeoul_connections", "Streams open now.", stats.readers)
        yield GaugeMetricFamily("yeoul_lagging_readers", "Streams whose client takes less than is sent.", stats.lagging)
        yield GaugeMetricFamily("yeoul_draining", "1 while this server shuts down.", int(self._hub.draining))
        yield CounterMetricFamily("yeoul_connections_opened", "Streams opened.", stats.opened)
        closed = CounterMetricFamily("yeoul_connections_closed", "Streams ended, by reason.", labels=["reason"])
        for reason, count in sorted(stats.closed.items()):
            closed.add_metric([reason], count)
        yield closed
        yield CounterMetricFamily("yeoul_published_events", "Events published.", stats.published)
        yield CounterMetricFamily("yeoul_deliveries", "Events handed to streams.", stats.deliveries)
        yield CounterMetricFamily("yeoul_delivered_bytes", "Bytes of events handed to streams.", stats.delivered_bytes)
        yield CounterMetricFamily("yeoul_gaps", "Readers told that something they asked for is gone.", stats.gaps)
        yield CounterMetricFamily("yeoul_heartbeats", "Comments sent on silent streams.", stats.heartbeats)
        yield _histogram(
            "yeoul_publish_latency_seconds", "From a publish to its write to the last reader.", stats.publish_latency
        )

    def _of_generations(self) -> Iterable[Metric]:
        stats = self._generations.stats
        yield GaugeMetricFamily(
            "yeoul_generations_running", "Answers being written now.", len(self._generations.running())
        )
        yield CounterMetricFamily("yeoul_generations_started", "Answers begun.", stats.started)
        ended = CounterMetricFamily(
            "yeoul_generations_ended", "Answers ended, by provider and state.", labels=["provider", "state"]
        )
        for (provider, state), count in sorted(stats.ended.items()):
            ended.add_metric([provider, state], count)
        yield ended
        yield CounterMetricFamily("yeoul_generation_tokens", "Tokens that providers sent.", stats.tokens)
        yield CounterMetricFamily(
            "yeoul_generation_tokens_undelivered",
            "Tokens that no reader had when their answer was forgotten.",
            stats.undelivered,
        )
        yield _histogram(
            "yeoul_generation_first_token_seconds", "From a generation's start to its first token.", stats.first_token
        )
        yield _histogram("yeoul_generation_token_gap_seconds", "Between two tokens of a generation.", stats.token_gap)

    def _of_relays(self) -> Iterable[Metric]:
        if self._relays is None:
            return
        stats = self._relays.stats
        yield GaugeMetricFamily("yeoul_relays_running", "Relayed streams open now.", len(self._relays.running()))
        yield CounterMetricFamily("yeoul_relays_started", "Relayed streams begun.", stats.started)
        ended = CounterMetricFamily("yeoul_relays_ended", "Relayed streams ended, by how.", labels=["state"])
        for state, count in sorted(stats.ended.items()):
            ended.add_metric([state], count)
        yield ended
        yield CounterMetricFamily("yeoul_relay_events", "Events relayed.", stats.events)
        yield CounterMetricFamily("yeoul_relays_held", "Times an upstream was made to wait for readers.", stats.held)


def _histogram(name: str, documentation: str, values: Distribution) -> HistogramMetricFamily:
    buckets, sum_so_far = [], 0
    for bound, count in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        sum_so_far += count
        buckets.append((bound, sum_so_far))
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=values.total)
