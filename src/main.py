"""The command line: ``python -m src.main`` runs the collector, sub-commands do the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from src import __version__
from src.app import Start, run_collector
from src.commands import backfill, deadletters, traders
from src.commands.banner import banner
from src.commands.replaying import only_replay
from src.commands.session import read_settings as _settings
from src.commands.session import run_async as _go
from src.config import Settings
from src.jobs.demo.faults import DemoFaults
from src.jobs.doctor.doctor import examine, exit_code
from src.jobs.recordings.record import record_frames
from src.jobs.recordings.recorded_frames import find_recordings, read_frames
from src.jobs.recordings.replay import ReplayResult, summary
from src.jobs.writer.role import EXIT_FENCED
from src.logs import configure_logging
from src.models.errors import CollectorError, ConfigurationError, WriterLostError
from src.models.metrics import Metrics
from src.opening import open_database
from src.setting_types import DATABASE
from src.venues.clock import SystemClock

EXIT_WRONG = 2

app = typer.Typer(
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Collect what traders and order books did into MongoDB. Without a command: run.",
)
app.add_typer(traders.app, name="traders")
app.add_typer(backfill.app, name="backfill")
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
    raise typer.Exit(_go(run_collector(settings, announce=lambda start: _announce(settings, start))))


@app.command(short_help="Collect from a simulated venue: no internet needed.")
def demo(
    seed: Annotated[int, typer.Option(help="The same seed, the same market.")] = 1,
    faults: Annotated[DemoFaults, typer.Option(help="How much goes wrong on the way.")] = DemoFaults.SOME,
) -> None:
    """Collect from a simulated venue: no internet, no account, own data directory and database."""
    from src.jobs.demo.demo import demo_venues  # noqa: PLC0415 - the simulators of all venues, for this command alone

    settings = _settings()

    async def work() -> int:
        async with demo_venues(settings, seed=seed, faults=faults) as made:
            return await run_collector(
                made.settings,
                announce=lambda start: _announce(made.settings, start, simulated=True),
                hours=made.hours,
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


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def _announce(settings: Settings, start: Start, *, simulated: bool = False) -> None:
    sys.stdout.write(banner(settings, start, simulated=simulated))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
