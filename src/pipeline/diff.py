"""The heart: ``(state, message) -> changes``. Pure and deterministic; no clock, no I/O.

`Diff` owns the state of every stream and routes messages to the rules of orders, positions and markets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import Struct

from src.models.changes import (
    BookChange,
    Change,
    FillSeen,
    HoleClosed,
    HoleOpened,
    OrderChange,
    PositionChange,
    TradeSeen,
)
from src.models.messages import Book, Data, Fill, Gap, Message, OrdersSnapshot, PositionsSnapshot, Trade
from src.models.metrics import (
    MESSAGES_HELD,
    MESSAGES_OUTDATED,
    ORDER_CHANGES,
    POSITION_CHANGES,
    TRACKED_ORDERS,
    TRACKED_POSITIONS,
    Metrics,
)
from src.models.orders import Order
from src.models.positions import Position
from src.models.streams import StreamKey
from src.pipeline.orders import OrdersState, apply_orders, restore_closed, restore_order
from src.pipeline.positions import (
    PositionsState,
    apply_positions,
    restore_closed_position,
    restore_position,
)

CLOCK_STEP_MS = 60_000
"""A frame older than its stream's hole by more than this was not delayed: the clock was set back."""

RECENT_IDS = 2_000
"""Trades (per symbol) and fills (per trader) remembered to recognise what a resubscribe repeats."""


class Kinds(Struct, frozen=True):
    """What to keep of the trader feeds."""

    orders: bool = True
    positions: bool = True


class Hole(Struct, frozen=True):
    """An interval that is still open: a stream has not been seen since ``from_ms``."""

    from_ms: int
    reason: str


