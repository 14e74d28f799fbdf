"""A replay that is the only writer while it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from src.config import Settings
from src.core import build_core
from src.jobs.hyperliquid.source import make_feed
from src.jobs.recordings.replay import Replay
from src.jobs.writer.instance import this_holder
from src.jobs.writer.lease import WriterLease, writing
from src.models.clock import Clock
from src.models.errors import WriterBusyError
from src.models.metrics import Metrics
from src.store.base import Store


@asynccontextmanager
async def only_replay(
    settings: Settings, store: Store, *, clock: Clock, metrics: Metrics, otherwise: str
) -> AsyncIterator[Replay]:
    """A replay into a prepared store, under the writer's lease for as long as the block lasts.

    Args:
        settings: as for the collector.
        store: prepared.
        clock: time.
        metrics: counts of this replay.
        otherwise: what a person can do when a collector is running.

    Raises:
        WriterBusyError: a collector writes to this database.
        WriterLostError: another program took over meanwhile.
    """
    lease = WriterLease(store, clock, holder=this_holder(None), metrics=metrics)
    core = build_core(settings, store=store, metrics=metrics, clock=clock, gate=lambda: lease.is_held)
    replay = Replay(
        store=store,
        feed=make_feed(settings),
        diff=core.diff,
        pipeline=core.pipeline,
        flusher=core.flusher,
        metrics=metrics,
        clock=clock,
    )
    try:
        async with writing(lease):
            yield replay
    except WriterBusyError as error:
        raise WriterBusyError(f"{error}: {otherwise}") from None
