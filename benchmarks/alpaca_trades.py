"""Alpaca trades a second of one core: our connection, mapper, diff and hub against the vendor's client.

All read the same trades from the same simulator in the same rounds, each in a process of its own. CPU time is what
counts: a core that is shared with others does not make a reader slower. How many trades a frame holds is the venue's
choice: its documentation prints frames of one and of three, at the opening of the market there are more. Without the
vendor's client (group ``conformance``) only the ceiling is measured: the WebSocket library and a MessagePack parser.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.rows import Effort, Goal, MeasureError, Row, ratio, spread

NAME = "alpaca"
GOAL = Goal(5.0, at_most=False)
SYMBOLS = tuple(f"S{chr(65 + number // 26)}{chr(65 + number % 26)}" for number in range(50))
PER_FRAME = (1, 3, 20)
JUDGED_PER_FRAME = 1

_SIZES = {Effort.TINY: (1, 1_000), Effort.QUICK: (3, 30_000), Effort.FULL: (7, 120_000)}
_TIMEOUT_S = 600


def measure(effort: Effort) -> Sequence[Row]:
    """Trades per CPU second of each reader."""
    rounds, count = _SIZES[effort]
    return [row for per_frame in PER_FRAME for row in _measure(rounds, count, per_frame)]


def _measure(rounds: int, count: int, per_frame: int) -> list[Row]:
    names = ["ours", "bare", *(["official"] if has_official_client() else [])]
    rates: dict[str, list[float]] = {name: [] for name in names}
    with venue(count, per_frame=per_frame) as addresses:
        for _ in range(rounds):
            results = {name: read(name, addresses, count) for name in names}
            if len({result["price_sum"] for result in results.values()}) != 1:
                raise MeasureError(f"the readers saw different trades: {results}")
            for name, result in results.items():
                rates[name].append(count / result["cpu_s"])
    title = f"alpaca trades, connection to hub, {per_frame} a frame"
    note = f"{count:,} trades of {len(SYMBOLS)} stocks, MessagePack"
    peers = [("bare", "websockets + msgspec", None)]
    if "official" in rates:
        peers.append(("official", "alpaca-py", GOAL if per_frame == JUDGED_PER_FRAME else None))
    return [
        Row(
            title,
            spread(rates["ours"]),
            "trades/CPU s",
            peer=peer,
            peer_value=spread(rates[name]),
            ratio=ratio(rates["ours"], rates[name]),
            goal=goal,
            note=note,
        )
        for name, peer, goal in peers
    ]


def has_official_client() -> bool:
    return importlib.util.find_spec("alpaca") is not None


@contextmanager
def venue(count: int, *, per_frame: int) -> Iterator[dict[str, Any]]:
    """A simulator that hands each reader the same trades at once."""
    options = ["--prepared", str(count), "--per-frame", str(per_frame), "--symbols", ",".join(SYMBOLS)]
    command = [sys.executable, "-m", "src.venues.alpaca.simulator", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise MeasureError("the simulator did not start")
            yield json.loads(line)
        finally:
            process.stdin.close()
            process.wait(30)


def read(name: str, addresses: dict[str, Any], count: int) -> dict[str, Any]:
    """Let one reader read everything.

    Raises:
        MeasureError: it did not.
    """
    command = [sys.executable, "-m", "benchmarks.alpaca_client", name, addresses["ws_url"], addresses["key"]]
    command += [addresses["secret"], str(count), ",".join(SYMBOLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise MeasureError(f"{name}: {done.stderr[-500:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if result["trades"] != count:
        raise MeasureError(f"{name} read {result['trades']} of {count} trades")
    return result
