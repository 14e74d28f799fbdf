"""What was written, as counters; every writer uses it, so that ``/stats`` misses nobody."""

from __future__ import annotations

from src.models.metrics import DOCUMENTS_INSERTED, DOCUMENTS_MODIFIED, WRITES_REPEATED, Metrics
from src.models.writes import WriteResult


def count_written(metrics: Metrics, result: WriteResult) -> None:
    """Add the documents inserted and modified, per collection, and the writes that found their work done."""
    for collection, count in result.inserted.items():
        metrics.add(DOCUMENTS_INSERTED, collection, amount=count)
    for collection, count in result.modified.items():
        metrics.add(DOCUMENTS_MODIFIED, collection, amount=count)
    metrics.add(WRITES_REPEATED, amount=result.repeated)
