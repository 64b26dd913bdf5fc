"""The numbers, in Prometheus' format. Labels have a few values each: no user, no topic, no address of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ...hub import Hub
from ...hub.health import LoopMonitor
from ...llm.generations import Generations
from ...observe import Distribution
from ...relay.relays import Relays

__all__ = ["Counted", "Gauges", "registry_of"]

# Counters of others: by their metric's name, what they count, the labels, and the counts by the labels' values, read
# whenever somebody asks.
Counted = Mapping[str, tuple[str, Sequence[str], Mapping[tuple[str, ...], int] | Mapping[str, int]]]
Gauges = Mapping[str, tuple[str, Callable[[], float]]]


def registry_of(
    hub: Hub,
    generations: Generations,
    relays: Relays | None = None,
    *,
    monitor: LoopMonitor | None = None,
    counted: Counted | None = None,
    bounds: Mapping[str, int] | None = None,
    gauges: Gauges | None = None,
) -> CollectorRegistry:
    """`bounds`: how many there may be, by what is bounded. `gauges`: values of others, by their metric's name."""
    registry = CollectorRegistry()
    parts: list[Callable[[], Iterable[Metric]]] = [
        lambda: _of_hub(hub),
        lambda: _of_broker(hub),
        lambda: _of_generations(generations),
    ]
    if relays is not None:
        parts.append(lambda: _of_relays(relays))
    if monitor is not None:
        parts.append(lambda: [_histogram("yeoul_loop_lag_seconds", "By how much timers came late.", monitor.lag)])
    parts.append(lambda: _of_others(counted or {}, gauges or {}, bounds or {}))
    registry.register(_Parts(parts))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class _Parts(Collector):
    """Reads the plain counters of the hot paths when Prometheus asks."""

    def __init__(self, parts: list[Callable[[], Iterable[Metric]]]) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        for part in self._parts:
            yield from part()


def _of_hub(hub: Hub) -> Iterable[Metric]:
    stats = hub.stats
    yield GaugeMetricFamily("yeoul_connections", "Streams open now.", stats.readers)
    yield GaugeMetricFamily("yeoul_lagging_readers", "Streams whose client takes less than is sent.", stats.lagging)
    yield GaugeMetricFamily("yeoul_topics", "Topics that somebody follows.", hub.followed)
    yield GaugeMetricFamily("yeoul_draining", "1 while this server shuts down.", int(hub.draining))
    yield CounterMetricFamily("yeoul_connections_opened", "Streams opened.", stats.opened)
    yield _counter("yeoul_connections_closed", "Streams ended, by reason.", "reason", stats.closed)
    yield _counter("yeoul_connections_refused", "Streams refused, by bound.", "bound", stats.refused)
    yield _histogram("yeoul_connection_seconds", "How long streams were open that have ended.", stats.durations)
    yield CounterMetricFamily("yeoul_published_events", "Events published.", stats.published)
    yield CounterMetricFamily("yeoul_deliveries", "Events handed to streams.", stats.deliveries)
    yield CounterMetricFamily("yeoul_delivered_bytes", "Bytes of events handed to streams.", stats.delivered_bytes)
    yield CounterMetricFamily("yeoul_gaps", "Readers told that something they asked for is gone.", stats.gaps)
    yield CounterMetricFamily("yeoul_heartbeats", "Comments sent on silent streams.", stats.heartbeats)
    yield _histogram(
        "yeoul_publish_latency_seconds", "From a publish to its write to the last reader.", stats.publish_latency
    )


def _of_broker(hub: Hub) -> Iterable[Metric]:
    yield GaugeMetricFamily("yeoul_broker_head", "Offset of the newest event.", hub.head)
    kept = hub.broker.stats()
    if kept is not None:
        yield GaugeMetricFamily("yeoul_broker_topics", "Topics of which events are kept.", kept.topics)
        yield GaugeMetricFamily("yeoul_broker_bytes", "Bytes of events kept.", kept.bytes)


def _of_generations(generations: Generations) -> Iterable[Metric]:
    stats = generations.stats
    yield GaugeMetricFamily("yeoul_generations_running", "Answers being written now.", len(generations.running()))
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


def _of_relays(relays: Relays) -> Iterable[Metric]:
    stats = relays.stats
    yield GaugeMetricFamily("yeoul_relays_running", "Relayed streams open now.", len(relays.running()))
    yield CounterMetricFamily("yeoul_relays_started", "Relayed streams begun.", stats.started)
    yield _counter("yeoul_relays_ended", "Relayed streams ended, by how.", "state", stats.ended)
    yield CounterMetricFamily("yeoul_relay_events", "Events relayed.", stats.events)
    yield CounterMetricFamily("yeoul_relays_held", "Times an upstream was made to wait for readers.", stats.held)


def _of_others(counted: Counted, gauges: Gauges, bounds: Mapping[str, int]) -> Iterable[Metric]:
    for name, (documentation, labels, counts) in counted.items():
        family = CounterMetricFamily(name, documentation, labels=list(labels))
        for values, count in sorted(counts.items()):
            family.add_metric([values] if isinstance(values, str) else values, count)
        yield family
    for name, (documentation, read) in gauges.items():
        yield GaugeMetricFamily(name, documentation, read())
    bound = GaugeMetricFamily("yeoul_bound", "How many there may be at once, by what.", labels=["of"])
    for of, most in bounds.items():
        bound.add_metric([of], most)
    yield bound


def _counter(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, documentation: str, values: Distribution) -> HistogramMetricFamily:
    buckets, sum_so_far = [], 0
    for bound, count in zip((*map(str, values.bounds), "+Inf"), values.counts, strict=True):
        sum_so_far += count
        buckets.append((bound, sum_so_far))
    return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=values.total)
