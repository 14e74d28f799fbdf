"""Stockbit (IDX) as one source of the running program: account, pool, what is asked for, what goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import structlog
from msgspec import Struct
from pydantic import SecretStr

from src.config import Settings
from src.jobs.source import Work
from src.jobs.stoppable import is_set_within
from src.models.clock import Clock
from src.models.live import ACCEPTED, STAR, WANTED, Standing
from src.models.metrics import BOOK_ODDITIES, BOOKS_CROSSED, Metrics
from src.models.status import TokenFacts
from src.models.streams import StreamKey, SubscriptionState
from src.venues.budget import Budget
from src.venues.feed import Endpoint, RawTap, Sink
from src.venues.idx.calendar import IdxCalendar
from src.venues.pool import Pool
from src.venues.stockbit.auth import REMEDY, StockbitAuth
from src.venues.stockbit.books import VENUE
from src.venues.stockbit.crossed import Crossed
from src.venues.stockbit.feed import TIMING, StockbitFeed, subscription
from src.venues.stockbit.flat import FlatCodec
from src.venues.stockbit.mapper import LIVE_PRICE, ORDER_BOOK, RUNNING_TRADE, is_ticker
from src.venues.stockbit.rest import StockbitRest
from src.venues.stockbit.token_file import TokenFile
from src.venues.stockbit.tokens import Tokens
from src.venues.stockbit.wire import Codec, NestedCodec
from src.venues.timing import Timing
from src.venues.transport import Transport, open_websocket

log = structlog.get_logger(__name__)

WATCH_EVERY_S = 0.5
CHANNELS = {"book": ORDER_BOOK, "trade": RUNNING_TRADE}
"""What the rest of the program calls what this venue calls otherwise."""

CODECS: Mapping[str, Callable[[], Codec]] = {"nested": NestedCodec, "flat": FlatCodec}
_BOARDS = ("RG.", "TN.", "NG.")


class TradingHours(Protocol):
    """The exchange's calendar, as far as it is needed here."""

    def is_continuous(self, when: int, /) -> bool:
        """Whether shares trade continuously at this moment (ms since 1970)."""


class StockbitPace(Struct, frozen=True):
    """Waiting times other than the usual ones, for simulations. ``ping_s``: None = by the settings."""

    timing: Timing
    ping_s: float | None = None
    watch_every_s: float = WATCH_EVERY_S


