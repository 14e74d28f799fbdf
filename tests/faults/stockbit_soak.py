"""Hours or days of the simulated exchange in minutes, with drops, outages and tokens that die; compares everything.

    uv run python -m tests.faults.stockbit_soak --hours 100

Prints a line for every break and last one of JSON; exit code 1 when files, MongoDB and what was sent do not agree.
The short form is ``tests/integration/stockbit/test_days_of_the_whole_program.py``.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import psutil
import structlog

from src.store.embedded import open_embedded
from tests.support.stockbit_soak import Plan, misfortunes_of, soak

START = "2026-02-05T08:40:00+07:00"  # a Thursday: hours of Fridays and a week-end are on the way
MIB = 1024 * 1024


def main():
    parser = argparse.ArgumentParser(description="Stockbit soak test; prints breaks, last a line of JSON.")
    parser.add_argument("--hours", type=float, default=4.0, help="of the exchange's time")
    parser.add_argument(
        "--speed", type=float, default=300.0, help="seconds of its day in a second, while shares trade"
    )
    parser.add_argument("--start", type=datetime.fromisoformat, default=datetime.fromisoformat(START))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each-hours", type=float, default=1.5, help="between two misfortunes, about")
    parser.add_argument("--token-hours", type=float, default=6.0, help="life of an access token")
    parser.add_argument("--updates-per-s", type=float, default=10.0, help="changes of each book in a real second")
    verdict = asyncio.run(run(parser.parse_args()))
    print(json.dumps(verdict.figures))
    for problem in verdict.problems:
        print(f"PROBLEM {problem}")
    return 1 if verdict.problems else 0


async def run(options):
    """A database of its own, the soak, and what it cost."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    start_ms = round(options.start.timestamp() * 1000)
    plan = Plan(
        start_ms=start_ms,
        hours=options.hours,
        speed=options.speed,
        misfortunes=misfortunes_of(start_ms, options.hours, seed=options.seed, each_hours=options.each_hours),
        token_life_s=options.token_hours * 3600,
        updates_per_s=options.updates_per_s,
        seed=options.seed,
    )
    began, process = time.monotonic(), psutil.Process()
    with tempfile.TemporaryDirectory(prefix="stockbit-soak-") as folder:
        async with open_embedded(Path(folder) / "mongodb", cache_gib=0.25) as server:

            def told(line):
                rss = process.memory_info().rss / MIB
                print(f"{time.monotonic() - began:6.1f} s {rss:4.0f} MiB  {line}", flush=True)

            verdict = await soak(Path(folder) / "data", server.uri, "soak", plan, told=told)
    minutes = round((time.monotonic() - began) / 60, 1)
    verdict.figures = {"hours": options.hours, "minutes": minutes, "seed": options.seed, **verdict.figures}
    return verdict


if __name__ == "__main__":
    sys.exit(main())
