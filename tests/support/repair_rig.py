"""Repair and the search for reasons over the store in memory and a history that is scripted."""

from src.jobs.repair import repair as module
from src.jobs.repair.history import PastOrder, Shown
from src.jobs.repair.reasons import Reasons
from src.jobs.repair.repair import Repair
from src.jobs.repair.store import RepairStore
from src.models.changes import HoleClosed, HoleOpened, OrderChange
from src.models.clock import ManualClock
from src.models.messages import Fill, OrderStatus, Trade
from src.models.metrics import REPAIRS, Metrics
from src.models.orders import Order
from src.models.streams import StreamKey
from src.models.writes import Collection
from src.pipeline.batches import BatchBuilder
from src.store.memory import MemoryStore

NOW_MS = 1_700_000_000_000
FROM_MS, TO_MS = NOW_MS - 60_000, NOW_MS - 1_000
TRADER, OTHER = "0x" + "a" * 40, "0x" + "b" * 40


class ScriptedHistory:
    venue = "toy"
    shown = {  # noqa: RUF012 - read only
        "orders": frozenset({Shown.ORDERS}),
        "positions": frozenset({Shown.POSITIONS}),
        "both": frozenset({Shown.ORDERS, Shown.POSITIONS}),
        "fills": frozenset({Shown.FILLS}),
        "trades": frozenset({Shown.TRADES}),
        "books": frozenset({Shown.BOOKS}),
    }
    most_orders = 2_000
    weight_of_one = 2
    fills_page = 3
    fills_reach = 100

    def __init__(self):
        self.orders, self.listed, self.all_fills, self.trades = {}, [], [], {}
        self.asked, self.errors = [], []
        self.gate = None

    async def _ask(self, *question):
        self.asked.append(question)
        if self.gate is not None:
            await self.gate.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def past_order(self, trader, oid):
        await self._ask("order", trader, oid)
        return self.orders.get(oid)

    async def past_orders(self, trader, since_ms=None):
        del since_ms
        await self._ask("orders", trader)
        return self.listed

    def weight_of_all(self, trader, rows):
        del trader
        return 20 + rows // 20

    async def fills(self, trader, start_ms):
        await self._ask("fills", trader, start_ms)
        rows = [one for one in self.all_fills if one.trader == trader and one.time_ms >= start_ms]
        return rows[: self.fills_page]

    async def recent_trades(self, symbol):
        await self._ask("trades", symbol)
        return self.trades.get(symbol, [])


def order_change(oid, action, revision, *, observed=None, trader=TRADER, venue="toy", **more):
    order = Order(oid, "BTC", "B", "1.0", "2.0", timestamp=FROM_MS - 5_000)
    return OrderChange(venue, trader, "", action, order, revision, {}, None, NOW_MS, observed=observed, **more)


def late(oid, **more):
    return order_change(oid, "closed", 2, observed="late", **more)


def live(oid, **more):
    return order_change(oid, "closed", 2, observed="live", **more)


def past(oid, status="filled", at_ms=FROM_MS + 7, **fields):
    """A row of a history that tells the order too."""
    order = Order(oid, "BTC", "B", "1.0", "0.0", "2.0", timestamp=FROM_MS + 3, orderType="Limit", **fields)
    is_end = status not in {"open", "triggered"}
    return PastOrder(oid, status, at_ms, ended=is_end, row=OrderStatus(order, status, at_ms, ended=is_end))


def ended(oid, status="filled", at_ms=FROM_MS + 7):
    return PastOrder(oid, status, at_ms, ended=status not in {"open", "triggered"})


def a_fill(number, time_ms=None, received_ms=None):
    time_ms = FROM_MS + number if time_ms is None else time_ms
    return Fill("toy", TRADER, "BTC", "1", "1", "B", time_ms, received_ms or NOW_MS, oid=5, tid=number)


def a_trade(number, time_ms=None, received_ms=None):
    time_ms = FROM_MS + number if time_ms is None else time_ms
    return Trade("toy", "BTC", f"{number}", "1", "1", "B", time_ms, received_ms or NOW_MS)


class Rig:
    def __init__(self, **options):
        self.store, self.clock, self.metrics = MemoryStore(), ManualClock(wall_ms=NOW_MS), Metrics()
        self.history, self.published = ScriptedHistory(), []
        self.explained = []
        self.restart(**options)

    def restart(self, *, limit=20_000, **options):
        """Another run on the same database."""
        self.reasons = Reasons(
            RepairStore(self.store, self.metrics),
            self.history,
            self.clock,
            self.metrics,
            explained=self.explained.extend,
            limit=limit,
            poll_s=0.01,
        )
        options = {"publish": self.published.extend, "poll_s": 0.01, "learned": self.reasons.learned} | options
        self.repair = Repair(self.store, self.history, self.clock, self.metrics, **options)

    async def put(self, *changes):
        """Store changes as the flush would."""
        builder = BatchBuilder(1)
        for change in changes:
            builder.add(change)
        result = await self.store.write(builder.build())
        assert not result.rejected

    async def hear(self, *changes):
        """Tell the listener, then store: nothing may depend on the order."""
        self.tell(*changes)
        await self.put(*changes)

    def tell(self, *changes):
        """As the hub does."""
        self.repair.heard(changes)
        self.reasons.heard(changes)

    async def open_orders(self, *oids):
        await self.put(*[order_change(oid, "new", 1) for oid in oids])

    async def work(self, seconds=module.SETTLE_S):
        """Let so much time pass, and work at its end."""
        self.clock.advance(seconds)
        await self.repair.work()
        await self.reasons.work()

    async def hole(self, channel, subject=TRADER, reason="disconnect", *, stored=True, venue="toy", dex=""):
        stream = str(StreamKey(venue, channel, subject, dex))
        opened = HoleOpened(stream, venue, FROM_MS, reason)
        closed = HoleClosed(stream, venue, FROM_MS, TO_MS, reason)
        self.repair.heard([opened, closed])
        if stored:
            await self.put(opened, closed)
        return opened, closed

    def document(self, collection, identity):
        [found] = [d for d in self.store.documents(collection) if d["_id"] == identity]
        return found

    def order(self, oid):
        return self.document(Collection.TRADER_ORDERS, f"{TRADER}:{oid}")

    def event(self, oid, revision=2):
        return self.document(Collection.TRADER_ORDER_EVENTS, f"{TRADER}:{oid}:{revision}")

    def coverage(self, channel, subject=TRADER):
        return self.document(Collection.COVERAGE, f"toy/{channel}/{subject}:{FROM_MS}")

    def outcomes(self, what):
        return {labels[1]: n for labels, n in self.metrics.by_label(REPAIRS).items() if labels[0] == what}
