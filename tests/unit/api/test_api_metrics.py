"""What Prometheus sees."""

import re

from prometheus_client.parser import text_string_to_metric_families

from src.api.metrics import exported_name
from src.models.metrics import (
    ALL_METRICS,
    BUFFER_LENGTH,
    CONNECTIONS_OPEN,
    DOCUMENTS_INSERTED,
    FLUSHES,
    FRAMES_REJECTED,
)


async def test_counters_and_gauges_with_labels(world, client):
    world.metrics.add(FRAMES_REJECTED, "hyperliquid", 'odd "quoted"\nreason', amount=3)
    world.metrics.put(CONNECTIONS_OPEN, "hyperliquid", value=5)
    families = {family.name: family for family in text_string_to_metric_families((await client.get("/metrics")).text)}
    rejected = families["collector_frames_rejected"]
    assert rejected.type == "counter"
    assert rejected.samples[0].labels == {"venue": "hyperliquid", "reason": 'odd "quoted"\nreason'}
    assert rejected.samples[0].value == 3
    assert families["collector_connections_open"].samples[0].value == 5


async def test_untouched_metrics_are_described_and_zero_where_they_have_no_labels(client):
    text = (await client.get("/metrics")).text
    for metric in ALL_METRICS:
        assert f"# HELP {exported_name(metric)} " in text
    assert f"\n{exported_name(FLUSHES)} 0.0\n" in text
    assert f"\n{exported_name(BUFFER_LENGTH)} 0.0\n" in text
    assert not re.search(rf"^{exported_name(DOCUMENTS_INSERTED)}", text, flags=re.MULTILINE)


async def test_memory_of_the_process_is_there(client):
    assert "process_resident_memory_bytes" in (await client.get("/metrics")).text


async def test_openmetrics_is_spoken_when_asked_for(client):
    answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
