"""Measure what the documentation claims: ``python -m benchmarks``."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console

from benchmarks import (
    alpaca_trades,
    changed_message,
    collector_load,
    flush_speed,
    following,
    gateway,
    journal_speed,
    order_memory,
    stockbit_book,
    stockbit_load,
    trader_scaling,
    unchanged_message,
)
from benchmarks.rows import Effort, Row
from benchmarks.table import print_table, write_json

MEASURES = {
    module.NAME: module.measure
    for module in (
        changed_message,
        unchanged_message,
        stockbit_book,
        stockbit_load,
        alpaca_trades,
        flush_speed,
        journal_speed,
        order_memory,
        trader_scaling,
        following,
        collector_load,
        gateway,
    )
}

EXIT_MISSED = 1


def run(
    only: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(MEASURES)}; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds: an idea, not a figure to quote.")] = False,  # noqa: FBT002 - typer reads it
    json: Annotated[Path | None, typer.Option(help="Write the rows to this file, too.")] = None,
) -> None:
    """Run the measures one after the other and print one table; exit code 1 when a goal was missed."""
    unknown = [name for name in only or () if name not in MEASURES]
    if unknown:
        raise typer.BadParameter(f"no such measure: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    if json is not None and not json.parent.is_dir():
        raise typer.BadParameter(f"{json.parent} is not a directory")
    notes, effort = Console(stderr=True), Effort.QUICK if quick else Effort.FULL
    rows: list[Row] = []
    for name in only or MEASURES:
        start = time.monotonic()
        notes.print(f"[dim]{name} …[/]")
        rows.extend(MEASURES[name](effort))
        notes.print(f"[dim]{name} took {time.monotonic() - start:.0f} s[/]")
    print_table(rows, Console(width=None if sys.stdout.isatty() else 160))
    if json is not None:
        write_json(rows, json)
    if any(row.ok is False for row in rows):
        raise typer.Exit(EXIT_MISSED)


if __name__ == "__main__":
    # Without the comings and goings of the servers between the lines.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    typer.run(run)
