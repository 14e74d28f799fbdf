"""Holds files and MongoDB against what the simulated exchange sent, side by side and level by level.

It knows nothing of the program but the layout of its files and documents.
"""

from bisect import bisect_right
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from itertools import pairwise

from msgspec import Struct

from tests.support.books import read_rows

WIB = timezone(timedelta(hours=7))
HEADER = ["recv_time", "event_time", "ticker", "board", "side", "level", "price", "orders", "shares", "lots", "seq"]
TROUBLE = ("disconnect", "silence", "stale", "refused", "overflow")


class Verdict(Struct):
    """``problems`` is empty when everything agrees."""

    figures: dict
    problems: list[str]


class Shown:
    """What the exchange sent; takes the place of the simulator's own log, which keeps whole sides.

    Attributes:
        sides: ``(ticker, side, seq)`` -> (connection, ms, fingerprint of the levels).
        last: the newest seq of each ``(ticker, side)``.
        trades: running trades somebody was told of.
    """

    def __init__(self):
        self.sides = {}
        self.last = {}
        self.trades = []

    def append(self, sent):
        levels = tuple((level.px, level.n, int(level.sz)) for level in sent.levels)
        self.sides[sent.ticker, sent.side, sent.seq] = (sent.session, sent.at_ms, hash(levels))
        self.last[sent.ticker, sent.side] = sent.seq


class Written(Struct):
    """One side in a file."""

    ticker: str
    side: str
    seq: int
    event_ms: int
    received_ms: int
    levels: tuple = ()


def judge(files, database, shown):
    """Compare everything; returns the `Verdict`."""
    verdict = Verdict({}, [])
    written = _read_files(files, verdict)
    holes = _holes(database)
    _compare_files(written, shown, holes, verdict)
    _compare_snapshots(written, database, verdict)
    _compare_latest(written, database, shown, verdict)
    _compare_trades(database, shown, holes, verdict)
    _compare_holes(written, shown, holes, verdict)
    return verdict


# -- files -------------------------------------------------------------------------------------------------------------


def _read_files(folder, verdict):
    """Every side in the files, in their order; a side that is there twice is a problem."""
    found, paths, rows_read = {}, [], 0
    for path in sorted(folder.glob("*_*.csv*")):
        paths.append(path)
        header, *rows = read_rows(path)
        rows_read += len(rows)
        if header != HEADER or HEADER in rows:
            verdict.problems.append(f"{path.name}: not one header")
        day, _, ticker = path.name.split(".csv")[0].partition("_")
        last = None
        for row in rows:
            side = _side_of(row, last)
            if side is not last:
                key = (side.ticker, side.side, side.seq)
                if key in found:
                    verdict.problems.append(f"{path.name}: {key} is there twice")
                if side.ticker != ticker or not row[0].startswith(day):
                    verdict.problems.append(f"{path.name}: a row of {side.ticker}, received {row[0]}")
                found[key] = last = side
    verdict.figures |= {
        "files": len(paths),
        "files_compressed": sum(path.suffix != ".csv" for path in paths),
        "file_rows": rows_read,
        "sides_written": len(found),
    }
    return found


def _side_of(row, last):
    received, event, ticker, board, side, level, price, orders, shares, lots, seq = row
    if last is None or (last.ticker, last.side, last.seq) != (ticker, side, int(seq)):
        assert level in ("0", "1"), row
        assert board == "RG", row
        last = Written(ticker, side, int(seq), _ms(event), _ms(received))
    if level != "0":
        assert int(level) == len(last.levels) + 1, row
        assert int(lots) * 100 == int(shares), row
        last.levels += ((price, int(orders), int(shares)),)
    return last


