"""The command line: ``python -m src.main`` runs the collector, sub-commands do the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from src import __version__
from src.app import Start, open_database, run_collector
from src.commands import deadletters
from src.commands.replaying import only_replay
from src.commands.session import read_settings as _settings
from src.commands.session import run_async as _go
from src.config import Settings
from src.jobs.demo import DemoFaults, demo_venue
from src.jobs.doctor import examine, exit_code
from src.jobs.record import record_frames
from src.jobs.recorded_frames import find_recordings, read_frames
from src.jobs.replay import ReplayResult, summary
from src.jobs.tracking import Candidate, TraderRegistry
from src.jobs.writer_role import EXIT_FENCED
from src.logs import configure_logging
from src.models.errors import CollectorError, ConfigurationError, WriterLostError
from src.models.metrics import Metrics
from src.setting_types import ADDRESS, DATABASE
from src.venues.clock import SystemClock

EXIT_WRONG = 2
TABLE_COLUMNS = 200
"""Tables are never cut to the terminal: an address with its end missing is of no use."""

app = typer.Typer(
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Collect what traders and order books did into MongoDB. Without a command: run.",
)
traders_app = typer.Typer(no_args_is_help=True, help="Followed traders; a change takes effect without a restart.")
app.add_typer(traders_app, name="traders")
app.add_typer(deadletters.app, name="deadletters")


@app.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,  # noqa: FBT002
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        run()


@app.command()
def run() -> None:
    """Collect until Ctrl-C; the same as no command."""
    settings = _settings()
    raise typer.Exit(_go(run_collector(settings, announce=lambda start: _banner(settings, start))))


@app.command(short_help="Collect from a simulated venue: no internet needed.")
def demo(
    seed: Annotated[int, typer.Option(help="The same seed, the same market.")] = 1,
    faults: Annotated[DemoFaults, typer.Option(help="How much goes wrong on the way.")] = DemoFaults.SOME,
) -> None:
    """Collect from a simulated venue: no internet, no account, own data directory and database."""
    settings = _settings()

    async def work() -> int:
        async with demo_venue(settings, seed=seed, faults=faults) as demo_settings:
            return await run_collector(
                demo_settings, announce=lambda start: _banner(demo_settings, start, venue="a simulated venue")
            )

    raise typer.Exit(_go(work()))


@app.command(short_help="Check all the program needs, one line each.")
def doctor() -> None:
    """Check all the program needs, one line each with the remedy: settings, MongoDB, venue, clock, disk."""
    configure_logging(level="error")
    lines = _go(examine(clock=SystemClock()))
    for line in lines:
        typer.echo(str(line))
    raise typer.Exit(exit_code(lines))


@app.command(short_help="Write raw frames to disk; needs no database.")
def record(
    out: Annotated[Path | None, typer.Option(help="Directory; default: recordings below DATA_DIR.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after this long; default: at Ctrl-C.")] = None,
) -> None:
    """Write raw frames to compressed JSON lines, with their receipt times; needs no database."""
    settings = _settings()
    directory = out if out is not None else settings.data_dir / "recordings"
    raise typer.Exit(_go(record_frames(settings, directory=directory, seconds=seconds)))


@app.command(short_help="Feed recorded frames through the pipeline into MongoDB.")
def replay(
    path: Annotated[Path, typer.Argument(help="A recording, a JSON or JSONL file, or a directory.")],
    database: Annotated[str | None, typer.Option(help="Into this database instead of MONGODB_DATABASE.")] = None,
) -> None:
    """Feed recorded frames through the pipeline into MongoDB, with the times they were recorded at.

    Not beside a collector that writes to the same database: stop that one, or use another database.
    """
    settings = _settings()
    if database is not None:
        if not DATABASE.fullmatch(database):
            raise ConfigurationError(f"--database {database!r}: 1 to 63 letters, digits, _ and -")
        settings = settings.model_copy(update={"mongodb_database": database})
    metrics = Metrics()
    result = _go(_replay(settings, path, metrics))
    typer.echo(summary(result, metrics))


@traders_app.command("list")
def list_traders() -> None:
    """Show who is followed and who was."""

    async def work(registry: TraderRegistry) -> list[Any]:
        return list(await registry.listed())

    documents = _with_registry(work)
    if not documents:
        typer.echo("nobody is followed yet; add somebody with: traders add 0x…")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("address", "followed", "source", "score", "tags", "last look"):
        table.add_column(title, no_wrap=True)
    for document in documents:
        score, look = document.get("score"), document.get("lastLookAt")
        table.add_row(
            document["ethAddress"],
            "yes" if document["enabled"] else "no",
            document["source"],
            "" if score is None else f"{score:,.0f}",
            " ".join(document.get("tags") or ()),
            "" if look is None else f"{look:%Y-%m-%d %H:%M:%S}",
        )
    Console(highlight=False, width=TABLE_COLUMNS).print(table)


@traders_app.command("add")
def add_traders(
    addresses: Annotated[list[str], typer.Argument(help="0x and 40 hexadecimal digits each.")],
    tag: Annotated[list[str] | None, typer.Option(help="A word to find them by; may be repeated.")] = None,
) -> None:
    """Follow these traders from now on."""
    wanted = [Candidate(address) for address in _addresses(addresses)]

    async def work(registry: TraderRegistry) -> int:
        return await registry.enable(wanted, source="manual", tags=tag or [])

    added = _with_registry(work)
    typer.echo(f"{added} added, {len(wanted) - added} followed already")


@traders_app.command("remove")
def remove_traders(
    addresses: Annotated[list[str], typer.Argument(help="0x and 40 hexadecimal digits each.")],
) -> None:
    """Stop following these traders; what was collected stays."""
    unwanted = _addresses(addresses)

    async def work(registry: TraderRegistry) -> int:
        return await registry.disable(unwanted)

    removed = _with_registry(work)
    typer.echo(f"{removed} removed, {len(unwanted) - removed} not followed")
    if removed < len(unwanted):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; errors that a person can mend end in one clear text and exit code 2."""
    try:
        app()
    except WriterLostError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_FENCED)
    except CollectorError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_WRONG)
    except KeyboardInterrupt:
        sys.exit(130)


