"""Order books as lines of CSV, and names of files that any symbol is safe in. Pure.

The layout ``simple`` is the documented one with its five columns, misleading names included: ``lots`` holds the
number of orders and ``total_value`` the shares. ``full`` names things as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import date, tzinfo
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from urllib.parse import quote, unquote

from msgspec import Struct

from src.jobs.order_books.exchange_days import iso_text
from src.models.messages import Book, Level, Told

BID = "BID"
OFFER = "OFFER"
LOT_SIZES = {"stockbit": 100}
"""Shares per lot, for venues that trade in lots of one size."""

LONGEST_NAME = 160
FILE_NAME = re.compile(r"(?P<day>\d{4}-\d{2}-\d{2})_(?P<symbol>.+)\.csv")

_PLAIN = re.compile(r"[0-9.]*")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_QUOTED = re.compile(r'[",\r\n]')


class Layout(StrEnum):
    """Which columns a file has."""

    SIMPLE = "simple"
    FULL = "full"


COLUMNS = {
    Layout.SIMPLE: "timestamp,price,lots,total_value,side",
    Layout.FULL: "recv_time,event_time,ticker,board,side,level,price,orders,shares,lots,seq",
}


class SideUpdate(Struct, frozen=True):
    """One side of a book that a message brought.

    Attributes:
        side: `BID` or `OFFER`.
        event_time: the venue's time of this side, as the venue wrote it where that is known.
        seq: the venue's number of the message, None where it has none.
    """

    side: str
    levels: Sequence[Level]
    event_time: str
    seq: int | None = None


def updates_of(book: Book, last: Book | None, zone: tzinfo) -> list[SideUpdate]:
    """The sides that a book brought: both, or of a venue that tells them apart those told anew since ``last``.

    After a new connection a venue may tell a side that has not changed meanwhile once more; that is nothing new.
    """
    if book.bids_told is None and book.asks_told is None:
        time = iso_text(book.time_ms, zone)
        return [SideUpdate(BID, book.bids, time), SideUpdate(OFFER, book.asks, time)]
    sides = (
        (BID, book.bids, book.bids_told, None if last is None else (last.bids_told, last.bids)),
        (OFFER, book.asks, book.asks_told, None if last is None else (last.asks_told, last.asks)),
    )
    return [
        SideUpdate(side, levels, told.text, told.seq)
        for side, levels, told, before in sides
        if told is not None and not (before is not None and _is_same(told, levels, *before))
    ]


def ticker_of(book: Book) -> str:
    """What is traded, on whichever board: ``BBCA`` of the symbol ``TN.BBCA`` on the board ``TN``."""
    return book.symbol if book.board is None else book.symbol.removeprefix(f"{book.board}.")


def header(layout: Layout) -> bytes:
    """The first line of a file."""
    return f"{COLUMNS[layout]}\n".encode()


def lines(layout: Layout, book: Book, updates: Sequence[SideUpdate], zone: tzinfo) -> bytes:
    """The lines of one message: one per price level of the sides it brought, best level first."""
    text: list[str] = []
    for update in updates:
        if layout is Layout.SIMPLE:
            text += _simple(update)
        else:
            text += _full(book, update, iso_text(book.received_ms, zone))
    return "".join(text).encode("utf-8", errors="replace")


def cell(text: str) -> str:
    """Text as one cell: quoted where CSV needs it, and never a formula for the spreadsheet that opens the file.

    A cell that a spreadsheet would run (it begins with ``=``, ``+``, ``-``, ``@`` and the like, and is no number)
    gets a leading apostrophe.
    """
    if _PLAIN.fullmatch(text):
        return text
    if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    if _QUOTED.search(text):
        doubled = text.replace('"', '""')
        return f'"{doubled}"'
    return text


def file_name(day: date, symbol: str) -> str:
    """``2026-02-04_BBCA.csv``; characters that a file name must not have are written as in URLs (``PURR%2FUSDC``)."""
    return f"{day.isoformat()}_{_safe(symbol)}.csv"


def parse_file_name(name: str) -> tuple[date, str] | None:
    """Day and symbol of a file name, None when it is none of ours."""
    match = FILE_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return date.fromisoformat(match["day"]), unquote(match["symbol"])
    except ValueError:
        return None


def _is_same(told: Told, levels: Sequence[Level], before: Told | None, known: Sequence[Level]) -> bool:
    """Whether the venue gave both the same time, number and levels, whenever they arrived."""
    return before is not None and (told.text, told.seq) == (before.text, before.seq) and levels == known


def _simple(update: SideUpdate) -> list[str]:
    time, side = cell(update.event_time), update.side
    if _is_plain(update.levels):
        return [f"{time},{px},{'' if n is None else n},{sz},{side}\n" for px, sz, n in _parts(update.levels)]
    return [f"{time},{cell(px)},{'' if n is None else n},{cell(sz)},{side}\n" for px, sz, n in _parts(update.levels)]


def _full(book: Book, update: SideUpdate, received: str) -> list[str]:
    """Like `_simple` with all columns; a side without levels is one line of level 0, else nobody could tell."""
    head = f"{received},{cell(update.event_time)},{cell(ticker_of(book))},{cell(book.board or '')},{update.side}"
    seq = "" if update.seq is None else update.seq
    if not update.levels:
        return [f"{head},0,,,,,{seq}\n"]
    lot = LOT_SIZES.get(book.venue)
    return [
        f"{head},{rank},{cell(px)},{'' if n is None else n},{cell(sz)},{_lots(sz, lot)},{seq}\n"
        for rank, (px, sz, n) in enumerate(_parts(update.levels), 1)
    ]


def _parts(levels: Sequence[Level]) -> list[tuple[str, str, int | None]]:
    return [(level.px, level.sz, level.n) for level in levels]


def _is_plain(levels: Sequence[Level]) -> bool:
    """Whether no value needs a closer look; one search over all of them is much cheaper than one for each."""
    return _PLAIN.fullmatch("".join([level.px + level.sz for level in levels])) is not None


def _lots(shares: str, lot: int | None) -> str:
    """Shares in lots, as exact text; empty where the venue has no lots of one size."""
    if lot is None:
        return ""
    if shares.isdecimal():
        whole, rest = divmod(int(shares), lot)
        if not rest:
            return str(whole)
    try:
        return format((Decimal(shares) / lot).normalize(), "f")
    except InvalidOperation:
        return ""


def _safe(symbol: str) -> str:
    """The symbol in characters that every file system takes; a very long one is cut and told apart by a hash."""
    name = quote(symbol, safe="@.-_", errors="replace") or "%"
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(symbol.encode("utf-8", errors="replace")).hexdigest()[:16]
        name = f"{name[:LONGEST_NAME]}~{digest}"
    return name
