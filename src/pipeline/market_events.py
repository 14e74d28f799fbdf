"""What happens to trades after they were made, and quotes, bars and halts: which of it is new. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from src.models.changes import BarSeen, Change, QuoteSeen, TradeCancelledSeen, TradeCorrectedSeen, TradingStatusSeen
from src.models.messages import Bar, Quote, TradeCancelled, TradeCorrected, TradingStatus
from src.models.metrics import MESSAGES_OUTDATED, TRADES_AMENDED, Metrics

RECENT_IDS = 2_000
"""Trades (per symbol), fills (per trader) and the like remembered to recognise what a resubscribe repeats."""

MarketEvent = TradeCorrected | TradeCancelled | Quote | Bar | TradingStatus


class RecentIds:
    """A bounded set of 64-bit hashes that forgets the oldest."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._order: deque[int] = deque()

    def add(self, *parts: str | int | None) -> bool:
        """True when it was not there."""
        identity, known = hash(parts), self._known
        if identity in known:
            return False
        known.add(identity)
        self._order.append(identity)
        if len(known) > RECENT_IDS:
            known.discard(self._order.popleft())
        return True


class MarketEvents:
    """Remembers the last quote and bars of each symbol, and the latest corrections, cancels and halts."""

    def __init__(self, *, metrics: Metrics) -> None:
        self._metrics = metrics
        self._quotes: dict[tuple[str, str], Quote] = {}
        self._bars: dict[tuple[str, str, str], Bar] = {}
        self._recent = RecentIds()

    def apply(self, message: MarketEvent) -> Sequence[Change]:
        """The changes a message makes; none for what is known already or older than it."""
        match message:
            case TradeCorrected():
                return self._correction(message)
            case TradeCancelled():
                return self._cancel(message)
            case Quote():
                return self._quote(message)
            case Bar():
                return self._bar(message)
            case TradingStatus():
                return self._status(message)

    def _correction(self, message: TradeCorrected) -> Sequence[Change]:
        when = message.time_ms if message.ts_ns is None else message.ts_ns
        identity = ("c", message.venue, message.symbol, message.original_id, message.trade.trade_id, when)
        if not self._recent.add(*identity):
            return ()
        self._metrics.add(TRADES_AMENDED, message.venue, "corrected")
        return (TradeCorrectedSeen(message),)

    def _cancel(self, message: TradeCancelled) -> Sequence[Change]:
        identity = ("x", message.venue, message.symbol, message.trade_id)
        if not self._recent.add(*identity):
            return ()
        self._metrics.add(TRADES_AMENDED, message.venue, "cancelled")
        return (TradeCancelledSeen(message),)

    def _status(self, message: TradingStatus) -> Sequence[Change]:
        when = message.time_ms if message.ts_ns is None else message.ts_ns
        identity = ("s", message.venue, message.symbol, message.code, message.reason, when)
        return (TradingStatusSeen(message),) if self._recent.add(*identity) else ()

    def _quote(self, message: Quote) -> Sequence[Change]:
        key = (message.venue, message.symbol)
        last = self._quotes.get(key)
        if last is not None and message.time_ms < last.time_ms:
            self._metrics.add(MESSAGES_OUTDATED, "quote")
            return ()
        self._quotes[key] = message
        return (QuoteSeen(message),)

    def _bar(self, message: Bar) -> Sequence[Change]:
        key = (message.venue, message.symbol, message.interval)
        last = self._bars.get(key)
        if last is None or message.time_ms >= last.time_ms:
            self._bars[key] = message
        elif not message.updated:  # an update of an earlier minute is news, a bar that comes late is a repetition
            self._metrics.add(MESSAGES_OUTDATED, "bar")
            return ()
        return (BarSeen(message),)
