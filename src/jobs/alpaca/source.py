"""Alpaca (US stocks) as one source of the running program: who asks for which stocks, and what is told about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from src.config import Settings
from src.jobs.alpaca.movers import MoverRules, MoversJob
from src.jobs.alpaca.past import AlpacaPast, make_rest
from src.jobs.source import Work
from src.models.changes import DeadLetter
from src.models.clock import Clock
from src.models.live import ACCEPTED, WANTED, Standing
from src.models.messages import Data, Gap, Refusal, RefusalKind
from src.models.metrics import Metrics
from src.models.streams import StreamKey, Subscription, SubscriptionState
from src.venues.alpaca.feed import AlpacaFeed, delay_ms, most_symbols, subscriptions_of
from src.venues.alpaca.mapper import STAR, VENUE
from src.venues.budget import Budget
from src.venues.feed import Heartbeat, RawTap, Sink
from src.venues.pool import Pool
from src.venues.timing import Timing

log = structlog.get_logger(__name__)

NO_KEY = "set ALPACA_API_KEY and ALPACA_SECRET_KEY in .env.local (free at alpaca.markets), or ALPACA_ENABLED=false"
TRADES = "trades"
TRADE_KIND = "trade"


class AlpacaPace(Struct, frozen=True):
    """Waiting times other than the usual ones; simulations hand in shorter ones."""

    timing: Timing
    heartbeat: Heartbeat | None = None


class AlpacaSource:
    """Stocks of the settings, of live clients and movers, in this order, as far as the plan allows.

    Without a key nothing is collected, which is said once.

    Attributes:
        pool: the one connection, with its subscriptions.
        past: the history, for gaps and the backfill.
        off: why nothing is collected, empty when it is.
    """

    venue = VENUE

    def __init__(
        self,
        settings: Settings,
        *,
        sink: Sink,
        clock: Clock,
        metrics: Metrics,
        tap: RawTap | None = None,
        pace: AlpacaPace | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._demanded: tuple[str, ...] = ()
        self._movers: tuple[str, ...] = ()
        self._channels: tuple[str, ...] = settings.alpaca_channels
        self._most = most_symbols(settings.alpaca_feed, settings.alpaca_max_symbols)
        self.off = _why_off(settings)
        self._rest = make_rest(settings, clock, metrics)
        self.past = AlpacaPast(self._rest, settings.alpaca_feed)
        feed = _make_feed(settings, self._most, pace)
        self.pool = Pool(
            feed=feed,
            sink=_Listening(sink, self._on_refused),
            clock=clock,
            metrics=metrics,
            budget=Budget(feed.limits, clock=clock),
            clients=1,
            tap=tap,
            timing=pace.timing if pace else None,
        )
        self.movers = MoversJob(
            self._rest,
            MoverRules.of(settings),
            on_movers=self._take_movers,
            clock=clock,
            metrics=metrics,
        )
        self._say_off()

    # -- what is wanted --------------------------------------------------------------------------------------------

    def want(self, kinds_by_symbol: Mapping[str, Collection[str]]) -> None:
        """Collect these besides what is configured; only trades can be asked for."""
        demanded = tuple(symbol for symbol, kinds in kinds_by_symbol.items() if TRADE_KIND in kinds)
        if demanded != self._demanded:
            self._demanded = demanded
            self._aim()

    def symbols(self) -> tuple[str, ...]:
        """All stocks that are wanted, the most wanted first; ``*`` alone when all are."""
        wanted = tuple(dict.fromkeys((*self._settings.alpaca_symbols, *self._demanded, *self._movers)))
        return (STAR,) if STAR in wanted and self._most is None else tuple(name for name in wanted if name != STAR)

    def streams(self) -> tuple[StreamKey, ...]:
        """Everything that is asked for; nothing while the source is off."""
        return tuple(subscription.key for subscription in self._target())

    def standing(self, kind: str, symbol: str) -> Standing:
        """How the venue answered to what a live client wants."""
        if self.off:
            return Standing("refused", "off", self.off)
        if kind != TRADE_KIND:
            return Standing("refused", "no_such_topic", f"Alpaca has no {kind} of a stock")
        if symbol == STAR and self._most is not None:
            return Standing("refused", "limit", f"the plan allows {self._most} stocks at once, not all of them")
        found = self.pool.standing(StreamKey(VENUE, TRADES, symbol)) or self.pool.standing(
            StreamKey(VENUE, TRADES, STAR)
        )
        if found is None or found[0] is SubscriptionState.PENDING:
            return WANTED
        state, why = found
        return ACCEPTED if state is SubscriptionState.CONFIRMED else Standing("refused", "upstream_refused", why)

    @property
    def is_connected(self) -> bool:
        """Whether the venue can be heard now."""
        return self.pool.open_connections > 0

    @property
    def delay_ms(self) -> int:
        """How late the feed tells what happened."""
        return delay_ms(self._settings.alpaca_feed)

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Collect until `close`."""
        self._aim()
        try:
            await self.pool.run()
        finally:
            await self._rest.close()

    async def close(self) -> None:
        """Say good-bye and let `run` return; safe to repeat."""
        await self.pool.close()

    def works(self, stopping: asyncio.Event) -> Sequence[Work]:
        """What is to be kept running, by name; nothing while the source is off."""
        if self.off:
            return ()
        works: list[Work] = [("alpaca", self.run)]
        if self._settings.alpaca_movers:
            works.append(("alpaca-movers", lambda: self.movers.run(stopping)))
        return works

    def status(self) -> dict[str, Any]:
        """See `Pool.status`; with why it is off, the feed, the limit and the movers."""
        return {
            **self.pool.status(),
            "off": self.off,
            "feed": self._settings.alpaca_feed,
            "given_up": self.pool.given_up,
            "most_symbols": self._most,
            "channels": list(self._channels),
            "movers": self.movers.status(),
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _aim(self) -> None:
        self.pool.set_target(self._target())

    def _target(self) -> list[Subscription]:
        if self.off:
            return []
        silent_after_s = self._settings.alpaca_silent_after or None
        return subscriptions_of(self.symbols(), self._channels, silent_after_s=silent_after_s)

    def _take_movers(self, symbols: Sequence[str]) -> None:
        self._movers = tuple(symbols)
        self._aim()

    def _on_refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """A channel that this feed does not have is asked for no longer."""
        if refusal.kind is not RefusalKind.UNKNOWN_TYPE:
            return
        missing = {subscription.key.channel for subscription in failed} - {TRADES}
        if missing & set(self._channels):
            self._channels = tuple(channel for channel in self._channels if channel not in missing)
            log.warning("alpaca_channel_not_offered", channels=sorted(missing), feed=self._settings.alpaca_feed)
            asyncio.get_running_loop().call_soon(self._aim)

    def _say_off(self) -> None:
        if self.off and self._settings.alpaca_enabled and self._settings.alpaca_symbols:
            log.warning("venue_off", venue=VENUE, why=self.off, remedy=NO_KEY)
        elif self.off:
            log.info("venue_off", venue=VENUE, why=self.off)


class _Listening:
    """A sink that also tells the source of refusals."""

    def __init__(self, sink: Sink, on_refused: Callable[[Refusal, tuple[Subscription, ...]], None]) -> None:
        self._sink = sink
        self._on_refused = on_refused
        self.data: Callable[[Data], None] = sink.data
        self.gap: Callable[[Gap], None] = sink.gap
        self.rejected: Callable[[DeadLetter], None] = sink.rejected

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """See `Sink.refused`."""
        self._sink.refused(refusal, failed)
        self._on_refused(refusal, failed)


def _why_off(settings: Settings) -> str:
    if not settings.alpaca_enabled:
        return "switched off"
    if not (settings.alpaca_api_key.get_secret_value() and settings.alpaca_secret_key.get_secret_value()):
        return "no key"
    return ""


def _make_feed(settings: Settings, most: int | None, pace: AlpacaPace | None) -> AlpacaFeed:
    return AlpacaFeed(
        settings.alpaca_ws_url,
        feed=settings.alpaca_feed,
        key=settings.alpaca_api_key.get_secret_value(),
        secret=settings.alpaca_secret_key.get_secret_value(),
        encoding=settings.alpaca_encoding,
        max_subscriptions=None if most is None else most * len(settings.alpaca_channels),
        proxy=settings.alpaca_proxy.get_secret_value() or None,
        heartbeat=pace.heartbeat if pace else None,
    )