def _ms(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _compare_files(written, shown, holes, verdict):
    """Each side is what was sent; what is missing was sent when nobody listened."""
    begins = {}  # a file begins with both sides as they are then; what came before was not asked for
    for ticker, side, seq in written:
        begins.setdefault(ticker, {}).setdefault(side, seq)
    first = {ticker: max(sides.values()) for ticker, sides in begins.items()}
    wrong = [
        key for key, side in written.items() if key not in shown.sides or shown.sides[key][2] != hash(side.levels)
    ]
    expected = {key for key in shown.sides if key[2] >= first.get(key[0], 0) or key in written}
    last_heard = defaultdict(int)
    for ticker, _, seq in written.keys() & shown.sides.keys():
        session = shown.sides[ticker, _, seq][0]
        last_heard[session, ticker] = max(last_heard[session, ticker], seq)
    in_flight, lost = 0, []
    for key in expected - written.keys():
        ticker, _, seq = key
        session, at_ms, _ = shown.sides[key]
        if seq > last_heard[session, ticker] or _is_in_hole(holes[f"stockbit/order_book/{ticker}"], at_ms):
            in_flight += 1  # on its way when the socket broke
        else:
            lost.append(key)
    verdict.figures |= {"sides_sent": len(expected), "sides_in_flight_at_breaks": in_flight, "sides_lost": len(lost)}
    verdict.problems += [f"in a file, but never sent so: {key}" for key in wrong[:5]]
    verdict.problems += [f"sent, heard, and in no file: {key}" for key in sorted(lost)[:5]]


# -- MongoDB -----------------------------------------------------------------------------------------------------------


def _compare_snapshots(written, database, verdict):
    """Each side of each stored book is a side in a file, and each side in a file is in a stored book."""
    by_time = defaultdict(list)
    for side in written.values():
        by_time[side.ticker, side.side, side.event_ms].append(side)
    begins = {}
    for side in written.values():
        begins[side.ticker] = min(side.received_ms, begins.get(side.ticker, side.received_ms))
    stored, count, levels = defaultdict(set), 0, 0
    for document in database.orderbook_snapshots.find({"venue": "stockbit"}):
        count += 1
        for name, at, side in (("bids", "bidsAt", "BID"), ("asks", "asksAt", "OFFER")):
            if document.get(at) is None:
                continue
            key = (document["symbol"], side, round(document[at].timestamp() * 1000))
            rows = tuple((f"{price:g}", orders, int(shares)) for price, shares, orders in document[name])
            levels += len(rows)
            stored[key].add(rows)
            if key in by_time:
                if all(rows != side.levels for side in by_time[key]):
                    verdict.problems.append(f"stored and written differ: {key}")
            elif key[2] >= begins.get(key[0], 0):
                verdict.problems.append(f"stored, but in no file: {key}")
    before = {}
    for key, side in sorted(written.items(), key=lambda item: item[1].seq):
        place = (side.ticker, side.side)
        is_same = before.get(place) == side.levels  # no level changed, so there is no new book
        if side.levels not in stored[side.ticker, side.side, side.event_ms] and not is_same:
            verdict.problems.append(f"in a file, but not stored: {key}")
        before[place] = side.levels
    verdict.figures |= {"snapshots": count, "snapshot_levels_compared": levels}
    del verdict.problems[20:]


def _compare_latest(written, database, shown, verdict):
    """The latest book of each share has the sides sent last."""
    for (ticker, side), seq in shown.last.items():
        document = database.orderbooks.find_one({"_id": f"stockbit:{ticker}"})
        expected = written.get((ticker, side, seq))
        if document is None or expected is None:
            verdict.problems.append(f"no latest book of {ticker}, or its last {side} is in no file")
            continue
        rows = document["bids" if side == "BID" else "asks"]
        if tuple((f"{price:g}", orders, int(shares)) for price, shares, orders in rows) != expected.levels:
            verdict.problems.append(f"the latest book of {ticker} has another {side}")


def _compare_trades(database, shown, holes, verdict):
    """Each trade is stored once as it was; a missing one was told when nobody listened."""
    stored = {one["_id"]: one for one in database.trades.find({"venue": "stockbit"})}
    told = {}
    for trade in shown.trades:
        day = datetime.fromtimestamp(trade.at_ms / 1000, WIB)
        told[f"stockbit:{trade.ticker}:{day:%Y%m%d}-{trade.number}"] = trade
    missing = [
        name
        for name in told.keys() - stored.keys()
        if not _is_in_hole(holes[f"stockbit/running_trade/{told[name].ticker}"], told[name].at_ms)
    ]
    invented = [
        name
        for name in stored.keys()
        - told.keys()  # what the exchange repeats after a log-in may have been told to nobody
        if not _is_in_hole(
            holes[f"stockbit/running_trade/{stored[name]['symbol']}"],
            round(stored[name]["timestamp"].timestamp() * 1000),
        )
    ]
    wrong = [
        name
        for name in told.keys() & stored.keys()
        if (stored[name]["price"], stored[name]["size"]) != (told[name].price, told[name].shares)
    ]
    verdict.figures |= {"trades_told": len(told), "trades_stored": len(stored), "trades_lost": len(missing)}
    verdict.problems += [f"trade stored that nobody told of: {name}" for name in sorted(invented)[:5]]
    verdict.problems += [f"trade told, heard, and not stored: {name}" for name in sorted(missing)[:5]]
    verdict.problems += [f"trade stored with other figures: {name}" for name in sorted(wrong)[:5]]


# -- holes -------------------------------------------------------------------------------------------------------------


def _holes(database):
    """``stream`` -> (from, to, reason) in ms, in order."""
    found = defaultdict(list)
    for one in database.coverage.find({"venue": "stockbit"}).sort("from", 1):
        begin_ms, end = round(one["from"].timestamp() * 1000), one["to"]
        end_ms = None if end is None else round(end.timestamp() * 1000)
        found[one["stream"]].append((begin_ms, end_ms, one["reason"]))
    return found


def _is_in_hole(holes, at_ms):
    place = bisect_right(holes, at_ms, key=lambda hole: hole[0])
    return place > 0 and (holes[place - 1][1] is None or at_ms <= holes[place - 1][1])


def _compare_holes(written, shown, holes, verdict):
    """Between two connections there is one hole of each book, and nowhere else is one; none is left open."""
    heard = defaultdict(lambda: defaultdict(list))
    for key, side in written.items():
        if key in shown.sides:
            heard[side.ticker][shown.sides[key][0]].append(side.received_ms)
    count = 0
    for ticker, sessions in heard.items():
        own = [hole for hole in holes[f"stockbit/order_book/{ticker}"] if hole[2] in TROUBLE]
        count += len(own)
        numbers = sorted(sessions)
        for before, after in pairwise(numbers):
            last_ms, first_ms = max(sessions[before]), min(sessions[after])
            between = [hole for hole in own if hole[0] <= first_ms and (hole[1] is None or hole[1] >= last_ms)]
            if len(between) != after - before:
                verdict.problems.append(f"{ticker}: {len(between)} holes between connections {before} and {after}")
        if len(own) != numbers[-1] - numbers[0]:
            verdict.problems.append(f"{ticker}: {len(own)} holes for {numbers[-1] - numbers[0]} breaks")
        if any(end is None for _, end, _ in own):
            verdict.problems.append(f"{ticker}: a hole is left open")
    verdict.figures |= {"holes_of_books": count}
