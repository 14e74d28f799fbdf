"""What the gateway's books and notices mean. Pure: no clock, no I/O, no state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Struct

from src.models.errors import WireError
from src.models.market_symbols import canonical_or_none
from src.models.messages import Ignored, Level, LoginRefused, RefusalKind
from src.venues.futu import futu_pb2 as pb
from src.venues.futu import wire

VENUE = "futu"

MOST_LEVELS = 5_000
"""Per side; the deepest documented book (the full Hong Kong one) stays below."""

AHEAD_MOST_MS = 5 * 60_000
"""A server time later than this after the receipt is wrong (two clocks never differ so much) and not used."""

_EARLIEST_MS = 946_684_800_000  # 2000-01-01: a "zero" time in any disguise lies before
_CHINA = timezone(timedelta(hours=8))

_QUOTA_WORDS = ("quota", "额度")
_RATE_WORDS = ("too frequent", "frequency", "频率", "频繁")
_UNKNOWN_WORDS = ("unknown", "invalid", "not exist", "no such", "未知", "不存在", "permission", "no right", "无权限")

_HUMAN = "look at the gateway's own window or log and answer what it asks"
_ACCOUNT = "log in at the gateway anew: it no longer has a valid session of the account"
_GATEWAY = "the gateway itself does not work: look at its log, update or restart it"
_KICKED = "another program logged in with this account: end that one, or log in at the gateway anew"
_LOGGED_OUT = "the gateway runs but is not logged in for quotes: log in at the gateway"

_THROWN_OUT: dict[int, tuple[str, str]] = {
    1: ("gateway_unusable", _GATEWAY),
    2: ("gateway_unusable", _GATEWAY),
    3: ("gateway_unusable", _GATEWAY),
    4: ("account_refused", _ACCOUNT),
    5: ("human_needed", _HUMAN),
    7: ("kicked_out", _KICKED),
    8: ("account_refused", _ACCOUNT),
    9: ("account_refused", "the account is banned: ask the vendor"),
    10: ("human_needed", _HUMAN),
    11: ("human_needed", _HUMAN),
    15: ("human_needed", _HUMAN),
}
"""Events of the gateway after which no quotes flow: reason and remedy. Others are told and change nothing."""


class BookReading(Struct, frozen=True):
    """A book as the gateway said it. ``server_ms``: when the vendor's server had its newer side, if it says so."""

    symbol: str
    server_ms: int | None
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


def read_book(said: pb.OrderBook.S2C, received_ms: int) -> BookReading | None:
    """One book, None for one of odd lots (a book of its own, not collected).

    Raises:
        WireError: ``unknown_market``, ``bad_symbol``, ``bad_level``, ``too_many_levels``.
    """
    if said.orderBookType != wire.WHOLE_LOTS:
        return None
    symbol = canonical_or_none(wire.symbol_of(said.security))
    if symbol is None:
        raise WireError("bad_symbol", said.security.code[:40])
    market = symbol.partition(".")[0]
    sides = (
        server_time_ms(said.svrRecvTimeBidTimestamp, said.svrRecvTimeBid, market, received_ms),
        server_time_ms(said.svrRecvTimeAskTimestamp, said.svrRecvTimeAsk, market, received_ms),
    )
    server_ms = max((side for side in sides if side is not None), default=None)
    return BookReading(symbol, server_ms, _levels(said.orderBookBidList), _levels(said.orderBookAskList))


def server_time_ms(seconds: float, text: str, market: str, received_ms: int) -> int | None:
    """The vendor's time of one side; None where there is none, or none that can be right.

    Args:
        seconds: since 1970; 0 = not given (older gateways).
        text: ``YYYY-MM-DD HH:MM:SS.mmm`` in the market's local time; may be empty.
        market: prefix of the symbol.
        received_ms: decides which of the two hours is meant when a clock is set back.
    """
    time_ms: int | None = None
    if math.isfinite(seconds) and seconds > 0:
        time_ms = round(seconds * 1000)
    elif text:
        time_ms = _local_ms(text, market, received_ms)
    if time_ms is None or not _EARLIEST_MS <= time_ms <= received_ms + AHEAD_MOST_MS:
        return None
    return time_ms


def refusal_kind(text: str) -> RefusalKind:
    """Why a subscription was refused. The gateway says it in words only, in its user's language."""
    words = text.lower()
    for kind, known in (
        (RefusalKind.SUBSCRIPTION_CAP, _QUOTA_WORDS),
        (RefusalKind.MESSAGE_RATE, _RATE_WORDS),
        (RefusalKind.INVALID, _UNKNOWN_WORDS),
    ):
        if any(word in words for word in known):
            return kind
    return RefusalKind.OTHER


def read_notice(said: pb.Notify.S2C) -> LoginRefused | Ignored:
    """What a notice does to the connection: quotes have ended, or nothing."""
    if said.type == wire.NOTIFY_EVENT and said.HasField("event"):
        event = said.event
        thrown_out = _THROWN_OUT.get(event.eventType)
        if thrown_out is None:
            return Ignored("gateway_event")
        reason, remedy = thrown_out
        return LoginRefused("slow", f"gateway event {event.eventType}: {event.desc[:200]}", remedy, reason)
    if said.type == wire.NOTIFY_CONNECTION and said.HasField("connectStatus") and not said.connectStatus.qotLogined:
        return login_lost()
    return Ignored("notice")


def login_lost() -> LoginRefused:
    """The gateway is there, its session with the vendor is not."""
    return LoginRefused("slow", "the gateway is not logged in for quotes", _LOGGED_OUT, "login_lost")


@lru_cache(maxsize=65_536)
def decimal_text(value: float) -> str:
    """The shortest decimal text of a double: 414.2 -> ``414.2``, 180.0 -> ``180``."""
    if value == int(value):
        return str(int(value))
    text = repr(value)
    return text if "e" not in text else f"{Decimal(text):f}"


def _levels(said: Sequence[pb.OrderBookLevel]) -> tuple[Level, ...]:
    if len(said) > MOST_LEVELS:
        raise WireError("too_many_levels", str(len(said)))
    return tuple(_level(level) for level in said)


def _level(said: pb.OrderBookLevel) -> Level:
    # The fine volume is there for fractions (crypto), where the whole one is cut.
    size = said.hpVolume if said.HasField("hpVolume") else said.volume
    if not math.isfinite(said.price) or not math.isfinite(size) or size < 0 or said.orederCount < 0:
        raise WireError("bad_level", f"price {said.price}, volume {size}, orders {said.orederCount}")
    return Level(decimal_text(said.price), decimal_text(size), said.orederCount)


def _local_ms(text: str, market: str, received_ms: int) -> int | None:
    zone = _zone(market)
    if zone is None:
        return None
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        return None
    if local.tzinfo is not None:
        return _to_ms(local)
    meanings = (_to_ms(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    return min((ms for ms in meanings if ms is not None), key=lambda ms: abs(ms - received_ms), default=None)


def _zone(market: str) -> tzinfo | None:
    """Documented: Hong Kong and mainland tell UTC+8, US New York; of the others nothing is said."""
    if market in ("HK", "HK_FUTURE", "SH", "SZ"):
        return _CHINA
    return _new_york() if market == "US" else None


@lru_cache(maxsize=1)
def _new_york() -> tzinfo | None:
    try:
        return ZoneInfo("America/New_York")
    except (ZoneInfoNotFoundError, OSError):  # a machine without time zone files: the receipt time has to do
        return None


def _to_ms(time: datetime) -> int | None:
    try:
        return round(time.astimezone(UTC).timestamp() * 1000)
    except (OverflowError, ValueError):
        return None