class Diff:
    """State of everything collected, and the changes each message makes to it."""

    def __init__(self, *, metrics: Metrics, kinds: Kinds | None = None) -> None:
        self._metrics = metrics
        self._kinds = kinds or Kinds()
        self._orders: dict[tuple[str, str], OrdersState] = {}
        self._positions: dict[tuple[str, str], PositionsState] = {}
        self._books: dict[tuple[str, str], Book] = {}
        self._trades: dict[tuple[str, str], _RecentIds] = {}
        self._fills: dict[str, _RecentIds] = {}
        self._holes: dict[StreamKey, Hole] = {}
        self._fed: dict[StreamKey, list[OrdersState | PositionsState]] = {}
        self._open_orders = 0
        self._open_positions = 0

    # -- live ------------------------------------------------------------------------------------------------------

    def apply(self, data: Data) -> list[Change]:
        """Changes made by one frame; a hole in its stream ends here, unless the frame arrived before it began."""
        changes: list[Change] = []
        hole = self._holes.get(data.stream) if self._holes else None
        if hole is not None and _ends(hole, data.arrived_ms):
            changes.append(self._end_hole(data.stream, data.arrived_ms or hole.from_ms))
            hole = None
        for message in data.messages:
            self._apply(data.stream, message, changes)
        if hole is not None:
            self._unwatch(data.stream)
        return changes

    def apply_gap(self, gap: Gap) -> list[Change]:
        """Note that streams are no longer seen: what vanishes until they are back is found late."""
        changes: list[Change] = []
        for stream in gap.streams:
            self._unwatch(stream)
            if stream in self._holes:
                continue
            self._holes[stream] = Hole(gap.at_ms, gap.reason.value)
            changes.append(HoleOpened(str(stream), stream.venue, gap.at_ms, gap.reason.value, gap.detail))
        return changes

    def end_holes(self, streams: Iterable[StreamKey], at_ms: int) -> list[Change]:
        """End the holes of streams that nobody asks for any more because others replace them."""
        return [self._end_hole(stream, at_ms) for stream in list(streams) if stream in self._holes]

    # -- what was known before -------------------------------------------------------------------------------------

    def restore_order(self, trader: str, dex: str, order: Order, revision: int) -> None:
        """Take an open order as stored as known; the first list will be compared with it."""
        state = self._orders_state(trader, dex)
        if order.oid not in state.known:
            self._count_orders(1)
        restore_order(state, order, revision)

    def restore_closed_order(
        self, trader: str, dex: str, oid: int, *, revision: int, cloid: str | None, closed_ms: int
    ) -> None:
        """Remember an order that closed shortly before the start; without effect on one that is open again."""
        state = self._orders_state(trader, dex)
        if oid not in state.known:
            restore_closed(state, oid, revision, cloid, closed_ms)

    def restore_position(self, trader: str, dex: str, position: Position, revision: int) -> None:
        """Take an open position as stored as known."""
        state = self._positions_state(trader, dex)
        if position.coin not in state.known:
            self._count_positions(1)
        restore_position(state, position, revision)

    def restore_closed_position(self, trader: str, dex: str, coin: str, revision: int) -> None:
        """Remember how far a closed position has counted."""
        restore_closed_position(self._positions_state(trader, dex), coin, revision)

    def restore_hole(self, stream: StreamKey, hole: Hole) -> None:
        """Take a hole as stored as still open; it ends with the stream's next data."""
        self._holes[stream] = hole

    def forget(self, trader: str) -> None:
        """Drop everything known of a trader who is no longer followed."""
        for key in [key for key in self._orders if key[0] == trader]:
            self._count_orders(-len(self._orders.pop(key).known))
        for key in [key for key in self._positions if key[0] == trader]:
            self._count_positions(-len(self._positions.pop(key).known))
        self._fills.pop(trader, None)
        for stream in [stream for stream in self._fed if stream.subject == trader]:
            del self._fed[stream]

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def open_orders(self) -> int:
        """Open orders in memory."""
        return self._open_orders

    @property
    def open_positions(self) -> int:
        """Open positions in memory."""
        return self._open_positions

    @property
    def holes(self) -> Mapping[StreamKey, Hole]:
        """Streams that are not seen now, for whatever reason."""
        return self._holes

    def looks(self) -> dict[str, int]:
        """When each trader was last seen: address -> receipt time of the newest list in ms."""
        looks: dict[str, int] = {}
        for states in (self._orders, self._positions):
            for (trader, _), state in states.items():
                if state.seen_ms > looks.get(trader, 0):
                    looks[trader] = state.seen_ms
        return looks

    # -- routing -----------------------------------------------------------------------------------------------------

    def _apply(self, stream: StreamKey, message: Message, changes: list[Change]) -> None:
        if isinstance(message, OrdersSnapshot):
            if self._kinds.orders:
                self._apply_orders(stream, message, changes)
        elif isinstance(message, PositionsSnapshot):
            if self._kinds.positions:
                self._apply_positions(stream, message, changes)
        elif isinstance(message, Book):
            self._apply_book(message, changes)
        elif isinstance(message, Trade):
            self._apply_trade(message, changes)
        else:
            self._apply_fill(message, changes)

    def _apply_orders(self, stream: StreamKey, snapshot: OrdersSnapshot, changes: list[Change]) -> None:
        state = self._orders_state(snapshot.trader, snapshot.dex)
        self._note_feed(stream, state)
        state.seen_ms = snapshot.received_ms
        before = len(state.known)
        outcome = apply_orders(state, snapshot)
        if outcome.doubt == "outdated":
            self._metrics.add(MESSAGES_OUTDATED, "orders")
        elif outcome.doubt is not None:
            self._metrics.add(MESSAGES_HELD, outcome.doubt)
        if not outcome.changes:
            return
        for change in outcome.changes:
            if isinstance(change, OrderChange):
                self._metrics.add(ORDER_CHANGES, change.action)
        self._count_orders(len(state.known) - before)
        changes.extend(outcome.changes)

    def _apply_positions(self, stream: StreamKey, snapshot: PositionsSnapshot, changes: list[Change]) -> None:
        state = self._positions_state(snapshot.trader, snapshot.dex)
        self._note_feed(stream, state)
        state.seen_ms = snapshot.received_ms
        before = len(state.known)
        found = apply_positions(state, snapshot)
        if found is None:
            self._metrics.add(MESSAGES_OUTDATED, "positions")
            return
        for change in found:
            if isinstance(change, PositionChange):
                self._metrics.add(POSITION_CHANGES, change.kind)
        self._count_positions(len(state.known) - before)
        changes.extend(found)

    def _apply_book(self, book: Book, changes: list[Change]) -> None:
        key = (book.venue, book.symbol)
        last = self._books.get(key)
        if last is not None and book.time_ms <= last.time_ms:
            if book.time_ms < last.time_ms:
                self._metrics.add(MESSAGES_OUTDATED, "book")
            return
        self._books[key] = book
        changed = last is None or book.bids != last.bids or book.asks != last.asks
        changes.append(BookChange(book, changed))

    def _apply_trade(self, trade: Trade, changes: list[Change]) -> None:
        key = (trade.venue, trade.symbol)
        recent = self._trades.get(key)
        if recent is None:
            recent = self._trades[key] = _RecentIds()
        if recent.add(trade.trade_id):
            changes.append(TradeSeen(trade))

    def _apply_fill(self, fill: Fill, changes: list[Change]) -> None:
        recent = self._fills.get(fill.trader)
        if recent is None:
            recent = self._fills[fill.trader] = _RecentIds()
        if recent.add(fill.coin, fill.time_ms, fill.tid, fill.oid):
            changes.append(FillSeen(fill))

    # -- state -------------------------------------------------------------------------------------------------------

    def _orders_state(self, trader: str, dex: str) -> OrdersState:
        state = self._orders.get((trader, dex))
        if state is None:
            state = self._orders[trader, dex] = OrdersState(trader, dex)
        return state

    def _positions_state(self, trader: str, dex: str) -> PositionsState:
        state = self._positions.get((trader, dex))
        if state is None:
            state = self._positions[trader, dex] = PositionsState(trader, dex)
        return state

    def _end_hole(self, stream: StreamKey, at_ms: int) -> HoleClosed:
        hole = self._holes.pop(stream)
        # Never negative: where the clock was set back in between, the hole has no length.
        ends_ms = max(at_ms, hole.from_ms)
        return HoleClosed(str(stream), stream.venue, hole.from_ms, ends_ms, hole.reason)

    def _note_feed(self, stream: StreamKey, state: OrdersState | PositionsState) -> None:
        """Learn which state a stream feeds, to know what a gap in it blinds."""
        if state.stream != stream:
            state.stream = stream
            fed = self._fed.setdefault(stream, [])
            if not any(known is state for known in fed):
                fed.append(state)

    def _unwatch(self, stream: StreamKey) -> None:
        for state in self._fed.get(stream, ()):
            if state.stream == stream:
                state.watched = False

    def _count_orders(self, difference: int) -> None:
        self._open_orders += difference
        self._metrics.put(TRACKED_ORDERS, value=self._open_orders)

    def _count_positions(self, difference: int) -> None:
        self._open_positions += difference
        self._metrics.put(TRACKED_POSITIONS, value=self._open_positions)


def _ends(hole: Hole, arrived_ms: int | None) -> bool:
    """Whether a frame that arrived then ends the hole: not one from before it, unless the clock was set back."""
    if arrived_ms is None:
        return False
    return arrived_ms >= hole.from_ms or hole.from_ms - arrived_ms > CLOCK_STEP_MS


class _RecentIds:
    """A bounded set of 64-bit hashes that forgets the oldest."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._order: deque[int] = deque()

    def add(self, *parts: str | int | None) -> bool:
        """True when it was not there."""
        identity = hash(parts)
        if identity in self._known:
            return False
        self._known.add(identity)
        self._order.append(identity)
        if len(self._order) > RECENT_IDS:
            self._known.discard(self._order.popleft())
        return True
