"""Backfill of Hyperliquid beside its collector: the parts put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from src.config import Settings
from src.jobs.backfill.backfill import Backfill
from src.jobs.backfill.job import BackfillJob
from src.jobs.backfill.live_orders import LiveOrders
from src.jobs.backfill.plan import Kind
from src.jobs.hyperliquid.past import HyperliquidPast
from src.jobs.hyperliquid.source import HyperliquidSource
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.pipeline.diff import Diff
from src.pipeline.pipeline import Pipeline
from src.store.base import Store


def make_backfill(
    settings: Settings,
    *,
    store: Store,
    source: HyperliquidSource,
    diff: Diff,
    pipeline: Pipeline,
    flush: Callable[[], Awaitable[None]],
    followed: Callable[[], Sequence[str]],
    may_write: Callable[[], bool],
    clock: Clock,
    metrics: Metrics,
) -> BackfillJob:
    """The job that reads the history of everybody who is followed.

    Args:
        settings: what is collected, and how often to read at least.
        store: read and written.
        source: whose REST and looks are used.
        diff: what is known of orders now.
        pipeline: takes what a history explains.
        flush: stores everything found so far, or raises `StoreError`.
        followed: who is followed now.
        may_write: False while another program may be writing.
        clock: for everything.
        metrics: for everything.
    """
    past = HyperliquidPast(source.rests, clock, metrics, looks=source.past_looks)
    live = LiveOrders(diff, pipeline, flush)
    wanted = {Kind.ORDERS: settings.trader_orders_ws_enabled, Kind.FILLS: settings.hyperliquid_fills}
    return BackfillJob(
        Backfill(store, past, clock, metrics, live=live),
        followed=followed,
        kinds=[kind for kind, is_wanted in wanted.items() if is_wanted],
        clock=clock,
        metrics=metrics,
        longest_s=settings.hyperliquid_backfill_interval,
        may_write=may_write,
    )
