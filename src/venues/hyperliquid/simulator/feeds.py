"""Publishing: first frames, frames that are due, frames on change, and the faults of single frames."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from src.venues.hyperliquid.simulator.config import Cadences, SimulatorConfig
from src.venues.hyperliquid.simulator.exchange import REPLAYED_TRADES
from src.venues.hyperliquid.simulator.faults import FaultKind, Faults
from src.venues.hyperliquid.simulator.frames import BuiltFrame, FrameBuilder
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.sessions import FeedState, SentFrame, Session
from src.venues.hyperliquid.simulator.shapes import Frame, encode
from src.venues.hyperliquid.simulator.subscriptions import INCREMENTAL_TYPES, Subscription
from src.venues.hyperliquid.simulator.truth import Delivery, DeliveryLog, ShownAs

_TIMED = frozenset({"clearinghouseState", "webData2", "l2Book"})
_LISTS_ORDERS = frozenset({"openOrders", "webData2"})
_LISTS_POSITIONS = frozenset({"clearinghouseState", "webData2"})
_ON_CHANGE_ONLY = frozenset({"bbo", "candle"})
"""Looked at on a cadence, sent only when the content (for a bbo: all but the time) changed."""
_GLITCH_KNOWN = 10
_REPAIRABLE = (FaultKind.DUPLICATE, FaultKind.MALFORMED, FaultKind.RESET)
_BROKEN_FRAMES = (b"[]", b"null", b'{"channel":"openOrders","data":[]}', b'{"channel":"clearinghouseState"}')


class Publisher:
    """Sends what subscriptions are due. Synchronous: a frame is built, sent and logged in one go."""

    def __init__(self, config: SimulatorConfig, payloads: Payloads, faults: Faults, log: DeliveryLog) -> None:
        self._config = config
        self._payloads = payloads
        self._builder = FrameBuilder(payloads, with_rows=log.enabled)
        self._faults = faults
        self._log = log
        self._rng = random.Random(config.market.seed + 1)  # noqa: S311 - reproducible faults, not a secret
        self._due: list[tuple[float, int, Session, FeedState]] = []
        self._serial = itertools.count()
        self._on_change: dict[tuple[str, str], dict[int, Session]] = defaultdict(dict)
        self._last_oids: dict[tuple[str, str], tuple[frozenset[int], bool]] = {}

    def started(self, session: Session, sub: Subscription, now_s: float) -> None:
        """A subscription was accepted: send its first frame and plan the next ones."""
        feed = session.feeds[sub]
        if sub.type in INCREMENTAL_TYPES:
            self._on_change[_route(sub)][session.number] = session
            self._send_history(session, sub, now_s)
            return
        self._send_state(session, feed, now_s)
        self._plan(session, feed, now_s + _cadence(self._config.cadences, sub))

    def stopped(self, session: Session, sub: Subscription) -> None:
        """A subscription ended."""
        if sub.type in INCREMENTAL_TYPES:
            self._on_change[_route(sub)].pop(session.number, None)

    def hurry(self, now_s: float) -> None:
        """Make every planned frame due now."""
        planned, self._due = self._due, []
        for _, _, session, feed in planned:
            self._plan(session, feed, now_s)

    def publish(self, now_s: float) -> None:
        """Send changes since the last call and every frame that is due."""
        self._send_changes(now_s)
        while self._due and self._due[0][0] <= now_s:
            _, _, session, feed = heapq.heappop(self._due)
            if session.feeds.get(feed.subscription) is not feed:
                continue
            self._send_state(session, feed, now_s)
            cadence_s = _cadence(self._config.cadences, feed.subscription)
            self._plan(session, feed, max(feed.due_s + cadence_s, now_s + cadence_s / 2))

    def _plan(self, session: Session, feed: FeedState, due_s: float) -> None:
        feed.due_s = due_s
        heapq.heappush(self._due, (due_s, next(self._serial), session, feed))

    # --- whole states ---------------------------------------------------------------------------------------------

    def _send_state(self, session: Session, feed: FeedState, now_s: float) -> None:
        sub = feed.subscription
        if not session.is_open or self._faults.is_silent(sub):
            return
        if sub.type == "candle" and self._payloads.candles.current(sub.coin or "", sub.interval or "1m") is None:
            return
        if self._config.change_per_frame and sub.type in _LISTS_ORDERS and sub.user in self._payloads.market.traders:
            self._payloads.market.change_one_order(self._payloads.market.traders[sub.user])
        fault = self._faults.armed_for(sub, self._possible_faults(sub, feed))
        if fault is None:
            self._send_built(session, feed, self._builder.build(sub), "normal", now_s)
            return
        self._faults.struck_by(fault, sub)
        self._send_faulty(session, feed, fault, now_s)

    def _send_faulty(self, session: Session, feed: FeedState, fault: FaultKind, now_s: float) -> None:
        sub = feed.subscription
        if fault is FaultKind.PARTIAL:
            sections = ("openOrders", "assetPositions") if sub.type == "webData2" else ("assetPositions",)
            built = self._builder.build(sub, leave_out=self._rng.choice(sections))
            self._send_built(session, feed, built, "partial", now_s)
        elif fault is FaultKind.GLITCH:
            built = self._builder.build(sub, keep_orders=self._glitch_length(sub))
            self._send_built(session, feed, built, "glitch", now_s)
        elif fault is FaultKind.MALFORMED:
            whole = self._builder.build(sub).data
            broken = self._rng.choice((whole[: self._rng.randrange(1, len(whole))], *_BROKEN_FRAMES, b"\x00\xff\x00"))
            session.send(broken, now_s, binary=broken.startswith(b"\x00"))
        elif fault is FaultKind.RESET:
            session.reset_in_frame(self._builder.build(sub).data)
        else:
            previous = feed.last
            self._send_built(session, feed, self._builder.build(sub), "normal", now_s)
            again = previous if fault is FaultKind.LATE else feed.last
            if again is not None and session.send(again.data, now_s):
                self._note(session, sub, again.deliveries, "late" if fault is FaultKind.LATE else "duplicate")

    def _possible_faults(self, sub: Subscription, feed: FeedState) -> tuple[FaultKind, ...]:
        possible: tuple[FaultKind, ...] = _REPAIRABLE
        last = feed.last
        if sub.type in _TIMED and last is not None and (last.time_ms or 0) < self._payloads.market.now_ms:
            possible += (FaultKind.LATE,)
        if sub.type in _LISTS_POSITIONS:
            possible += (FaultKind.PARTIAL,)
        if sub.type in _LISTS_ORDERS and self._glitch_length(sub) is not None:
            possible += (FaultKind.GLITCH,)
        return possible

    def _glitch_length(self, sub: Subscription) -> int | None:
        """How many orders to show so that clearly more than half vanish, None when it would not be a glitch."""
        user, dex = sub.user or "", sub.dex or ""
        last, doubtful = self._last_oids.get((user, dex), (frozenset(), False))
        if doubtful or len(last) < _GLITCH_KNOWN:
            return None
        orders = self._payloads.orders(user, dex)
        keep = len(orders) // 5
        shown = {member.oid for order in orders[:keep] for member in order.family()}
        return keep if 2 * len(last - shown) > len(last) else None

    def _send_built(
        self, session: Session, feed: FeedState, built: BuiltFrame, shown_as: ShownAs, now_s: float
    ) -> None:
        sub = feed.subscription
        if sub.type in _ON_CHANGE_ONLY:
            content = built.data.partition(b'"bbo":')[2] or built.data
            if content == feed.last_content:
                return
            feed.last_content = content
        if not session.send(built.data, now_s):
            return
        if not built.shown:
            feed.last = SentFrame(built.data, built.time_ms, ()) if sub.type in _TIMED else None
            return
        deliveries = [
            Delivery(
                seq=0,
                session=session.number,
                channel=sub.type,
                trader=sub.user or "",
                dex=part.dex,
                time_ms=part.time_ms,
                sent_ms=self._payloads.market.now_ms,
                orders=part.orders,
                positions=part.positions,
            )
            for part in built.shown
        ]
        if self._log.enabled:
            self._watch_oids(deliveries)
            feed.last = SentFrame(built.data, built.time_ms, deliveries)
            self._note(session, sub, deliveries, shown_as, fresh=True)

    def _note(
        self,
        session: Session,
        sub: Subscription,
        deliveries: Sequence[Delivery],
        shown_as: ShownAs,
        *,
        fresh: bool = False,
    ) -> None:
        if not self._log.enabled or sub.user is None:
            return
        items = list(deliveries) if fresh else [structs.replace(item, delivered=None) for item in deliveries]
        for item in items:
            item.shown = shown_as
            item.session = session.number
            item.settled = self._payloads.market.frozen
            self._log.add(item)
        session.note(items)

    def _watch_oids(self, deliveries: Sequence[Delivery]) -> None:
        for item in deliveries:
            if item.orders is not None:
                key = (item.trader, item.dex)
                before, _ = self._last_oids.get(key, (frozenset[int](), False))
                now = frozenset(item.orders)
                doubtful = len(before) >= _GLITCH_KNOWN and 2 * len(before - now) > len(before)
                self._last_oids[key] = (now, doubtful)

    # --- histories and changes ------------------------------------------------------------------------------------

    def _send_history(self, session: Session, sub: Subscription, now_s: float) -> None:
        if self._faults.is_silent(sub):
            return
        exchange = self._payloads.market.exchange
        trader = exchange.traders.get(sub.user or "")
        if sub.type == "trades":
            recent = list(exchange.recent_trades[sub.coin or ""])[-REPLAYED_TRADES:]
            if recent:
                session.send(encode(Frame("trades", recent)), now_s)
        elif sub.type == "userFills":
            fills = list(trader.fills)[-self._config.first_frame_rows :] if trader is not None else []
            session.send(encode(Frame(sub.type, {"isSnapshot": True, "user": sub.user, "fills": fills})), now_s)
        elif sub.type == "userHistoricalOrders":
            rows = list(reversed(trader.history))[: self._config.first_frame_rows] if trader is not None else []
            session.send(encode(Frame(sub.type, {"isSnapshot": True, "user": sub.user, "orderHistory": rows})), now_s)

    def _send_changes(self, now_s: float) -> None:
        outbox = self._payloads.market.exchange.outbox
        trades: dict[str, list[Any]] = defaultdict(list)
        cancels: dict[str, list[Any]] = defaultdict(list)
        while outbox.trades:
            trade = outbox.trades.popleft()
            self._payloads.candles.add(trade)
            trades[trade.coin].append(trade)
        while outbox.system_cancels:
            user, coin, oid = outbox.system_cancels.popleft()
            cancels[user].append({"coin": coin, "oid": oid})
        for coin, rows in trades.items():
            self._send_change(("trades", coin), Frame("trades", rows), now_s)
        for user, rows in _taken(outbox.fills).items():
            self._send_change(("userFills", user), Frame("userFills", {"user": user, "fills": rows}), now_s)
            self._send_change(("userEvents", user), Frame("user", {"fills": rows}), now_s)
        for user, rows in _taken(outbox.updates).items():
            self._send_change(("orderUpdates", user), Frame("orderUpdates", rows), now_s)
        for user, rows in _taken(outbox.statuses).items():
            route = ("userHistoricalOrders", user)
            self._send_change(route, Frame(route[0], {"user": user, "orderHistory": rows}), now_s)
        for user, rows in cancels.items():
            self._send_change(("userEvents", user), Frame("user", {"nonUserCancel": rows}), now_s)

    def _send_change(self, route: tuple[str, str], frame: Frame, now_s: float) -> None:
        listeners = self._on_change.get(route)
        if not listeners:
            return
        kind, subject = route
        sub = Subscription(type=kind, coin=subject) if kind == "trades" else Subscription(type=kind, user=subject)
        if self._faults.is_silent(sub):
            return
        data = encode(frame)
        for session in listeners.values():
            session.send(data, now_s)


def _taken(queue: deque[tuple[str, Any]]) -> Mapping[str, list[Any]]:
    """Everything that waits, by user."""
    rows: dict[str, list[Any]] = defaultdict(list)
    while queue:
        user, row = queue.popleft()
        rows[user].append(row)
    return rows


def _route(sub: Subscription) -> tuple[str, str]:
    return sub.type, sub.user or sub.coin or ""


def _cadence(cadences: Cadences, sub: Subscription) -> float:
    if sub.user is not None:
        return cadences.trader_s
    if sub.type == "l2Book":
        return cadences.fast_book_s if sub.fast else cadences.book_s
    if sub.type in _ON_CHANGE_ONLY:
        return cadences.bbo_s
    return cadences.mids_s if sub.type == "allMids" else cadences.context_s
