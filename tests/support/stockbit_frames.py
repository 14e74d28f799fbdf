"""The specification's example frames, recorded samples where they are at hand, and small frames of one's own."""

import csv
import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from src.models.messages import Level
from src.venues.stockbit.body import write_body
from src.venues.stockbit.stockbit_pb2 import Frame, Orderbook
from src.venues.stockbit.times import NS_PER_MS, to_text
from src.venues.stockbit.wire import Credentials

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "data" / "stockbit" / "recorded"

START_MS = 1_770_177_942_178  # 2026-02-04T11:05:42.178+07:00

CREDENTIALS = Credentials(SecretStr("1234567"), SecretStr("a2V5LWV4YW1wbGU="), SecretStr("eyJhbGciOiJub25lIn0.e30.x"))

# docs of the venue folder: README.md, "Example frames"; 104, 8, 29 and 177 bytes.
SUBSCRIBE = bytes.fromhex(
    """
    0a 07 31 32 33 34 35 36 37
    12 30
       12 04 42 42 43 41  12 04 54 4c 4b 4d
       32 04 42 42 43 41  32 04 54 4c 4b 4d
       3a 04 42 42 43 41  3a 04 54 4c 4b 4d
       4a 04 42 42 43 41  4a 04 54 4c 4b 4d
    1a 10 61 32 56 35 4c 57 56 34 59 57 31 77 62 47 55 3d
    2a 19 65 79 4a 68 62 47 63 69 4f 69 4a 75 62 32 35 6c 49 6e 30 2e 65 33 30 2e 78
    """
)
PING = bytes.fromhex("22 06 0a 04 70 69 6e 67")
REFUSAL = bytes.fromhex("3a 1b 08 91 03 12 16") + b"you are not authorized"
BOOK = bytes.fromhex(
    """
    52 ae 01
       0a 04 42 42 43 41
       12 55 23 4f 7c 42 42 43 41 7c 42 49 44 7c 37 37 32 35 3b 34 31 32 3b 31 38 34 30 35 30 30 7c 37 37 30 30
             3b 36 35 35 3b 33 30 32 30 30 30 30 7c 37 36 37 35 3b 33 30 31 3b 39 30 30 31 30 30 7c 31 37 37 30
             31 37 37 39 34 32 2d 31 33 36 38 26 35 37 36 30 36 30 30
       18 93 a1 0b
       20 3b
       2a 20 32 30 32 36 2d 30 32 2d 30 34 54 31 31 3a 30 35 3a 34 32 2e 31 37 38 37 32 33 2b 30 37 3a 30 30
       30 01
       40 01
       4a 23 32 30 32 36 2d 30 32 2d 30 34 54 31 31 3a 30 35 3a 34 32 2e 31 37 39 36 38 30 36 37 36 2b 30 37 3a 30 30
    """
)
BOOK_BODY = "#O|BBCA|BID|7725;412;1840500|7700;655;3020000|7675;301;900100|1770177942-1368&5760600"


def recorded(name):
    """The text of a recorded file; skips where the recordings are not at hand."""
    path = RECORDED / name
    if not path.is_file():
        pytest.skip(f"no recordings of the venue at {path}")
    return path.read_text(encoding="utf-8")


def recorded_bodies():
    return [json.loads(line) for line in recorded("orderbook_bodies.jsonl").splitlines() if line]


def recorded_rows():
    return list(csv.DictReader(recorded("orderbook_rows_20260204.csv").splitlines()))


def levels(*prices, orders=3, shares=500):
    return tuple(Level(str(price), str(shares), orders) for price in prices)


def book(ticker, side, *prices, at_ms=START_MS, board=1, seq=1, shares=500, **fields):
    """A frame with one side of a book; the prices as given."""
    fields.setdefault("body", write_body(ticker, side, levels(*prices, shares=shares)))
    fields.setdefault("datetime", to_text(at_ms * NS_PER_MS))
    message = Orderbook(stock_code=ticker, sequence_number=seq, board=board, **fields)
    return Frame(orderbook=message).SerializeToString()


def bids(*prices, ticker="BBCA", **fields):
    return book(ticker, "BID", *(prices or (100, 99)), **fields)


def offers(*prices, ticker="BBCA", **fields):
    return book(ticker, "OFFER", *(prices or (101, 102)), **fields)
