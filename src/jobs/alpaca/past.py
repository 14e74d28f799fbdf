"""Alpaca's history of trades for gaps and the backfill; see `src.jobs.backfill.past.TradesPast`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from src.config import Settings
from src.jobs.backfill.past import TradesPage
from src.models.clock import Clock
from src.models.errors import VenueFatalError, VenueRequestError
from src.models.metrics import Metrics
from src.venues.alpaca.feed import FeedName
from src.venues.alpaca.mapper import STAR, VENUE
from src.venues.alpaca.rest import AlpacaRest
from src.venues.alpaca.times import NS_PER_MS

HISTORY_FEEDS: dict[str, str] = {
    "iex": "iex",
    "sip": "sip",
    "delayed_sip": "sip",
    "boats": "boats",
    "overnight": "boats",
}
"""Feed of the stream -> feed of the history; the test feed has none."""


class AlpacaPast:
    """Pages of at most 10,000 trades, of the feed that is collected."""

    venue = VENUE
    reach = "several years; on the free plan the last 15 minutes of the SIP are not shown"
    is_complete = True

    def __init__(self, rest: AlpacaRest, feed: FeedName) -> None:
        self._rest = rest
        self._feed = feed

    async def page(self, symbol: str, from_ms: int, to_ms: int, token: str | None) -> TradesPage:
        """See `src.jobs.backfill.past.TradesPast`; the venue's own limits are both inclusive."""
        feed = HISTORY_FEEDS.get(self._feed)
        if feed is None or symbol == STAR:
            raise VenueRequestError(f"there is no history of {symbol} on the {self._feed} feed")
        start_ns, end_ns = max(from_ms, 1) * NS_PER_MS, to_ms * NS_PER_MS - 1
        trades, following = await self._rest.trades([symbol], start_ns, end_ns, feed=feed, token=token)
        return TradesPage(trades, following)


def make_rest(settings: Settings, clock: Clock, metrics: Metrics) -> AlpacaRest:
    """The venue's HTTP side as the settings describe it."""
    return AlpacaRest(
        settings.alpaca_api_url,
        key=settings.alpaca_api_key,
        secret=settings.alpaca_secret_key,
        clock=clock,
        metrics=metrics,
        requests_per_minute=settings.alpaca_requests_per_minute,
        proxy=settings.alpaca_proxy.get_secret_value() or None,
    )


@asynccontextmanager
async def alpaca_trades(settings: Settings, clock: Clock, metrics: Metrics) -> AsyncIterator[AlpacaPast]:
    """The history for a command.

    Raises:
        VenueFatalError: there is no key.
    """
    if not (settings.alpaca_api_key.get_secret_value() and settings.alpaca_secret_key.get_secret_value()):
        raise VenueFatalError("Alpaca wants a key: set ALPACA_API_KEY and ALPACA_SECRET_KEY in .env.local")
    rest = make_rest(settings, clock, metrics)
    try:
        yield AlpacaPast(rest, settings.alpaca_feed)
    finally:
        await rest.close()
