"""The counters in Prometheus' text format. Labels have a few values each: never a user, a topic or an address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from ...asgi.authentication import require_admin
from ...asgi.openapi import FOR_ALL
from ...hub import Hub
from ...hub.health import LoopMonitor
from ...llm.generations import Generations
from ...observe import Distribution
from ...relay.relays import Relays

__all__ = ["Counters", "Gauges", "metrics", "registry_of"]

# By the name of a metric: its documentation, its labels, and the counts by the values of the labels, read on each
# request.
Counters = Mapping[str, tuple[str, Sequence[str], Mapping[tuple[str, ...], int] | Mapping[str, int]]]
# By the name of a metric: its documentation, and a function that returns its value.
Gauges = Mapping[str, tuple[str, Callable[[], float]]]


def metrics(registry: CollectorRegistry, *, open: bool = True) -> APIRouter:
    """`open`: whether `/metrics` is for everyone who can reach this server, or for admins only. It shows how much goes
    on, and no user, topic or address."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        openapi_extra=FOR_ALL if open else None,
        summary="Read the metrics, for Prometheus",
    )
    async def show(request: Request) -> Response:
        if not open:
            require_admin(request)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


def registry_of(
    hub: Hub,
    generations: Generations,
    relays: Relays | None = None,
    *,
    monitor: LoopMonitor | None = None,
    counters: Counters | None = None,
    gauges: Gauges | None = None,
    bounds: Mapping[str, int] | None = None,
) -> CollectorRegistry:
    """All metrics of the server. `counters` and `gauges`: further ones. `bounds`: the limits, by what they limit."""
    registry = CollectorRegistry()
    parts: list[Callable[[], Iterable[Metric]]] = [
        lambda: _of_hub(hub),
        lambda: _of_broker(hub),
        lambda: _of_generations(generations),
    ]
    if relays is not None:
        parts.append(lambda: _of_relays(relays))
    if monitor is not None:
        parts.append(lambda: [_histogram("yeoul_loop_lag_seconds", "Delay of the timers.", monitor.lag)])
    parts.append(lambda: _further(counters or {}, gauges or {}, bounds or {}))
    registry.register(_Parts(parts))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Parts(Collector):
    """Reads the plain counters of the hot paths on each request."""

    def __init__(self, parts: list[Callable[[], Iterable[Metric]]]) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        for part in self._parts:
            yield from part()


def _of_hub(hub: Hub) -> Iterable[Metric]:
    stats = hub.stats
    yield GaugeMetricFamily("yeoul_connections", "Open streams.", stats.readers)
    yield GaugeMetricFamily(
        "yeoul_lagging_readers", "Open streams whose client reads more slowly than events are sent.", stats.lagging
    )
    yield GaugeMetricFamily("yeoul_topics", "Topics with at least one reader.", hub.followed)
    yield GaugeMetricFamily("yeoul_draining", "1 while this server shuts down.", int(hub.draining))
    yield CounterMetricFamily("yeoul_connections_opened", "Streams opened.", stats.opened)
    yield _counter("yeoul_connections_closed", "Streams closed, by reason.", "reason", stats.closed)
    yield _counter("yeoul_connections_refused", "Streams refused, by the limit reached.", "bound", stats.refused)
    yield _histogram("yeoul_connection_seconds", "How long closed streams were open.", stats.durations)
    yield CounterMetricFamily("yeoul_published_events", "Events published.", stats.published)
    yield CounterMetricFamily("yeoul_deliveries", "Events written to streams, once per stream.", stats.deliveries)
    yield CounterMetricFamily("yeoul_delivered_bytes", "Bytes of events written to streams.", stats.delivered_bytes)
    yield CounterMetricFamily("yeoul_gaps", "Gaps sent to readers: events that are no longer kept.", stats.gaps)
    yield CounterMetricFamily("yeoul_heartbeats", "Comments written to silent streams.", stats.heartbeats)
    yield _histogram(
        "yeoul_publish_latency_seconds", "From a publish to the write to its last reader.", stats.publish_latency
    )


def _of_broker(hub: Hub) -> Iterable[Metric]:
    yield GaugeMetricFamily("yeoul_broker_head", "Offset of the newest event.", hub.head)
    kept = hub.broker.stats()
    if kept is not None:
        yield GaugeMetricFamily("yeoul_broker_topics", "Topics of which events are kept.", kept.topics)
        yield GaugeMetricFamily("yeoul_broker_bytes", "Bytes of events kept.", kept.bytes)
    if kept is not None and kept.store is not None:
        store = kept.store
        yield GaugeMetricFamily("yeoul_broker_queued", "Publishes that wait to be written.", store.queued)
        yield GaugeMetricFamily("yeoul_broker_file_bytes", "Size of the broker's file.", store.file_bytes)
        yield CounterMetricFamily("yeoul_broker_commits", "Transactions of publishes.", store.commits)
        yield CounterMetricFamily(
            "yeoul_broker_commit_failures", "Transactions that failed, so that publishes were refused.", store.failures
        )
        yield _histogram(
            "yeoul_broker_commit_seconds", "Duration of a transaction, its sync included.", store.commit_seconds
        )


def _of_generations(generations: Generations) -> Iterable[Metric]:
    stats = generations.stats
    yield GaugeMetricFamily("yeoul_generations_running", "Answers being generated.", len(generations.running()))
    yield CounterMetricFamily("yeoul_generations_started", "Answers started.", stats.started)
    ended = CounterMetricFamily(
        "yeoul_generations_ended", "Answers ended, by provider and state.", labels=["provider", "state"]
    )
    for (provider, state), count in sorted(stats.ended.items()):
        ended.add_metric([provider, state], count)
    yield ended
    yield CounterMetricFamily("yeoul_generation_tokens", "Tokens received from providers.", stats.tokens)
    yield CounterMetricFamily(
        "yeoul_generation_tokens_undelivered",
        "Tokens that no reader had received when their answer was deleted.",
        stats.undelivered,
    )
    yield _histogram(
        "yeoul_generation_first_token_seconds", "From the start of an answer to its first token.", stats.first_token
    )
    yield _histogram("yeoul_generation_token_gap_seconds", "Between two tokens of an answer.", stats.token_gap)


def _of_relays(relays: Relays) -> Iterable[Metric]:
    stats = relays.stats
    yield GaugeMetricFamily("yeoul_relays_running", "Open relayed streams.", len(relays.running()))
    yield CounterMetricFamily("yeoul_relays_started", "Relayed streams started.", stats.started)
    yield _counter("yeoul_relays_ended", "Relayed streams ended, by state.", "state", stats.ended)
    yield CounterMetricFamily("yeoul_relay_events", "Events relayed.", stats.events)
    yield CounterMetricFamily("yeoul_relays_held", "Times an upstream had to wait for readers.", stats.held)


def _further(counters: Counters, gauges: Gauges, bounds: Mapping[str, int]) -> Iterable[Metric]:
    for name, (documentation, labels, counts) in counters.items():
        family = CounterMetricFamily(name, documentation, labels=list(labels))
        for values, count in sorted(counts.items()):
            family.add_metric([values] if isinstance(values, str) else values, count)
        yield family
    for name, (documentation, read) in gauges.items():
        yield GaugeMetricFamily(name, documentation, read())
    bound = GaugeMetricFamily("yeoul_bound", "Limits, by what they limit.", labels=["of"])
    for of, limit in bounds.items():
        bound.add_metric([of], limit)
    yield bound


def _counter(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, documentation: str, values: Distribution) -> HistogramMetricFamily:
    buckets, total = [], 0
    for bound, count in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=values.total)
