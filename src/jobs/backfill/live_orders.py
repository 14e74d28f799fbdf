"""The running program's view of orders, for a backfill that works beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from src.models.messages import OrderHistory
from src.pipeline.diff import Diff
from src.pipeline.pipeline import Pipeline
from src.pipeline.short_lived import dex_of_coin


class LiveOrders:
    """See `src.jobs.backfill.backfill.Live`.

    Lists that arrive after a history was read cannot show what had ended in it. So once everything found before is
    stored, an ended order is either in the database, or known as open here, or it was never seen.
    """

    def __init__(self, diff: Diff, pipeline: Pipeline, flush: Callable[[], Awaitable[None]]) -> None:
        """``flush`` stores everything found so far, or raises `StoreError`."""
        self._diff = diff
        self._pipeline = pipeline
        self._flush = flush

    async def settle(self, history: OrderHistory) -> None:
        """Explain what is known, then store all that was found."""
        self._pipeline.explain(history)
        await self._flush()

    def knows(self, trader: str, oid: int, coin: str) -> bool:
        """Whether a list showed this order and none has missed it yet."""
        return self._diff.is_open(trader, dex_of_coin(coin), oid)

    def note_ended(self, trader: str, oid: int, coin: str, told_ms: int) -> None:
        """Tell the diff to ignore late lists that still show this order."""
        self._diff.note_ended(trader, dex_of_coin(coin), oid, told_ms)
