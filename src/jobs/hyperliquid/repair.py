"""What is looked up at Hyperliquid afterwards: repair of holes, reasons of closes, the details of filled orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from src.config import Settings
from src.jobs.hyperliquid.history import HyperliquidHistory
from src.jobs.hyperliquid.source import HyperliquidSource
from src.jobs.repair.close_details import CloseDetails
from src.jobs.repair.reasons import Reasons
from src.jobs.repair.repair import Repair
from src.jobs.repair.store import RepairStore
from src.jobs.source import Work
from src.models.clock import Clock
from src.models.metrics import Metrics
from src.pipeline.hub import Hub
from src.store.base import Store
from src.venues.hyperliquid.mapper import VENUE
from src.venues.hyperliquid.weight_budget import Priority, status_of_budgets


class HyperliquidRepair:
    """`Repair`, `Reasons` and `CloseDetails` over the REST of the source, wired to each other and to the hub.

    Args:
        settings: whether fills are collected.
        store: read and written.
        source: whose REST and weight budgets are used.
        hub: tells of closes and of holes that ended.
        clock: for everything.
        metrics: for everything.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        source: HyperliquidSource,
        hub: Hub,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._source = source
        reads = RepairStore(store, metrics)
        self.details = CloseDetails(reads, clock, metrics, venue=VENUE)
        self.reasons = Reasons(
            reads,
            HyperliquidHistory(source.rests, clock, metrics, priority=Priority.REASON, looks=source.past_looks),
            clock,
            metrics,
            explained=self.details.explained,
        )
        self.repair = Repair(
            store,
            HyperliquidHistory(source.rests, clock, metrics, looks=source.past_looks),
            clock,
            metrics,
            fills=settings.hyperliquid_fills,
            publish=hub.publish,
            learned=self.reasons.learned,
        )
        hub.listen("repair", self.repair.heard)
        hub.listen("reasons", self.reasons.heard)
        hub.listen("close details", self.details.heard)

    def works(self, stopping: asyncio.Event) -> list[Work]:
        """The tasks to supervise until ``stopping``, by name."""
        return [
            ("repair", lambda: self.repair.run(stopping)),
            ("reasons", lambda: self.reasons.run(stopping)),
            ("close details", lambda: self.details.run(stopping)),
        ]

    def rest_status(self) -> Mapping[str, Any]:
        """The ``rest`` section of ``/stats``: how much of what the venue allows is used, and who waits."""
        return status_of_budgets(self._source.weight_budgets)
