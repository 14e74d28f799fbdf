"""The parts of the pipeline, built from settings and wired to each other."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from src.config import Settings
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.pipeline.buffer import Buffer
from src.pipeline.diff import Diff, Kinds
from src.pipeline.flush import Flusher
from src.pipeline.hub import Hub
from src.pipeline.journal import Journal
from src.pipeline.pending import Pending
from src.pipeline.pipeline import Pipeline
from src.store.base import Store


class Core(Struct, frozen=True):
    """The parts of the pipeline, wired to each other."""

    buffer: Buffer
    diff: Diff
    hub: Hub
    pending: Pending
    flusher: Flusher
    pipeline: Pipeline


def build_core(
    settings: Settings,
    *,
    store: Store,
    metrics: Metrics,
    clock: Clock,
    journal: Journal | None = None,
    gate: Callable[[], bool] | None = None,
) -> Core:
    """Buffer, diff, hub, pending, flush and the pipeline over them; ``gate`` as in `Flusher`."""
    buffer = Buffer(settings.trader_ws_message_buffer_size, metrics=metrics)
    kinds = Kinds(orders=settings.trader_orders_ws_enabled, positions=settings.trader_positions_ws_enabled)
    diff = Diff(metrics=metrics, kinds=kinds)
    hub = Hub(metrics=metrics)
    pending = Pending(settings.pending_writes_limit, clock=clock, metrics=metrics, journal=journal)
    flusher = Flusher(
        store=store,
        pending=pending,
        metrics=metrics,
        clock=clock,
        interval_s=settings.trader_orders_ws_flush_interval,
        gate=gate,
    )
    pipeline = Pipeline(
        buffer=buffer,
        diff=diff,
        hub=hub,
        pending=pending,
        flusher=flusher,
        metrics=metrics,
        clock=clock,
        drain_interval_s=settings.diff_interval,
    )
    return Core(buffer, diff, hub, pending, flusher, pipeline)
