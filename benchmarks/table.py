"""The rows on paper: a table for people, JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row, Spread


def print_table(rows: Sequence[Row], console: Console) -> None:
    table = Table(title=machine(), title_justify="left", show_lines=False)
    table.add_column("measure")
    for title in ("value (min-max)", "peer (min-max)", "ratio (min-max)", "goal", "ok"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        ok = {True: "[green]yes[/]", False: "[red]NO[/]", None: "-"}[row.ok]
        goal = "-" if row.goal is None else str(row.goal)
        peer = "-" if row.peer_value is None else f"{row.peer}: {_figures(row.peer_value)}"
        ratio = "-" if row.ratio is None else _figures(row.ratio)
        table.add_row(row.name, f"{_figures(row.value)} {row.unit}", peer, ratio, goal, ok)
    console.print(table)
    for row in rows:
        broken = [name for name, held in row.holds.items() if not held]
        if broken:
            console.print(f"[red]{row.name}: did not hold:[/] {'; '.join(broken)}")
        if row.note:
            console.print(f"[dim]{row.name}:[/] {row.note}", highlight=False)


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Everything of every row, with `ok`, and the machine in general words."""
    document = {"machine": machine(), "rows": [msgspec.to_builtins(row) | {"ok": row.ok} for row in rows]}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")


def machine() -> str:
    """Kind of machine in general words; nothing that names it."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _figures(value: Spread) -> str:
    return f"{_figure(value.median)} ({_figure(value.low)}-{_figure(value.high)})"


def _figure(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.3f}"
