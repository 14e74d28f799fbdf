"""``traders``: who is followed, by hand, from a file or from the leaderboard."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from src.commands.addresses import checked_addresses, read_list
from src.commands.session import read_settings, run_async
from src.config import Settings
from src.jobs.hyperliquid.source import leaderboard_reader
from src.jobs.leaderboard.rules import candidate_of
from src.jobs.tracking import Candidate, TraderRegistry
from src.models.errors import ConfigurationError
from src.models.filters import Filter
from src.models.metrics import Metrics
from src.opening import open_database
from src.pipeline.documents import to_date
from src.venues.clock import SystemClock
from src.venues.hyperliquid.ranking import Ranked, Ranking, WindowPerformance, tags

TABLE_COLUMNS = 250
"""Tables are never cut to the terminal: an address with its end missing is of no use."""

MOST_DISCOVERED = 10_000
MOST_FILE_BYTES = 16 * 1024 * 1024
DISCOVERED = "discovered"

_T = TypeVar("_T")

app = typer.Typer(no_args_is_help=True, help="Followed traders; a change takes effect without a restart.")


@app.command("list")
def list_traders() -> None:
    """Show who is followed and who was."""

    async def work(registry: TraderRegistry) -> list[Mapping[str, Any]]:
        return list(await registry.listed())

    documents = _with_registry(work)
    if not documents:
        typer.echo("nobody is followed yet; add somebody with: traders add 0x…")
        return
    table = _table("address", "followed", "source", "mode", "tier", "score", "tags", "last look")
    for document in documents:
        score, look, tier = document.get("score"), document.get("lastLookAt"), document.get("tier")
        table.add_row(
            document["ethAddress"],
            "yes" if document["enabled"] else "no",
            document["source"],
            document.get("mode") or "" if document["enabled"] else "",
            "" if tier is None else f"{tier}",
            "" if score is None else f"{score:,.1f}",
            " ".join(document.get("tags") or ()),
            "" if look is None else f"{look:%Y-%m-%d %H:%M:%S}",
        )
    _print(table)


@app.command("add")
def add_traders(
    addresses: Annotated[list[str], typer.Argument(help="0x and 40 hexadecimal digits each.")],
    tag: Annotated[list[str] | None, typer.Option(help="A word to find them by; may be repeated.")] = None,
) -> None:
    """Follow these traders from now on."""
    wanted = [Candidate(address) for address in checked_addresses(addresses)]
    added = _enable(wanted, source="manual", tags=tag or [])
    typer.echo(f"{added} added, {len(wanted) - added} followed already")


@app.command("remove")
def remove_traders(
    addresses: Annotated[list[str], typer.Argument(help="0x and 40 hexadecimal digits each.")],
) -> None:
    """Stop following these traders; what was collected stays."""
    unwanted = checked_addresses(addresses)

    async def work(registry: TraderRegistry) -> int:
        return await registry.disable(unwanted)

    removed = _with_registry(work)
    typer.echo(f"{removed} removed, {len(unwanted) - removed} not followed")
    if removed < len(unwanted):
        raise typer.Exit(1)


@app.command("import")
def import_traders(
    file: Annotated[
        Path, typer.Argument(help="One address in each line, or CSV with a column ethAddress; - = stdin.")
    ],
    tag: Annotated[list[str] | None, typer.Option(help="A word to find them by; may be repeated.")] = None,
) -> None:
    """Follow everybody named in a file; nobody when a line of it is wrong."""
    wanted = [Candidate(entry.address, tags=entry.tags) for entry in read_list(_text_of(file), what=str(file))]
    added = _enable(wanted, source="manual", tags=tag or [])
    typer.echo(f"{added} added, {len(wanted) - added} followed already")


@app.command("discover")
def discover_traders(
    count: Annotated[int, typer.Option(min=1, max=MOST_DISCOVERED, help="How many of the best.")] = 20,
    condition: Annotated[
        list[str] | None,
        typer.Option("--filter", help='Such as "month.roi>=0.1"; may be repeated. Default: as in the settings.'),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Follow them, too.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Show the best of the leaderboard by our score; changes nothing without --add."""
    settings = read_settings(quiet=True)
    filters = _filters(settings, condition)
    ranking = run_async(_ranked(settings, filters, count))
    best: list[Ranked] = ranking.best()
    if not best:
        typer.echo(f"nobody of {ranking.rows:,} accounts fulfils {', '.join(map(str, filters)) or 'anything'}")
        raise typer.Exit(1)
    _print(_table_of(best))
    typer.echo(
        f"the best {len(best)} of {ranking.admitted:,} accounts that fulfil the conditions, of {ranking.rows:,}"
    )
    if not add:
        typer.echo("nobody was added; --add follows them")
        return
    at = to_date(SystemClock().wall_ms())
    assert at is not None
    added = _enable([candidate_of(one, misses=0, at=at) for one in best], source=DISCOVERED, tags=[])
    typer.echo(f"{added} added, {len(best) - added} followed already")


# -- parts -----------------------------------------------------------------------------------------------------------


def _filters(settings: Settings, conditions: Sequence[str] | None) -> list[Filter]:
    try:
        return [Filter.parse(text) for text in conditions or settings.hyperliquid_leaderboard_filters]
    except ValueError as error:
        raise ConfigurationError(f"--filter: {error}") from error


async def _ranked(settings: Settings, filters: Sequence[Filter], count: int) -> Ranking:
    metrics = Metrics()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as progress:
        progress.add_task("reading the leaderboard", total=None)
        read = leaderboard_reader(settings, clock=SystemClock(), metrics=metrics)
        return await read(lambda: Ranking(count, filters=filters))


def _enable(wanted: Sequence[Candidate], *, source: str, tags: Sequence[str]) -> int:
    async def work(registry: TraderRegistry) -> int:
        return await registry.enable(wanted, source=source, tags=tags)

    return _with_registry(work)


def _with_registry(work: Callable[[TraderRegistry], Awaitable[_T]]) -> _T:
    settings = read_settings(quiet=True)

    async def connected() -> _T:
        async with open_database(settings, shared=True) as (store, _):
            await store.prepare()
            return await work(TraderRegistry(store, SystemClock()))

    result: _T = run_async(connected())
    return result


def _text_of(file: Path) -> str:
    try:
        data = sys.stdin.buffer.read(MOST_FILE_BYTES + 1) if str(file) == "-" else file.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
    if len(data) > MOST_FILE_BYTES:
        raise ConfigurationError(f"{file} is larger than {MOST_FILE_BYTES:,} bytes; that is no list of addresses")
    return text


def _table_of(best: Sequence[Ranked]) -> Table:
    table = _table(
        "rank", "address", "score", "account value", "day", "week", "month", "ROI", "volume week", "all time", "tags"
    )
    for one in best:
        row = one.row
        table.add_row(
            f"{one.rank}",
            row.address,
            f"{one.score:.1f}",
            f"{row.account_value:,.0f}",
            _pnl(row.day),
            _pnl(row.week),
            _pnl(row.month),
            "" if row.month is None else f"{row.month.roi:.1%}",
            "" if row.week is None else f"{row.week.vlm:,.0f}",
            _pnl(row.all_time),
            " ".join(tags(one)),
        )
    return table


def _pnl(window: WindowPerformance | None) -> str:
    return "" if window is None else f"{window.pnl:+,.0f}"


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=True)
    return table


def _print(table: Table) -> None:
    Console(highlight=False, markup=False, emoji=False, width=TABLE_COLUMNS).print(table)
