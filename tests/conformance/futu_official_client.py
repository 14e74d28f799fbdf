"""Does the vendor's own client understand our simulated gateway, and mean by it what we mean?

Not part of the test suite, as the client brings some 200 MB of packages. Run by hand::

    uv run --group conformance python -m tests.conformance.futu_official_client

The client gets a home directory of its own for its logs. Exit code 0 when all agrees.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from queue import Empty, Queue
from typing import Any, Self

from src.models.clock import ManualClock
from src.models.messages import Book
from src.venues.futu import wire
from src.venues.futu.codec import Frame, pack
from src.venues.futu.feed import FutuFeed
from src.venues.futu.simulator import FutuSimulator, GatewayConfig
from src.venues.futu.simulator.market import SimulatedBook, SimulatedLevel, push_body

WAIT_S = 30.0
SYMBOLS = ("US.AAPL", "HK.00700")


class Gateway:
    """A simulated gateway in a thread of its own; the official client blocks."""

    def __init__(self, config: GatewayConfig) -> None:
        self.loop = asyncio.new_event_loop()
        self.simulator = FutuSimulator(config)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.simulator.__aenter__(), self.loop).result(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.simulator.__aexit__(None, None, None), self.loop).result(WAIT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)

    def do(self, action: Callable[[], Any]) -> Any:
        """Run something in the gateway's thread."""

        async def run() -> Any:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)


def check(what: str, *, holds: bool, seen: object = "") -> bool:
    """Print one line."""
    print(f"{'ok  ' if holds else 'FAIL'} {what}{'' if holds else f': {seen!r}'}", flush=True)
    return holds


def ours(book: SimulatedBook, received_ms: int) -> Book:
    """What our decoder makes of the same push."""
    feed = FutuFeed("127.0.0.1", 1, quota=1, clock=ManualClock(wall_ms=received_ms))
    data = feed.decode(pack(Frame(wire.ORDER_BOOK_PUSH, 0, push_body(book).SerializeToString())), received_ms)
    return data.messages[0]


def as_theirs(side: tuple[Any, ...]) -> list[tuple[float, float, int]]:
    return [(float(level.px), float(level.sz), level.n) for level in side]


def main() -> int:
    """Compare."""
    with tempfile.TemporaryDirectory(prefix="futu-home-", ignore_cleanup_errors=True) as home:
        os.environ["HOME"] = home
        import futu

        futu.SysConfig.set_all_thread_daemon(True)
        with Gateway(GatewayConfig(symbols=SYMBOLS, push_every_s=0.0, quota=1, minimum_hold_s=0.0)) as gateway:
            return 0 if all(compare(futu, gateway)) else 1


def compare(futu: Any, gateway: Gateway) -> list[bool]:
    """All checks, in the order of a session."""
    pushed: Queue[tuple[int, Any]] = Queue()

    class Handler(futu.OrderBookHandlerBase):
        def on_recv_rsp(self, rsp: Any) -> tuple[int, Any]:
            found = super().on_recv_rsp(rsp)
            pushed.put(found)
            return found

    def next_push() -> Any:
        try:
            return pushed.get(timeout=WAIT_S)
        except Empty:
            return None, None

    simulator = gateway.simulator
    client = futu.OpenQuoteContext(host=simulator.host, port=simulator.port)
    try:
        client.set_handler(Handler())
        results = [check("connects and asks for the state", holds=client.get_global_state()[0] == futu.RET_OK)]
        code, text = client.subscribe(["HK.00700"], [futu.SubType.ORDER_BOOK])
        results.append(check("subscribes", holds=code == futu.RET_OK, seen=text))
        code, first = next_push()
        results.append(
            check("gets the first push", holds=code == futu.RET_OK and first["code"] == "HK.00700", seen=first)
        )
        results += compare_pushes(futu, gateway, next_push)
        code, text = client.subscribe(["US.AAPL"], [futu.SubType.ORDER_BOOK])
        results.append(check("is refused beyond the quota", holds=code != futu.RET_OK and "quota" in text, seen=text))
        code, info = client.query_subscription()
        agreed = code == futu.RET_OK and (info["total_used"], info["remain"]) == (1, 0)
        results.append(check("reads the quota", holds=agreed, seen=info))
        code, book = client.get_order_book("HK.00700", num=10)
        results.append(check("polls a book", holds=code == futu.RET_OK and len(book["Bid"]) == 1, seen=book))
        code, text = client.unsubscribe(["HK.00700"], [futu.SubType.ORDER_BOOK])
        results.append(check("cancels", holds=code == futu.RET_OK, seen=text))
        return results
    finally:
        client.close()


def compare_pushes(futu: Any, gateway: Gateway, next_push: Callable[[], Any]) -> list[bool]:
    """The official client and our decoder read the same books from the same bytes."""
    simulator, results = gateway.simulator, []
    now_ms = simulator.clock.wall_ms()
    books = [
        gateway.do(lambda: simulator.push("HK.00700")),
        SimulatedBook("HK.00700", now_ms + 10, (), ()),
        SimulatedBook(
            "HK.00700", now_ms + 20, (SimulatedLevel(414.2, 60600, 63),), (SimulatedLevel(414.4, 74200, 61),)
        ),
    ]
    for number, book in enumerate(books):
        if number:
            gateway.do(lambda book=book: simulator.push("HK.00700", book))
        code, theirs = next_push()
        mine = ours(book, now_ms + 1000)
        agreed = code == futu.RET_OK and all(
            [(price, float(volume), orders) for price, volume, orders, *_ in theirs[side]] == as_theirs(levels)
            for side, levels in (("Bid", mine.bids), ("Ask", mine.asks))
        )
        seen = json.dumps(theirs, default=str)[:200]
        results.append(check(f"push {number + 1} means the same to both", holds=agreed, seen=seen))
    return results


if __name__ == "__main__":
    sys.exit(main())
