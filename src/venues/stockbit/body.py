"""The text of an order-book message: ``#O|TICKER|BID|price;orders;shares|…|trailer``. Pure.

The second number of a level is the number of orders, the third is shares (both checked against the venue's REST order
book, README.md). One message is a complete snapshot of one side.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from src.models.errors import WireError
from src.models.messages import Level

BAD_BODY = "bad_order_book_body"
MARK = "#O"
Side = Literal["BID", "OFFER"]

_SIDES: Mapping[str, Side] = {"BID": "BID", "OFFER": "OFFER"}
_FLAT_SIDES: Mapping[str, Side] = {**_SIDES, "BUY": "BID", "SELL": "OFFER"}
_LEVEL = re.compile(r"(\d{1,12}(?:\.\d{1,9})?);(\d{1,9});(\d{1,15}(?:\.\d{1,9})?)", re.ASCII)
_MOST_LEVELS = 10_000
_PX, _ORDERS, _SHARES = 12, 9, 15
"""Most digits of each."""
_SHOWN_CHARS = 80

Levels = Mapping[Side, dict[str, Level]]
"""The levels of each side by their text, best first; of the message before, most come again as they were."""


class Body(NamedTuple):
    """What one body said.

    Attributes:
        ticker: the share, empty where the layout does not name it.
        sides: the levels of each side it holds, best first, by their text.
        trailer: the last part, where it is no level; its meaning is not certain, so it is not used.
        skipped: parts that are no level and were passed over.
    """

    ticker: str
    sides: Levels
    trailer: str
    skipped: int


def parse_body(body: str, known: Levels | None = None) -> Body:
    """Read a body; ``known`` spares making levels anew that are as they were.

    Raises:
        WireError: it does not begin with ``#O``, names no known side, or its levels are out of order.
    """
    parts = body.split("|", 3)
    if parts[0] != MARK or len(parts) < 3:  # noqa: PLR2004 - mark, ticker, side
        raise WireError(BAD_BODY, f"begins with {body[:_SHOWN_CHARS]!r}")
    side = _SIDES.get(parts[2])
    if side is None:
        raise WireError(BAD_BODY, f"no side in {body[:_SHOWN_CHARS]!r}")
    return _read(parts[1], side, parts[3].split("|") if len(parts) > 3 else [], known or {}, _SIDES)  # noqa: PLR2004


def parse_flat_body(body: str, known: Levels | None = None) -> Body:
    """Read ``SIDE|PRICE;LOTS;VALUE|…``, the body as the documents of the flat layout have it.

    What they call lots and value are the numbers of orders and shares all the same.

    Raises:
        WireError: it begins with no known side, or its levels are out of order.
    """
    first, *rest = body.split("|")
    if first == MARK:
        return parse_body(body, known)
    side = _FLAT_SIDES.get(first)
    if side is None:
        raise WireError(BAD_BODY, f"begins with {body[:_SHOWN_CHARS]!r}")
    return _read("", side, rest, known or {}, _FLAT_SIDES)


def write_body(ticker: str, side: Side, levels: Sequence[Level], trailer: str = "") -> str:
    """The reverse, as the venue writes it."""
    rows = [f"{level.px};{level.n or 0};{level.sz}" for level in levels]
    return "|".join([MARK, ticker, side, *rows, *([trailer] if trailer else [])])


def write_trailer(levels: Sequence[Level], epoch_s: int) -> str:
    """The trailer of the one public sample: second, total orders and total shares of the side."""
    orders = sum(level.n or 0 for level in levels)
    return f"{epoch_s}-{orders}&{sum(int(level.sz) for level in levels)}"


def _read(ticker: str, side: Side, tokens: list[str], known: Levels, names: Mapping[str, Side]) -> Body:
    if len(tokens) > _MOST_LEVELS:
        raise WireError(BAD_BODY, f"{len(tokens)} parts")
    levels: dict[str, Level] = {}
    old = known.get(side) or {}
    sides = {side: levels}
    odd: list[str] = []
    odd_at = -1
    for at, token in enumerate(tokens):
        level = old.get(token) or _level(token)
        if level is not None:
            levels[token] = level
        elif token in names:  # both sides in one body: no live message does so
            _check_order(side, levels)
            side = names[token]
            levels = sides.setdefault(side, {})
            old = known.get(side) or {}
        elif token:
            odd.append(token)
            odd_at = at
    _check_order(side, levels)
    ends = odd_at >= 0 and not any(tokens[odd_at + 1 :])
    trailer = odd.pop() if ends and not odd[-1].count(";") else ""
    return Body(ticker, sides, trailer, len(odd))


def _level(token: str) -> Level | None:
    px, orders, shares = parts if len(parts := token.split(";")) == 3 else ("", "", "")  # noqa: PLR2004 - a level
    plain = px.isdigit() and orders.isdigit() and shares.isdigit() and token.isascii()
    if plain and len(px) <= _PX and len(orders) <= _ORDERS and len(shares) <= _SHARES:
        return Level(px, shares, int(orders)) if int(px) > 0 else None  # nothing else was ever seen
    found = _LEVEL.fullmatch(token)
    if found is None:
        return None
    px, orders, shares = found.groups()
    return Level(px, shares, int(orders)) if float(px) > 0 else None


def _check_order(side: Side, levels: Mapping[str, Level]) -> None:
    """Best first, each price once: what is otherwise is not what the venue promises."""
    prices = [float(level.px) for level in levels.values()]
    falling = side == "BID"
    last = prices[0] if prices else 0.0
    for price in prices[1:]:
        if price >= last if falling else price <= last:
            raise WireError(BAD_BODY, f"{side} levels out of order at {price:g} after {last:g}")
        last = price
