"""The program's numbers as Prometheus text."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from src.api.parts import PartsOf
from src.models.metrics import ALL_METRICS, Metrics
from src.models.metrics import Metric as MetricDefinition

PREFIX = "collector_"

router = APIRouter(tags=["health"])


class MetricsCollector:
    """Translates our plain numbers when they are scraped; without labels a metric is shown even when untouched."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """All metrics, in the order of their definition."""
        values: dict[MetricDefinition, list[tuple[tuple[str, ...], float]]] = {}
        for metric, labels, value in self._metrics.samples():
            values.setdefault(metric, []).append((labels, value))
        for metric in ALL_METRICS:
            family = _family(metric)
            untouched = [] if metric.labels else [((), 0.0)]
            for labels, value in values.get(metric, untouched):
                family.add_metric(list(labels), value)
            yield family


def create_registry(metrics: Metrics) -> CollectorRegistry:
    """Our metrics and those of the process (memory, CPU, open files)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(metrics))
    ProcessCollector(registry=registry)
    return registry


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, parts: PartsOf) -> Response:
    """Everything countable, for Prometheus."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(create_registry(parts.metrics)), media_type=content_type)


def exported_name(metric: MetricDefinition) -> str:
    """The name under which Prometheus sees a metric."""
    return f"{PREFIX}{metric.name}" + ("_total" if metric.kind == "counter" else "")


def _family(metric: MetricDefinition) -> CounterMetricFamily | GaugeMetricFamily:
    family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return family(f"{PREFIX}{metric.name}", metric.help, labels=list(metric.labels))
