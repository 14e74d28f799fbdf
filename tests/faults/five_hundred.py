"""Follows many traders for hours of virtual time and holds all documents against the venue's truth log. By hand:

    uv run python -m tests.faults.five_hundred --traders 500 --hours 2

Source, pipeline, looks, reasons and backfill are the program's own; the venue is simulated without sockets and
enforces its published limits; in the middle come minutes of 429, minutes of 500 and a ban. Documents are kept in
memory.
"""

import argparse
import json
import time

from src.logs import configure_logging
from src.models.writes import Collection
from tests.support.five_hundred import Verdict, events_out_of_order, run
from tests.support.virtual_time import run_virtually


def main():
    parser = argparse.ArgumentParser(description="Truth of many traders; prints figures, last a line of JSON.")
    parser.add_argument("--traders", type=int, default=500)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--storm-minutes", type=float, default=3.0, help="of 429, and then of 500")
    parser.add_argument("--bursts", type=int, default=2, help="traders who do more at once than the venue remembers")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    configure_logging(level="error", log_format="console")
    began = time.process_time()
    life = run_virtually(
        run(
            traders=options.traders,
            seconds=options.hours * 3600,
            storm_s=options.storm_minutes * 60,
            bursts=options.bursts,
            seed=options.seed,
            tell=tell,
        )
    )
    figures = summary(life) | {"cpu_s": round(time.process_time() - began)}
    print(json.dumps(figures))


def tell(world):
    """A line now and then."""
    truth, minutes = world.venue.market.truth, world.clock.monotonic() / 60
    behind = world.side.backfill_status()["orders"]["due"]
    print(
        f"minute {minutes:.0f}: {len(truth)} events, {behind} histories due, {world.reasons_waiting():.0f} reasons"
        f" waiting, refused {world.refusals()}, {time.process_time():.0f} s of CPU",
        flush=True,
    )


def summary(life):
    """What to write down."""
    world = life.world
    bursters = set(life.bursters)
    usual = Verdict(world, only=set(world.venue.traders) - bursters)
    for case in usual.outside[:10]:
        print("outside every hole:", *case)
    told = {"traders": _row(usual)}
    if bursters:
        burst = Verdict(world, only=bursters)
        for case in burst.outside[:10]:
            print("outside every hole (burst):", *case)
        told["bursters"] = _row(burst)
    after = {name: count - life.first_minute.get(name, 0) for name, count in world.refusals().items()}
    return told | {
        "modes": life.modes,
        "sources": dict(usual.sources),
        "reasons": len(usual.reasons),
        "refused_after_first_minute": {name: count for name, count in after.items() if count},
        "turned_away_in_storm": life.turned_away,
        "cursors": len(world.cursors()),
        "holes": len(world.store.all(Collection.COVERAGE)),
        "documents": len(world.store.all(Collection.TRADER_ORDERS)),
        "cursors_back": len(life.back),
        "cursors_lost": life.cursors_lost,
        "events_out_of_order": len(events_out_of_order(world.store)),
        "invented": len(usual.invented),
        "failed_reads": life.failed_reads,
        "late": life.late,
        "task_failures": world.task_failures(),
        "settled_min": round(life.settled_s / 60, 1),
    }


def _row(verdict):
    return {
        "lived": verdict.lived,
        "with_document": round(verdict.with_document / verdict.lived, 6),
        "right": round(verdict.share(), 6),
        "missing": len(verdict.missing),
        "wrong": len(verdict.wrong),
        "outside_holes": len(verdict.outside),
    }


if __name__ == "__main__":
    main()
