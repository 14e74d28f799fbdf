"""Order books for tests: of venues that tell both sides at once, and of those that tell them apart."""

import csv
import gzip
import io

import zstandard

from src.models.messages import Book, Level, Told

T0 = 1_770_177_942_178  # 2026-02-04 11:05:42.178 in Jakarta
DAY_MS = 86_400_000


def levels(*rows):
    return tuple(Level(str(px), str(sz), n) for px, n, sz in rows)


BIDS = levels((7725, 412, 1840500), (7700, 655, 3020000), (7675, 301, 900100))
ASKS = levels((7750, 388, 2211100), (7775, 324, 2103400))


def whole(symbol="BTC", *, venue="hyperliquid", at=T0, bids=BIDS, asks=ASKS):
    """A book whose sides came together."""
    return Book(venue, symbol, at, at + 20, bids, asks)


def told(at=T0, text="2026-02-04T11:05:42.178723+07:00", seq=1):
    return Told(at, text, at + 1, seq)


def sided(symbol="BBCA", *, bids=BIDS, asks=ASKS, bids_told=None, asks_told=None, board="RG", at=T0):
    """A book of a venue that tells its sides apart."""
    name = symbol if board == "RG" else f"{board}.{symbol}"
    return Book("stockbit", name, at, at + 1, bids, asks, board, bids_told, asks_told)


def read_rows(path):
    """Lines of a file, compressed or not, as lists of cells; the header first."""
    return list(csv.reader(io.StringIO(read_bytes(path).decode(), newline="")))


def read_bytes(path):
    if path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(
            path.open("rb"), read_across_frames=True, closefd=True
        ) as file:
            return file.read()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
