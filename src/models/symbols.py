"""How symbols are spelt: at each venue, and by people. Pure.

The store and the hub use the venue's own spelling (``AAPL`` at Alpaca, ``US.AAPL`` at Futu, ``BTC`` at Hyperliquid).
People may write either; the gateway resolves what they wrote to topics and answers in their spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from src.models.live import STAR, Topic
from src.models.market_symbols import canonical_or_none
from src.models.streams import StreamKey

LONGEST_SYMBOL = 64
WRITABLE = re.compile(r"[A-Za-z0-9@#+/:._*-]{1,64}")
ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
STOCK = re.compile(r"[A-Z]{1,6}([.-][A-Z]{1,2})?")
FUTU_MARKETS = ("US", "HK", "SH", "SZ", "SG", "JP", "AU", "MY", "CA")
_FUTU = re.compile(rf"({'|'.join(FUTU_MARKETS)})\.([A-Za-z0-9.-]{{1,30}})")
_NUMBER = re.compile(r"\d{5,6}")
_COIN = re.compile(
    r"[A-Za-z0-9]{1,20}|@\d{1,6}|#\d{1,9}|[A-Za-z0-9]{1,20}/[A-Za-z0-9]{1,20}|[a-z0-9]{1,16}:[\w-]{1,30}"
)
_IDX = re.compile(r"((TN|NG)\.)?[A-Z0-9]{4,8}(-[A-Z0-9]{1,4})?")
_MARKET_KINDS = frozenset({"book", "trade"})
_TRADER_KINDS = frozenset({"order", "position"})


class VenueSymbols(Struct, frozen=True):
    """What a venue can be asked for, and how its symbols are spelt.

    Attributes:
        kinds: kinds of topics it has.
        native: its own spelling of what somebody wrote, None when that cannot be a symbol of this venue.
        channels: its channels -> the kinds of topics each of them feeds.
        pushed: books may be handed in from outside at any time, so that listening never needs the venue's consent.
    """

    venue: str
    kinds: frozenset[str]
    native: Callable[[str], str | None]
    channels: Mapping[str, tuple[str, ...]]
    pushed: bool = False


def _hyperliquid(symbol: str) -> str | None:
    return symbol if _COIN.fullmatch(symbol) else None


def _alpaca(symbol: str) -> str | None:
    plain = symbol.upper().removeprefix("US.")
    return plain if STOCK.fullmatch(plain) else None


def _futu(symbol: str) -> str | None:
    is_share = _FUTU.fullmatch(symbol.upper()) or _NUMBER.fullmatch(symbol) or STOCK.fullmatch(symbol.upper())
    return canonical_or_none(symbol) if is_share else None


def _outside(symbol: str) -> str | None:
    return (canonical_or_none(symbol) or symbol).removeprefix("US.")


def _stockbit(symbol: str) -> str | None:
    upper = symbol.upper().removeprefix("RG.")
    return upper if _IDX.fullmatch(upper) else None


HYPERLIQUID = VenueSymbols(
    "hyperliquid",
    _MARKET_KINDS | _TRADER_KINDS | {"status"},
    _hyperliquid,
    {
        "l2Book": ("book",),
        "trades": ("trade",),
        "openOrders": ("order",),
        "clearinghouseState": ("position",),
        "webData2": ("order", "position"),
    },
)
ALPACA = VenueSymbols("alpaca", frozenset({"trade", "status"}), _alpaca, {"trades": ("trade",)})
FUTU = VenueSymbols(
    "futu", frozenset({"book", "status"}), _futu, {"orderBook": ("book",), "book": ("book",)}, pushed=True
)
STOCKBIT = VenueSymbols(
    "stockbit",
    _MARKET_KINDS | {"status"},
    _stockbit,
    {"order_book": ("book",), "running_trade": ("trade",)},
)
OUTSIDE = VenueSymbols("outside", frozenset({"book", "status"}), _outside, {"book": ("book",)}, pushed=True)
ALL_VENUES = (ALPACA, FUTU, STOCKBIT, HYPERLIQUID, OUTSIDE)
"""In the order in which they are tried for a symbol that nobody has named yet: most stocks could be coins as well."""


def native_symbol(venue: str, symbol: str) -> str:
    """The spelling under which ``venue`` files a symbol; as it is where that is not known."""
    known = next((one for one in ALL_VENUES if one.venue == venue), None)
    return symbol if known is None else known.native(symbol) or symbol


class Directory:
    """Resolves what people write to topics.

    Args:
        venues: those that can be asked, in the order in which they are preferred for a symbol nobody knows yet.
        is_known: whether a topic is collected or has been seen, so that it is meant rather than a namesake elsewhere.
        is_on: whether a venue (by name) is collected from; one that is off for want of credentials comes last.
    """

    def __init__(
        self,
        venues: Sequence[VenueSymbols],
        is_known: Callable[[Topic], bool],
        is_on: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._venues = {venue.venue: venue for venue in venues}
        self._is_known = is_known
        self._is_on = is_on

    @property
    def venues(self) -> Collection[str]:
        """Names of the venues, in their order."""
        return self._venues.keys()

    def resolve(self, kind: str, symbol: str, venue: str | None = None) -> tuple[Topic, ...]:
        """The topics somebody means, the one to be asked of its venue first; empty when it cannot be a symbol.

        Without a venue a symbol that is known somewhere means that one. Books may be handed in from outside under the
        same symbol, in the name of a venue that is not collected from, so those are listened to as well.
        """
        if venue is not None:
            found = self._topic(kind, symbol, venue)
            return (found,) if found else ()
        candidates = [topic for name in self._venues if (topic := self._topic(kind, symbol, name))]
        if symbol == STAR:
            return tuple(candidates)
        first = sorted(candidates, key=lambda topic: (not self._is_known(topic), not self._is_on(topic.venue)))[:1]
        outside = [
            topic
            for topic in candidates
            if self._venues[topic.venue].pushed and not self._is_on(topic.venue) and topic not in first
        ]
        return (*first, *outside)

    def is_pushed(self, topic: Topic) -> bool:
        """Whether its data may come from outside without anybody asking for it."""
        venue = self._venues.get(topic.venue)
        return venue is not None and venue.pushed and topic.kind == "book"

    def topics_fed_by(self, stream: str) -> tuple[Topic, ...]:
        """The topics that a stream (by name, see `StreamKey`) feeds; empty for other streams."""
        try:
            key = StreamKey.parse(stream)
        except ValueError:
            return ()
        venue = self._venues.get(key.venue)
        kinds = () if venue is None else venue.channels.get(key.channel, ())
        return tuple(Topic(kind, key.venue, key.subject) for kind in kinds)

    def _topic(self, kind: str, symbol: str, name: str) -> Topic | None:
        venue = self._venues.get(name)
        if venue is None or kind not in venue.kinds or not WRITABLE.fullmatch(symbol):
            return None
        if symbol == STAR:
            return Topic(kind, name, STAR)
        if kind in _TRADER_KINDS:
            return Topic(kind, name, symbol.lower()) if ADDRESS.fullmatch(symbol) else None
        native = venue.native(symbol)
        return None if native is None else Topic(kind, name, native)