async def _replay(settings: Settings, path: Path, metrics: Metrics) -> ReplayResult:
    find_recordings(path)  # complain before a server is started
    clock = SystemClock()
    async with open_database(settings, shared=True) as (store, _):
        await store.prepare()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed} frames"))
        otherwise = "stop it, or replay into another database with --database NAME"
        async with only_replay(settings, store, clock=clock, metrics=metrics, otherwise=otherwise) as job:
            with Progress(*columns, TimeElapsedColumn(), console=_console(stderr=True), transient=True) as progress:
                bar = progress.add_task(f"replaying {path.name}", total=None)
                return await job.run(read_frames(path), lambda count: progress.update(bar, completed=count))


def _with_registry(work: Any) -> Any:
    settings = _settings(quiet=True)

    async def connected() -> Any:
        async with open_database(settings, shared=True) as (store, _):
            await store.prepare()
            return await work(TraderRegistry(store, SystemClock()))

    return _go(connected())


def _addresses(texts: list[str]) -> list[str]:
    wrong = [text for text in texts if ADDRESS.fullmatch(text.strip()) is None]
    if wrong:
        raise ConfigurationError(f"not an address (0x and 40 hexadecimal digits): {', '.join(wrong)}")
    return list(dict.fromkeys(text.strip().lower() for text in texts))


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def _banner(settings: Settings, start: Start, venue: str = "Hyperliquid") -> None:
    """What is collected, where it goes, and where to look."""
    url, facts = start.url, start.facts
    lines = [
        f"market collector {__version__}",
        *_labelled("collects", _what_is_collected(settings, start.followed)),
        f"  from       {venue}, {settings.hyperliquid_ws_url}",
        f"  into       {facts.uri}  database {facts.database}",
        f"             MongoDB {facts.version}, {facts.topology}",
        f"  look at    {url}/  {url}/health  {url}/stats  {url}/docs",
        f"  files in   {settings.data_dir}",
        "  stop with  Ctrl-C",
    ]
    if not settings.hyperliquid_enabled:
        del lines[2]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _what_is_collected(settings: Settings, followed: int) -> list[str]:
    if not settings.hyperliquid_enabled:
        return ["nothing: HYPERLIQUID_ENABLED is false"]
    told = []
    of_traders = {
        "orders": settings.trader_orders_ws_enabled,
        "positions": settings.trader_positions_ws_enabled,
        "fills": settings.hyperliquid_fills,
    }
    if settings.trader_ws_enabled and (kinds := _chosen(of_traders)):
        top = f"the top {settings.hyperliquid_max_users} of the leaderboard"
        whom = f"{followed} trader{'s' if followed > 1 else ''}" if followed else top
        told.append(f"{kinds} of {whom}")
    of_coins = {"books": settings.hyperliquid_books, "trades": settings.hyperliquid_trades}
    if settings.hyperliquid_coins and (kinds := _chosen(of_coins)):
        told.append(f"{kinds} of {', '.join(settings.hyperliquid_coins)}")
    return told or ["nothing: the settings switch everything off"]


def _chosen(switches: dict[str, bool]) -> str:
    return ", ".join(name for name, wanted in switches.items() if wanted)


def _labelled(label: str, texts: list[str]) -> list[str]:
    return [f"  {label if number == 0 else '':<11}{text}" for number, text in enumerate(texts)]


if __name__ == "__main__":
    main()
