"""Frames of the state feeds, together with what the delivery log must know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from src.venues.hyperliquid.simulator.orders import SimOrder
from src.venues.hyperliquid.simulator.payloads import Payloads
from src.venues.hyperliquid.simulator.shapes import Frame, UserOrders, UserState, encode
from src.venues.hyperliquid.simulator.subscriptions import Subscription
from src.venues.hyperliquid.simulator.truth import Row


class Shown(Struct, frozen=True):
    """What a frame says about one trader on one dex; see `truth.Delivery`."""

    dex: str
    time_ms: int | None
    orders: Mapping[int, Row] | None = None
    positions: Mapping[str, Row] | None = None


class BuiltFrame(Struct, frozen=True):
    """A frame ready to send; ``shown`` is empty for market data."""

    data: bytes
    time_ms: int | None
    shown: Sequence[Shown] = ()


class FrameBuilder:
    """Builds the frames that carry a whole state.

    Args:
        payloads: what is true now.
        with_rows: also copy what the frame shows (off for benchmarks).
    """

    def __init__(self, payloads: Payloads, *, with_rows: bool) -> None:
        self._payloads = payloads
        self._with_rows = with_rows

    def build(self, sub: Subscription, *, keep_orders: int | None = None, leave_out: str | None = None) -> BuiltFrame:
        """The next frame of a state feed.

        Args:
            sub: what is subscribed.
            keep_orders: show only so many orders (the venue's glitch).
            leave_out: ``openOrders`` or ``assetPositions``: a section to leave out.
        """
        user = sub.user
        if user is None:
            return self._market_frame(sub)
        if sub.type == "openOrders":
            return self._open_orders(user, sub.dex or "", keep_orders)
        if sub.type == "clearinghouseState":
            return self._clearinghouse(user, sub.dex or "", leave_out)
        if sub.type == "allDexsClearinghouseState":
            return self._all_dexes(user)
        if sub.type == "webData2":
            return self._web_data2(user, keep_orders, leave_out)
        data: dict[str, Any] = (
            self._payloads.web_data3(user)
            if sub.type == "webData3"
            else {"user": user, "spotState": self._payloads.spot_state(user)}
        )
        return BuiltFrame(encode(Frame(sub.type, data)), None)

    def _open_orders(self, user: str, dex: str, keep: int | None) -> BuiltFrame:
        orders = self._payloads.orders(user, dex)[:keep]
        data = encode(Frame("openOrders", UserOrders(dex, user, [order.raw() for order in orders])))
        return BuiltFrame(data, None, (Shown(dex, None, orders=self._order_rows(orders)),))

    def _clearinghouse(self, user: str, dex: str, leave_out: str | None) -> BuiltFrame:
        state = self._payloads.clearinghouse(user, dex)
        positions: Mapping[str, Row] | None = self._position_rows(user, dex)
        if leave_out == "assetPositions":
            state, positions = msgspec.structs.replace(state, assetPositions=UNSET), None
        data = encode(Frame("clearinghouseState", UserState(dex, user, state)))
        return BuiltFrame(data, state.time, (Shown(dex, state.time, positions=positions),))

    def _all_dexes(self, user: str) -> BuiltFrame:
        dexes = self._payloads.market.dexes
        states = [(dex, self._payloads.clearinghouse(user, dex)) for dex in dexes]
        data = encode(Frame("allDexsClearinghouseState", {"user": user, "clearinghouseStates": states}))
        now_ms = self._payloads.market.now_ms
        return BuiltFrame(data, now_ms, [Shown(d, now_ms, positions=self._position_rows(user, d)) for d in dexes])

    def _web_data2(self, user: str, keep: int | None, leave_out: str | None) -> BuiltFrame:
        whole = self._payloads.web_data2(user)
        orders: Mapping[int, Row] | None = None
        positions: Mapping[str, Row] | None = self._position_rows(user, "")
        if leave_out == "openOrders":
            whole = msgspec.structs.replace(whole, openOrders=UNSET)
        else:
            listed = self._payloads.orders(user, "")[:keep]
            whole = msgspec.structs.replace(whole, openOrders=[order.raw() for order in listed])
            orders = self._order_rows(listed)
        if leave_out == "assetPositions":
            state = msgspec.structs.replace(whole.clearinghouseState, assetPositions=UNSET)
            whole, positions = msgspec.structs.replace(whole, clearinghouseState=state), None
        shown = Shown("", whole.serverTime, orders=orders, positions=positions)
        return BuiltFrame(encode(Frame("webData2", whole)), whole.serverTime, (shown,))

    def _market_frame(self, sub: Subscription) -> BuiltFrame:
        payloads, coin = self._payloads, sub.coin or ""
        if sub.type == "l2Book":
            book = payloads.book(sub)
            return BuiltFrame(encode(Frame("l2Book", book)), book.time)
        if sub.type == "bbo":
            return BuiltFrame(encode(Frame("bbo", payloads.bbo(coin))), None)
        if sub.type == "candle":
            return BuiltFrame(encode(Frame("candle", payloads.candles.current(coin, sub.interval or "1m"))), None)
        if sub.type == "activeAssetCtx":
            instrument = payloads.market.exchange.books[coin].coin
            return BuiltFrame(encode(Frame(sub.type, {"coin": coin, "ctx": payloads.context(instrument)})), None)
        mids: dict[str, Any] = {"mids": payloads.mids(sub.dex or "")}
        return BuiltFrame(encode(Frame("allMids", {"dex": sub.dex, **mids} if sub.dex else mids)), None)

    def _order_rows(self, orders: Sequence[SimOrder]) -> dict[int, Row]:
        if not self._with_rows:
            return {}
        return {member.oid: member.row() for order in orders for member in order.family()}

    def _position_rows(self, user: str, dex: str) -> Mapping[str, Row]:
        return self._payloads.position_rows(user, dex) if self._with_rows else {}
