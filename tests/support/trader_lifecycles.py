"""A tiny exchange for property tests: one trader's orders and positions, and what is shown of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st
from msgspec import structs

from src.models.messages import Data, Gap, GapReason
from src.models.orders import Order
from src.models.positions import Leverage, Position
from tests.support.trader_states import START_MS, an_order, orders_data, positions_data

Step = tuple[str, int]

ACTIONS = (
    "place",
    "place",
    "place child",
    "fill part",
    "rewrite",
    "cancel",
    "modify",
    "cancel all",
    "activate",
    "open",
    "grow",
    "shrink",
    "flip",
    "lever",
    "close",
    "show",
    "show",
    "show",
    "show",
    "repeat",
    "older",
    "gap",
    "drain",
)

STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 10_000)), max_size=60)


class Exchange:
    """Does what the steps say and yields what a collector would receive; a `Gap` or "drain" in between."""

    def __init__(self, *, timed: bool, most_orders: int = 40) -> None:
        self.orders: dict[int, Order] = {}
        self.positions: dict[str, Position] = {}
        self.shown: list[tuple[dict[int, Order], dict[str, Position]]] = []
        self.now_ms = START_MS
        self._timed = timed
        self._most_orders = most_orders
        self._oid = 0
        self._sent: list[tuple[Data, ...]] = []

    def run(self, steps: Sequence[Step]) -> Iterator[Data | Gap | str]:
        """Everything in order of arrival; at the end the final state twice, so that no doubt is left."""
        yield from self.show()
        for action, number in steps:
            yield from self.do(action, number)
        yield from self.show()
        yield from self.show()

    def do(self, action: str, number: int) -> Iterator[Data | Gap | str]:
        """One step, after at least one `show`."""
        match action:
            case "show":
                yield from self.show()
            case "repeat":
                yield from self._again(self._sent[-1])
            case "older" if self._timed:
                yield from self._again(self._sent[number % len(self._sent)])
            case "gap":
                streams = tuple(data.stream for data in self._sent[-1])
                yield Gap(streams, GapReason.DISCONNECT, self.now_ms)
            case "drain":
                yield "drain"
            case _:
                self._trade(action, number)

    def reconnect(self) -> Iterator[Data]:
        """What was sent on an earlier connection is not repeated on a new one, which begins with the present state."""
        self._sent.clear()
        yield from self.show()

    def show(self) -> Iterator[Data]:
        """The present state to everybody."""
        self.now_ms += 5_000
        venue_ms = self.now_ms if self._timed else None
        orders = list(self.orders.values())
        self.shown.append((dict(self.orders), dict(self.positions)))
        frames = (
            orders_data(orders, received_ms=self.now_ms, venue_ms=venue_ms),
            positions_data(self.positions.values(), received_ms=self.now_ms, venue_ms=self.now_ms),
        )
        self._sent.append(frames)
        yield from frames

    def _again(self, frames: tuple[Data, ...]) -> Iterator[Data]:
        self.now_ms += 100
        for data in frames:
            messages = tuple(structs.replace(message, received_ms=self.now_ms) for message in data.messages)
            yield structs.replace(data, messages=messages, received_ms=self.now_ms)

    def _trade(self, action: str, number: int) -> None:
        if action in {"open", "grow", "shrink", "flip", "lever", "close"}:
            self._trade_position(action, number)
            return
        resting = list(self.orders.values())
        chosen = resting[number % len(resting)] if resting else None
        match action:
            case "place" if len(resting) < self._most_orders:
                self._place(number)
            case "place child" if chosen is not None and len(resting) < self._most_orders:
                self._place(number, parentOid=chosen.oid, cloid=None)
            case "fill part" if chosen is not None:
                self.orders[chosen.oid] = structs.replace(chosen, sz=repr(float(chosen.sz) / 2))
            case "rewrite" if chosen is not None:  # the same number in another text
                self.orders[chosen.oid] = structs.replace(chosen, limitPx=chosen.limitPx + "0")
            case "activate" if chosen is not None:
                self.orders[chosen.oid] = structs.replace(chosen, parentOid=None)
            case "modify" if chosen is not None:
                del self.orders[chosen.oid]
                self._place(number, cloid=chosen.cloid)
            case "cancel" if chosen is not None:
                del self.orders[chosen.oid]
            case "cancel all" if number % 3 == 0:
                self.orders.clear()

    def _place(self, number: int, **fields: object) -> None:
        self._oid += 1
        known = {
            "sz": f"{1 + number % 97}.5",
            "limitPx": f"{number}.25",
            "cloid": f"0x{number % 5:032x}" if number % 2 else None,
            "timestamp": self.now_ms,
        }
        self.orders[self._oid] = an_order(self._oid, **{**known, **fields})

    def _trade_position(self, action: str, number: int) -> None:
        coin = ("BTC", "ETH", "xyz:TSLA")[number % 3]
        held = self.positions.get(coin)
        if held is None:
            if action == "open":
                sign = "-" if number % 2 else ""
                self.positions[coin] = Position(
                    coin, f"{sign}{1 + number % 50}.5", Leverage("cross", 5), f"{number}.5"
                )
            return
        size = float(held.szi)
        match action:
            case "grow":
                self.positions[coin] = structs.replace(held, szi=repr(size * 2), entryPx=f"{number}.125")
            case "shrink":
                self.positions[coin] = structs.replace(held, szi=repr(size / 2))
            case "flip":
                self.positions[coin] = structs.replace(held, szi=repr(-size), entryPx=f"{number}.125")
            case "lever":
                self.positions[coin] = structs.replace(held, leverage=Leverage("isolated", 1 + number % 20))
            case "close":
                del self.positions[coin]
