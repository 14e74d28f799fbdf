"""A venue's memory of one trader, with its limits; requests can be made to fail, and the program to die."""

from src.jobs.backfill.past import PastOrders, TradesPage
from src.models.errors import VenueError
from src.models.messages import Fill, OrderHistory, OrderStatus, Trade
from src.models.writes import Collection
from tests.support.trader_states import START_MS, TRADER, VENUE, an_order

LIVE = frozenset({"open", "triggered"})


def a_status(oid, status="filled", at_ms=START_MS + 1000, **fields):
    sz = "0.0" if status == "filled" else fields.pop("sz", "0.2")
    order = an_order(oid, sz=sz, **fields)
    return OrderStatus(order, status, at_ms, ended=status not in LIVE, lived=not status.endswith("Rejected"))


def a_fill(number, *, time_ms=None, oid=None, coin="BTC", trader=TRADER):
    return Fill(
        venue=VENUE,
        trader=trader,
        coin=coin,
        px="84000.0",
        sz="0.1",
        side="B",
        time_ms=START_MS + number if time_ms is None else time_ms,
        received_ms=START_MS,
        oid=number if oid is None else oid,
        tid=number,
    )


class ScriptedPast:
    """See `src.jobs.backfill.past.TraderPast`."""

    venue = VENUE

    def __init__(self, *, most_orders=2000, fills_page=2000, fills_reach=10_000):
        self.most_orders, self.fills_page, self.fills_reach = most_orders, fills_page, fills_reach
        self.statuses = {}
        self.executed = {}
        self.failures = []
        self.asked = []

    def adds(self, *statuses, trader=TRADER):
        self.statuses.setdefault(trader, []).extend(statuses)

    def fills_of(self, *fills, trader=TRADER):
        self.executed.setdefault(trader, []).extend(fills)

    async def orders(self, trader, since_ms):
        del since_ms
        self._ask("orders", trader)
        rows = sorted(self.statuses.get(trader, ()), key=lambda row: row.status_ms)[-self.most_orders :]
        history = OrderHistory(
            VENUE, trader, START_MS + 10_000_000, tuple(reversed(rows)), "history", is_snapshot=True
        )
        return PastOrders(history)

    async def fills(self, trader, start_ms):
        self._ask("fills", trader, start_ms)
        kept = sorted(self.executed.get(trader, ()), key=lambda fill: fill.time_ms)[-self.fills_reach :]
        return [fill for fill in kept if fill.time_ms >= start_ms][: self.fills_page]

    def _ask(self, *question):
        self.asked.append(question)
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure


class Killed(BaseException):
    """The program was killed here."""


class DyingStore:
    """A store over another one; the program dies at the given write (before it, or when half of it is stored)."""

    def __init__(self, store, *, at=None):
        self._store = store
        self.writes = 0
        self.at = at

    async def write(self, batch):
        self.writes += 1
        if self.writes == self.at:
            half = [group[: len(group) // 2] for group in batch.groups[:1]]
            await self._store.write(type(batch)(batch.seq, half))
            raise Killed
        return await self._store.write(batch)

    def __getattr__(self, name):
        return getattr(self._store, name)


class ScriptedTrades:
    """See `src.jobs.backfill.past.TradesPast`: pages of two trades."""

    venue = "alpaca"
    reach = "all of it"
    is_complete = True

    def __init__(self, trades):
        self.trades = trades
        self.failures = []
        self.asked = []

    async def page(self, symbol, from_ms, to_ms, token):
        self.asked.append((symbol, from_ms, token))
        if self.failures and (failure := self.failures.pop(0)) is not None:
            raise failure
        wanted = [trade for trade in self.trades if from_ms <= trade.time_ms < to_ms]
        place = int(token or 0)
        return TradesPage(wanted[place : place + 2], str(place + 2) if place + 2 < len(wanted) else None)


def a_trade(number, *, symbol="AAPL", time_ms=None):
    return Trade(
        venue="alpaca",
        symbol=symbol,
        trade_id=str(number),
        price="10.0",
        size="1",
        side=None,
        time_ms=START_MS + number * 1000 if time_ms is None else time_ms,
        received_ms=START_MS,
    )


TOLD = (Collection.TRADER_ORDERS, Collection.TRADER_ORDER_EVENTS, Collection.TRADER_FILLS, Collection.COVERAGE)


def told(store, *collections):
    """Everything stored, by collection and ``_id``, without when it was received."""
    return {
        collection: {
            document["_id"]: {name: value for name, value in document.items() if name not in OURS}
            for document in store.documents(collection)
        }
        for collection in collections or TOLD
    }


OURS = frozenset({"receivedAt", "createdAt", "updatedAt", "closeResolvedAt"})
AWAY = VenueError("the venue is away")
