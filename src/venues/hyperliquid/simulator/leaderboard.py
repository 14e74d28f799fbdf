"""The leaderboard file: the simulated traders first, then as many strangers as wanted, streamed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from src.venues.hyperliquid.simulator.market import Market

WINDOWS = ("day", "week", "month", "allTime")
_ROWS_PER_CHUNK = 200
_BEST_PNL = 5_000_000


def leaderboard_chunks(market: Market, rows: int) -> Iterator[bytes]:
    """The file in pieces; about 650 bytes a row. The simulated traders lead by account value, profit and return."""
    rng = random.Random(market.config.seed + 2)  # noqa: S311 - a reproducible file, not a secret
    names = list(market.traders.values())
    yield b'{"leaderboardRows":['
    for start in range(0, rows, _ROWS_PER_CHUNK):
        texts = []
        for number in range(start, min(rows, start + _ROWS_PER_CHUNK)):
            if number < len(names):
                address, name = names[number].address, f'"{names[number].name}"'
            else:
                address, name = f"0x{rng.getrandbits(160):040x}", "null"
            texts.append(_row(rng, number, address, name))
        yield ("," if start else "").encode() + ",".join(texts).encode()
    yield b"]}"


def _row(rng: random.Random, rank: int, address: str, name: str) -> str:
    scale = 1.0 / (1 + rank)
    windows = []
    for position, window in enumerate(WINDOWS, start=1):
        pnl = _BEST_PNL * position * scale * rng.uniform(0.999, 1.0)
        windows.append(
            f'["{window}",{{"pnl":"{pnl:.12f}","roi":"{0.2 * position * scale:.16f}",'
            f'"vlm":"{pnl * rng.uniform(20, 21):.10f}"}}]'
        )
    value = 4 * _BEST_PNL * scale
    return (
        f'{{"ethAddress":"{address}","accountValue":"{value:.6f}",'
        f'"windowPerformances":[{",".join(windows)}],"prize":0,"displayName":{name}}}'
    )