class StockbitSource:
    """Turns settings and demand into subscriptions of one connection; quiet until there is a token.

    Attributes:
        venue: name of the venue.
        enabled: whether the settings want this venue at all.
        off: why nothing is asked of the venue; empty when it is.
        auth: the log-in of the account.
        pool: the connection and its subscriptions.
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
        hours: TradingHours | None = None,
        pace: StockbitPace | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._hours: TradingHours = hours or IdxCalendar()
        self._pace = pace or StockbitPace(TIMING)
        self._wanted: Mapping[str, Collection[str]] = {}
        self._lingering: tuple[StreamKey, ...] = ()
        proxy = settings.stockbit_proxy.get_secret_value() or None
        self._rest = StockbitRest(settings.stockbit_api_url, clock=clock, metrics=metrics, proxy=proxy)
        self.auth = StockbitAuth(
            rest=self._rest,
            file=TokenFile(settings.data_dir),
            clock=clock,
            given=_given(settings),
        )
        ping_s = settings.stockbit_ping_interval if self._pace.ping_s is None else self._pace.ping_s
        self._feed = StockbitFeed(
            settings.stockbit_ws_url,
            session=self.auth,
            hours=_Hours(self._hours),
            codec=CODECS[settings.stockbit_layout](),
            odd=self._note_odd,
            app_ping_s=ping_s,
            ws_ping_s=settings.stockbit_ws_ping_interval,
            proxy=proxy,
        )
        self._crossed = Crossed()
        self.pool = Pool(
            feed=self._feed,
            sink=sink,
            clock=clock,
            metrics=metrics,
            budget=Budget(self._feed.limits, clock=clock),
            clients=1,
            tap=tap,
            timing=self._pace.timing,
            opener=self._open,
        )
        self.enabled = settings.stockbit_enabled
        self.off = "" if self.enabled else "STOCKBIT_ENABLED is false"
        self._say_off()

    def want(self, symbols: Mapping[str, Collection[str]]) -> None:
        """Collect these besides the tickers of the settings: kinds (``book``, ``trade``) by symbol."""
        self._wanted = {symbol: frozenset(kinds) for symbol, kinds in symbols.items()}
        self._aim()

    @property
    def is_connected(self) -> bool:
        """Whether the venue can be heard now."""
        return self.pool.open_connections > 0

    def standing(self, kind: str, symbol: str) -> Standing:
        """How a wanted symbol stands with the venue; ``*`` means what is collected anyway."""
        if self.off or self.auth.state != "ready":
            return Standing("refused", "no_source", f"{self.off or self.auth.why}; {REMEDY}")
        if kind not in CHANNELS:
            return Standing("refused", "unknown_topic", f"{VENUE} has no {kind} here, only {' and '.join(CHANNELS)}")
        if symbol == STAR:
            return ACCEPTED
        found = self.pool.standing(StreamKey(VENUE, CHANNELS[kind], ticker_of(symbol)))
        state, why = found or (SubscriptionState.PENDING, "")
        if state is SubscriptionState.CONFIRMED:
            return ACCEPTED
        return WANTED if state is SubscriptionState.PENDING else Standing("refused", "upstream_refused", why)

    def streams(self) -> tuple[StreamKey, ...]:
        """Everything that is asked for; nothing while the source is off."""
        return () if self.off else self._target()

    def hand_in(self, access: SecretStr, refresh: SecretStr | None) -> TokenFacts:
        """Use these tokens from now on; see `StockbitAuth.hand_in`.

        Raises:
            ConfigurationError: the access token cannot be used; the text says why, without any of it.
        """
        taken = self.auth.hand_in(access.get_secret_value(), None if refresh is None else refresh.get_secret_value())
        if self.enabled:
            self.off = ""
        self._aim()
        return TokenFacts(taken.expires_ms, can_refresh=taken.can_refresh, kept=taken.kept)

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
        """What is to be kept running besides, by name; each returns when ``stopping`` is set."""
        if not self.enabled:
            return ()
        return (
            ("stockbit", self.run),
            ("stockbit-token", lambda: self.auth.keep_fresh(stopping)),
            ("stockbit-watch", lambda: self._watch(stopping)),
        )

    def status(self) -> dict[str, Any]:
        """See `Pool.status`; with the log-in, the age of each side of each book, and the crossed books."""
        now_ms = self._clock.wall_ms()
        books = {}
        for state in self._feed.mapper.books:
            sides = {"bid_age_ms": state.bid.told, "offer_age_ms": state.offer.told}
            books[f"{state.ticker}/{state.board}"] = {
                name: None if told is None else now_ms - told.received_ms for name, told in sides.items()
            }
        return {
            **self.pool.status(),
            "off": self.off,
            "login": self.auth.status(),
            "continuous": self._hours.is_continuous(now_ms),
            "books": books,
            "crossed": list(self._crossed.overdue),
        }

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _open(self, endpoint: Endpoint, timing: Timing) -> Transport:
        self._feed.credentials = await self.auth.credentials()
        return await open_websocket(endpoint, timing)

    def _say_off(self) -> None:
        if self.enabled and self.auth.state == "no token":
            self.off = "no token"
            log.info("venue_off", venue=VENUE, why="no token", remedy=f"set STOCKBIT_ACCESS_TOKEN, or {REMEDY}")

    def _aim(self) -> None:
        target = () if self.off else self._target()
        self.pool.set_target(subscription(key.channel, key.subject) for key in target)

    def _target(self) -> tuple[StreamKey, ...]:
        settings = self._settings
        keys: dict[StreamKey, None] = {}
        for ticker in settings.stockbit_tickers:
            if settings.stockbit_books:
                keys[StreamKey(VENUE, ORDER_BOOK, ticker)] = None
            if settings.stockbit_trades:
                keys[StreamKey(VENUE, RUNNING_TRADE, ticker)] = None
            if settings.stockbit_live_prices:
                keys[StreamKey(VENUE, LIVE_PRICE, ticker)] = None
        for symbol, kinds in self._wanted.items():
            ticker = ticker_of(symbol)
            if is_ticker(ticker):
                keys |= {StreamKey(VENUE, CHANNELS[kind], ticker): None for kind in kinds if kind in CHANNELS}
        return tuple(keys)

    def _note_odd(self, reason: str, count: int) -> None:
        self._metrics.add(BOOK_ODDITIES, VENUE, reason, amount=count)

    async def _watch(self, stopping: asyncio.Event) -> None:
        """Look for books that stay crossed, and for tickers that the venue does not let go."""
        while not await is_set_within(stopping, self._pace.watch_every_s):
            now_ms = self._clock.wall_ms()
            for name in self._crossed.look(
                self._feed.mapper.books, now_ms, is_continuous=self._hours.is_continuous(now_ms)
            ):
                self._note_odd("crossed_for_long", 1)
                log.warning("book_crossed", venue=VENUE, book=name, remedy="one side may be stale; see /stats")
            self._metrics.put(BOOKS_CROSSED, VENUE, value=len(self._crossed.overdue))
            if self._feed.lingering:
                self.pool.resubscribe(self._target()[:1])


def ticker_of(symbol: str) -> str:
    """The ticker of a symbol; all boards come with it."""
    upper = symbol.upper()
    return upper[3:] if upper.startswith(_BOARDS) else upper


class _Hours:
    """The calendar in the words of the feed."""

    def __init__(self, hours: TradingHours) -> None:
        self._hours = hours

    def expects_data(self, wall_ms: int) -> bool:
        return self._hours.is_continuous(wall_ms)


def _given(settings: Settings) -> Tokens | None:
    if not settings.stockbit_access_token.get_secret_value():
        return None
    refresh = settings.stockbit_refresh_token
    return Tokens(settings.stockbit_access_token, refresh if refresh.get_secret_value() else None)
