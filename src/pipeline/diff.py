"""The heart: ``(state, message) -> changes``. Pure and deterministic; no clock, no I/O.

`Diff` owns the state of every stream and routes messages to the rules of orders, positions and markets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, structs

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
from src.models.messages import (
    Book,
    Data,
    Fill,
    Gap,
    Message,
    OrderHistory,
    OrdersSnapshot,
    PositionsSnapshot,
    Trade,
)
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
from src.pipeline.market_events import MarketEvents, RecentIds
from src.pipeline.order_history import HistoryState, apply_history
from src.pipeline.orders import OrdersState, apply_orders, note_ending, restore_closed, restore_order
from src.pipeline.positions import (
    PositionsState,
    apply_positions,
    restore_closed_position,
    restore_position,
)
from src.pipeline.sampling import SAMPLED, SampledStreams
from src.pipeline.untracked import untrack_orders, untrack_positions

CLOCK_STEP_MS = 60_000
"""A frame older than its stream's hole by more than this was not delayed: the clock was set back."""


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
        self._trades: dict[tuple[str, str], RecentIds] = {}
        self._fills: dict[str, RecentIds] = {}
        self._market = MarketEvents(metrics=metrics)
        self._histories: dict[str, HistoryState] = {}
        self._holes: dict[StreamKey, Hole] = {}
        self._sampled = SampledStreams()
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
        if data.within_s is not None or data.stream in self._sampled:
            self._note_look(data, changes)
        for message in data.messages:
            self._apply(data.stream, message, changes)
        if hole is not None or data.within_s is not None:
            self._unwatch(data.stream)
        return changes

    def apply_gap(self, gap: Gap) -> list[Change]:
        """Note that streams are no longer seen: what vanishes until they are back is found late."""
        changes: list[Change] = []
        for stream in gap.streams:
            self._unwatch(stream)
            if stream in self._holes:
                continue
            changes.extend(self._sampled.ended(stream, gap.at_ms))
            self._holes[stream] = Hole(gap.at_ms, gap.reason.value)
            changes.append(HoleOpened(str(stream), stream.venue, gap.at_ms, gap.reason.value, gap.detail))
        return changes

    def end_holes(self, streams: Iterable[StreamKey], at_ms: int) -> list[Change]:
        """End the holes of streams that nobody asks for any more because others replace them."""
        ended: list[Change] = []
        for stream in list(streams):
            ended.extend(self._sampled.ended(stream, at_ms))
            if stream in self._holes:
                ended.append(self._end_hole(stream, at_ms))
        return ended

    # -- what was known before -------------------------------------------------------------------------------------

    def restore_order(self, trader: str, dex: str, order: Order, revision: int, *, untracked: bool = False) -> None:
        """Take an open (or untracked) order as stored as known; the first list will be compared with it."""
        state = self._orders_state(trader, dex)
        if order.oid not in state.known:
            self._count_orders(1)
        restore_order(state, order, revision, untracked=untracked)

    def restore_closed_order(
        self,
        trader: str,
        dex: str,
        oid: int,
        *,
        revision: int,
        cloid: str | None,
        closed_ms: int,
        explained: bool = False,
    ) -> None:
        """Remember an order that closed shortly before the start; without effect on one that is open again.

        ``explained``: the venue has told its end.
        """
        state = self._orders_state(trader, dex)
        if oid not in state.known:
            restore_closed(state, oid, revision, cloid, closed_ms)
            if explained:
                note_ending(state, oid, closed_ms)

    def restore_position(
        self, trader: str, dex: str, position: Position, revision: int, *, untracked: bool = False
    ) -> None:
        """Take an open (or untracked) position as stored as known."""
        state = self._positions_state(trader, dex)
        if position.coin not in state.known:
            self._count_positions(1)
        restore_position(state, position, revision, untracked=untracked)

    def restore_closed_position(self, trader: str, dex: str, coin: str, revision: int) -> None:
        """Remember how far a closed position has counted."""
        restore_closed_position(self._positions_state(trader, dex), coin, revision)

    def restore_hole(self, stream: StreamKey, hole: Hole) -> None:
        """Take a hole as stored as still open; it ends with the stream's next data."""
        if hole.reason == SAMPLED:
            self._sampled.restore(stream, hole.from_ms)
        else:
            self._holes[stream] = hole

    def explain(self, history: OrderHistory) -> list[Change]:
        """What a history that was looked up says of known orders: why they ended. It leaves all others alone."""
        trader = history.trader
        told = structs.replace(history, is_snapshot=True)
        return list(apply_history(HistoryState(), told, lambda dex: self._orders.get((trader, dex))))

    def is_open(self, trader: str, dex: str, oid: int) -> bool:
        """Whether this order is known as open."""
        state = self._orders.get((trader, dex))
        return state is not None and oid in state.known

    def note_ended(self, trader: str, dex: str, oid: int, told_ms: int) -> None:
        """An order that no list has shown is stored as ended: a late list that shows it is to be ignored."""
        state = self._orders.get((trader, dex))
        if state is not None:
            note_ending(state, oid, told_ms)

    def untrack(self, trader: str, venue: str, at_ms: int) -> list[Change]:
        """A trader is let go: what was open is out of sight from now on, and everything of the trader is dropped."""
        changes: list[Change] = []
        for (address, _), orders in self._orders.items():
            if address == trader:
                changes += untrack_orders(orders, venue, at_ms)
        for (address, _), positions in self._positions.items():
            if address == trader:
                changes += untrack_positions(positions, venue, at_ms)
        self.forget(trader)
        for change in changes:
            self._metrics.add(ORDER_CHANGES if isinstance(change, OrderChange) else POSITION_CHANGES, "untracked")
        return changes

    def forget(self, trader: str) -> None:
        """Drop everything known of a trader who is no longer followed."""
        for key in [key for key in self._orders if key[0] == trader]:
            self._count_orders(-len(self._orders.pop(key).known))
        for key in [key for key in self._positions if key[0] == trader]:
            self._count_positions(-len(self._positions.pop(key).known))
        self._fills.pop(trader, None)
        self._histories.pop(trader, None)
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
        if isinstance(message, Trade):  # by far the most frequent
            self._apply_trade(message, changes)
        elif isinstance(message, OrdersSnapshot):
            if self._kinds.orders:
                self._apply_orders(stream, message, changes)
        elif isinstance(message, OrderHistory):
            if self._kinds.orders:
                self._apply_history(message, changes)
        elif isinstance(message, PositionsSnapshot):
            if self._kinds.positions:
                self._apply_positions(stream, message, changes)
        elif isinstance(message, Book):
            self._apply_book(message, changes)
        elif isinstance(message, Fill):
            self._apply_fill(message, changes)
        else:
            changes.extend(self._market.apply(message))

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

    def _apply_history(self, message: OrderHistory, changes: list[Change]) -> None:
        history = self._histories.get(message.trader)
        if history is None:
            history = self._histories[message.trader] = HistoryState()
        trader = message.trader
        for change in apply_history(history, message, lambda dex: self._orders.get((trader, dex))):
            if isinstance(change, OrderChange):
                self._metrics.add(ORDER_CHANGES, change.action)
            changes.append(change)

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
            recent = self._trades[key] = RecentIds()
        if recent.add(trade.trade_id):
            changes.append(TradeSeen(trade))

    def _apply_fill(self, fill: Fill, changes: list[Change]) -> None:
        recent = self._fills.get(fill.trader)
        if recent is None:
            recent = self._fills[fill.trader] = RecentIds()
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

    def _note_look(self, data: Data, changes: list[Change]) -> None:
        """A look at a stream that is not seen all the time, or the first live data of one that was not."""
        stream, now_ms = data.stream, data.arrived_ms
        if now_ms is None or stream in self._holes:
            return
        if data.within_s is None:
            changes.extend(self._sampled.ended(stream, now_ms))
            return
        self._unwatch(stream)  # what vanished since the last look was not seen to vanish
        since_ms = max((state.seen_ms for state in self._fed.get(stream, ()) if state.stream == stream), default=0)
        just_back = any(isinstance(change, HoleClosed) for change in changes)
        since_ms = now_ms if just_back or not 0 < since_ms <= now_ms else since_ms
        changes.extend(self._sampled.looked(stream, data.within_s, since_ms, now_ms))

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
