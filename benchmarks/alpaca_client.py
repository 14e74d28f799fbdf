"""One reader of Alpaca trades in a process of its own, so that its CPU time is its own.

``python -m benchmarks.alpaca_client ours|official|bare <ws_url> <key> <secret> <count> <symbols>`` reads ``count``
trades and prints ``{"trades", "cpu_s", "wall_s", "price_sum"}``: times are from the first trade to the last.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from msgspec import Struct

TIMEOUT_S = 300.0
FEED_PATH = "/v2/sip"


class Order(Struct, frozen=True):
    """What to read, and from where."""

    ws_url: str
    key: str
    secret: str
    count: int
    symbols: tuple[str, ...]


class Counter:
    """Counts trades, and the time from the first to the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.count = count
        self.price_sum = 0.0
        self.done = asyncio.Event()
        self._cpu_s = self._wall_s = 0.0

    def trade(self, price: float) -> None:
        if not self._wall_s:
            self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()
        self.price_sum += price
        self.left -= 1
        if not self.left:
            self._cpu_s = time.process_time() - self._cpu_s
            self._wall_s = time.perf_counter() - self._wall_s
            self.done.set()

    def result(self) -> dict[str, Any]:
        return {
            "trades": self.count - self.left,
            "cpu_s": self._cpu_s,
            "wall_s": self._wall_s,
            "price_sum": round(self.price_sum, 2),
        }


async def ours(order: Order) -> dict[str, Any]:
    """Connection, mapper, diff and hub, as in the program; without the store."""
    from src.models.changes import TradeSeen  # noqa: PLC0415 - each reader loads only what it needs
    from src.models.messages import Data, Gap, Refusal  # noqa: PLC0415
    from src.models.metrics import Metrics  # noqa: PLC0415
    from src.pipeline.diff import Diff  # noqa: PLC0415
    from src.pipeline.hub import Hub  # noqa: PLC0415
    from src.venues.alpaca.feed import AlpacaFeed, subscriptions_of  # noqa: PLC0415
    from src.venues.budget import Budget  # noqa: PLC0415
    from src.venues.clock import SystemClock  # noqa: PLC0415
    from src.venues.pool import Pool  # noqa: PLC0415

    counter, metrics, clock = Counter(order.count), Metrics(), SystemClock()
    diff, hub = Diff(metrics=metrics), Hub(metrics=metrics)

    def listen(changes: Any) -> None:
        for change in changes:
            if type(change) is TradeSeen:
                counter.trade(float(change.trade.price))

    hub.listen("benchmark", listen)

    class ToTheHub:
        def data(self, data: Data) -> None:
            changes = diff.apply(data)
            if changes:
                hub.publish(changes)

        def gap(self, gap: Gap) -> None:
            if counter.left:
                raise RuntimeError(f"a gap: {gap}")

        def refused(self, refusal: Refusal, failed: Any) -> None:
            raise RuntimeError(f"refused: {refusal} {failed}")

        def rejected(self, letter: Any) -> None:
            raise RuntimeError(f"rejected: {letter}")

    feed = AlpacaFeed(order.ws_url, feed="sip", key=order.key, secret=order.secret)
    budget = Budget(feed.limits, clock=clock, spacing_s=0.0)
    pool = Pool(feed=feed, sink=ToTheHub(), clock=clock, metrics=metrics, budget=budget, clients=1)
    pool.set_target(subscriptions_of(order.symbols, ["trades"]))
    running = asyncio.create_task(pool.run())
    await asyncio.wait_for(counter.done.wait(), TIMEOUT_S)
    await pool.close()
    await running
    return counter.result()


async def official(order: Order) -> dict[str, Any]:
    """The vendor's client with its models, as its documentation shows it."""
    from alpaca.data.enums import DataFeed  # noqa: PLC0415
    from alpaca.data.live import StockDataStream  # noqa: PLC0415

    counter = Counter(order.count)
    stream = StockDataStream(order.key, order.secret, feed=DataFeed.SIP, url_override=order.ws_url + FEED_PATH)

    async def handle(trade: Any) -> None:
        counter.trade(trade.price)

    stream.subscribe_trades(handle, *order.symbols)
    running = asyncio.create_task(stream._run_forever())  # noqa: SLF001 - `run` would block this thread
    await asyncio.wait_for(counter.done.wait(), TIMEOUT_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return counter.result()


async def bare(order: Order) -> dict[str, Any]:
    """The ceiling: the WebSocket library and MessagePack into dictionaries, nothing else."""
    import msgspec  # noqa: PLC0415
    from websockets.asyncio.client import connect  # noqa: PLC0415

    counter, decode = Counter(order.count), msgspec.msgpack.Decoder().decode
    headers = {"Content-Type": "application/msgpack"}
    async with connect(order.ws_url + FEED_PATH, additional_headers=headers, compression=None) as socket:
        await socket.recv()
        await socket.send(msgspec.msgpack.encode({"action": "auth", "key": order.key, "secret": order.secret}))
        await socket.recv()
        await socket.send(msgspec.msgpack.encode({"action": "subscribe", "trades": list(order.symbols)}))
        await socket.recv()
        while counter.left:
            for message in decode(await socket.recv()):
                counter.trade(message["p"])
    return counter.result()


READERS = {"ours": ours, "official": official, "bare": bare}


def main(arguments: list[str]) -> None:
    name, ws_url, key, secret, count, symbols = arguments
    order = Order(ws_url, key, secret, int(count), tuple(symbols.split(",")))
    sys.stdout.write(json.dumps(asyncio.run(READERS[name](order))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
