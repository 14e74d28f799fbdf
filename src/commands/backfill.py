"""``backfill``: read what was missed from a venue's history into MongoDB.

While a collector writes to the database, orders and fills are read by that one: it alone knows what it has seen and
how much request weight is left behind its address. The command leaves a request and shows how far it got. Without a
collector the command reads by itself, under the writer's lease. Public trades have identities of their own, so they
are stored directly either way.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from msgspec import Struct
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from src.commands.addresses import checked_addresses
from src.commands.session import read_settings, run_async
from src.config import Settings
from src.jobs.backfill.backfill import Backfill, Reading
from src.jobs.backfill.plan import Kind, Range, as_date
from src.jobs.backfill.sources import TRADES
from src.jobs.backfill.store import BackfillStore, Request
from src.jobs.backfill.trades import TradesBackfill
from src.jobs.hyperliquid.past import hyperliquid_past
from src.jobs.writer.instance import this_holder
from src.jobs.writer.lease import WriterLease, writing
from src.logs import configure_logging
from src.models.errors import ConfigurationError, VenueError, VenueRequestError, WriterBusyError
from src.models.metrics import Metrics
from src.opening import open_database
from src.setting_types import Coins
from src.venues.clock import SystemClock
from src.venues.hyperliquid.mapper import VENUE

EXIT_INCOMPLETE = 1
EXIT_INTERRUPTED = 130
POLL_S = 0.5
UNANSWERED_S = 180.0
"""A collector that answers nothing for so long does not read histories: switched off there, or an older version."""

MOST_TRIES = 5
RETRY_FIRST_S, RETRY_CAP_S = 5.0, 60.0
MISTAKES_SHOWN = 10

_T = TypeVar("_T")

app = typer.Typer(no_args_is_help=True, help="Read what was missed from the venue's history.")

Traders = Annotated[
    list[str] | None, typer.Option("--trader", help="Only this address; may be repeated. Default: all followed.")
]
Since = Annotated[str | None, typer.Option("--from", help="Read again from this time on, such as 2026-01-31.")]
Until = Annotated[str | None, typer.Option("--to", help="Leave out what is not before this time.")]


class Task(Struct, frozen=True):
    """What was asked for."""

    kind: Kind
    traders: Sequence[str]
    range: Range | None


class Outcome(Struct):
    """What became of everything that was asked for."""

    done: int = 0
    found: int = 0
    explained: int = 0
    lost: int = 0
    failures: list[str] = []


@app.command("orders")
def backfill_orders(trader: Traders = None, begin: Since = None, end: Until = None) -> None:
    """Orders that lived between two looks, and why orders ended. The venue tells the newest 2000 statuses only."""
    _backfill(Kind.ORDERS, trader, begin, end)


@app.command("fills")
def backfill_fills(trader: Traders = None, begin: Since = None, end: Until = None) -> None:
    """Executions of traders. The venue keeps the newest 10000 of each."""
    _backfill(Kind.FILLS, trader, begin, end)


@app.command("trades")
def backfill_trades(
    symbol: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be repeated. Default: HYPERLIQUID_COINS.")
    ] = None,
    venue: Annotated[str, typer.Option(help="Whose trades.")] = VENUE,
    begin: Since = None,
    end: Until = None,
) -> None:
    """Public trades, as far back as the venue tells. Hyperliquid: only the newest few of each coin."""
    settings = read_settings(quiet=True)
    if venue not in TRADES:
        raise ConfigurationError(f"--venue {venue[:40]!r}: no history of trades; there is one of {', '.join(TRADES)}")
    symbols = list(dict.fromkeys(symbol or settings.hyperliquid_coins))
    if venue == VENUE:
        symbols = _checked_coins(symbols)
    if not symbols:
        raise ConfigurationError("name at least one --symbol")
    span = _range(begin, end) or Range()
    outcome, notes = _interruptible(_trades(settings, venue, symbols, span))
    for note in notes:
        typer.echo(note)
    _tell(outcome, "trades", len(symbols), what="symbol")


def _backfill(kind: Kind, traders: Sequence[str] | None, begin: str | None, end: str | None) -> None:
    span = _range(begin, end)
    wanted = checked_addresses(traders) if traders else None
    settings = read_settings(quiet=True)
    if settings.log_level != "debug":
        configure_logging(level="error", log_format=settings.log_format)  # a collector at work is no trouble here
    outcome = _interruptible(_with_database(settings, kind, wanted, span))
    _tell(outcome, kind.value, outcome.done + len(outcome.failures), what="trader")


def _tell(outcome: Outcome, kind: str, total: int, *, what: str) -> None:
    """The sums, what failed, and the exit code."""
    for failure in outcome.failures[:MISTAKES_SHOWN]:
        typer.echo(f"not read: {failure}", err=True)
    if len(outcome.failures) > MISTAKES_SHOWN:
        typer.echo(f"not read: {len(outcome.failures) - MISTAKES_SHOWN} more", err=True)
    explained = f", {outcome.explained} closes explained" if outcome.explained else ""
    lost = f", {outcome.lost} holes the venue cannot fill (see coverage)" if outcome.lost else ""
    plural = "" if total == 1 else "s"
    read = f"{outcome.done} of {total} {what}{plural} read"
    typer.echo(f"{outcome.found} {kind} stored that were missing, {read}{explained}{lost}")
    if outcome.failures:
        raise typer.Exit(EXIT_INCOMPLETE)


# -- traders ---------------------------------------------------------------------------------------------------------


async def _with_database(settings: Settings, kind: Kind, wanted: Sequence[str] | None, span: Range | None) -> Outcome:
    clock, metrics = SystemClock(), Metrics()
    async with open_database(settings, shared=True) as (store, _):
        await store.prepare()
        traders = list(wanted) if wanted else await BackfillStore(store, metrics).followed()
        if not traders:
            raise ConfigurationError("nobody is followed; name somebody with --trader 0x…, or see traders add")
        lease = WriterLease(store, clock, holder=this_holder(None), metrics=metrics)
        task = Task(kind, traders, span)
        with _progress() as progress:
            bar = progress.add_task(f"{kind.value} of traders", total=len(traders))
            try:
                async with writing(lease), hyperliquid_past(settings, clock, metrics) as past:
                    return await _read_here(Backfill(store, past, clock, metrics), task, progress, bar)
            except WriterBusyError as busy:
                progress.update(bar, description=f"{kind.value} of traders, read by the running collector")
                return await _ask_collector(BackfillStore(store, metrics), task, progress, bar, str(busy))


async def _read_here(backfill: Backfill, task: Task, progress: Progress, bar: TaskID) -> Outcome:
    outcome = Outcome()
    for number, trader in enumerate(task.traders, start=1):
        try:
            reading = await _patiently(backfill, task, trader)
        except VenueError as error:
            outcome.failures.append(f"{trader}: {error}")
            if not isinstance(error, VenueRequestError):
                outcome.failures += [f"{other}: not tried any more" for other in task.traders[number:]]
                break
        else:
            outcome.done += 1
            outcome.found += reading.found
            outcome.explained += reading.explained
            outcome.lost += len(reading.lost)
        progress.update(bar, advance=1)
    return outcome


async def _patiently(backfill: Backfill, task: Task, trader: str) -> Reading:
    """Read one history; what may pass is tried again, from where it got to."""
    for attempt in range(MOST_TRIES):
        try:
            return await backfill.read(task.kind, trader, task.range)
        except VenueError as error:
            if not error.retryable or attempt + 1 == MOST_TRIES:
                raise
            await asyncio.sleep(min(RETRY_CAP_S, RETRY_FIRST_S * 2**attempt))
    raise AssertionError("unreachable: the last attempt returns or raises")  # pragma: no cover


async def _ask_collector(desk: BackfillStore, task: Task, progress: Progress, bar: TaskID, busy: str) -> Outcome:
    """Leave a request for each trader and wait for the answers; an interrupted wait takes the rest back."""
    clock, run, at = SystemClock(), secrets.token_hex(8), datetime.now(UTC)
    waiting = {trader: Request(run, task.kind, trader, task.range) for trader in task.traders}
    outcome, answered_s = Outcome(), clock.monotonic()
    try:
        for request in waiting.values():
            await desk.ask(request, VENUE, at)
        while waiting and clock.monotonic() - answered_s < UNANSWERED_S:
            for trader, answer in (await desk.answers(task.kind, VENUE, list(waiting))).items():
                if answer.get("id") == run:
                    del waiting[trader]
                    answered_s = clock.monotonic()
                    _add_answer(outcome, trader, answer)
                    progress.update(bar, advance=1)
            await asyncio.sleep(POLL_S)
    finally:
        for request in waiting.values():
            await desk.withdraw(request, VENUE)
    hint = f"no answer for {UNANSWERED_S:.0f} s ({busy}); does it run with HYPERLIQUID_BACKFILL=true?"
    outcome.failures += [f"{trader}: {hint}" for trader in waiting]
    return outcome


def _add_answer(outcome: Outcome, trader: str, answer: Mapping[str, Any]) -> None:
    if answer.get("error"):
        outcome.failures.append(f"{trader}: {answer['error']}")
        return
    outcome.done += 1
    outcome.found += int(answer.get("found", 0))
    outcome.explained += int(answer.get("explained", 0))
    outcome.lost += int(answer.get("lost", 0))


# -- trades ----------------------------------------------------------------------------------------------------------


async def _trades(settings: Settings, venue: str, symbols: Sequence[str], span: Range) -> tuple[Outcome, list[str]]:
    clock, metrics, outcome = SystemClock(), Metrics(), Outcome()
    async with open_database(settings, shared=True) as (store, _), TRADES[venue](settings, clock, metrics) as past:
        await store.prepare()
        backfill = TradesBackfill(store, past, clock, metrics)
        with _progress() as progress:
            bar = progress.add_task("trades", total=len(symbols))
            for symbol in symbols:
                progress.update(bar, description=f"trades of {symbol}")
                try:
                    outcome.found += await backfill.read(symbol, span)
                except VenueError as error:
                    outcome.failures.append(f"{symbol}: {error}")
                else:
                    outcome.done += 1
                progress.update(bar, advance=1)
        await backfill.finish()
        return outcome, [] if past.is_complete else [past.reach]


# -- parts -----------------------------------------------------------------------------------------------------------


def _interruptible(work: Coroutine[Any, Any, _T]) -> _T:
    """Run it; Ctrl-C ends it with a word instead of a trace."""
    try:
        result: _T = run_async(work)
    except KeyboardInterrupt:
        typer.echo("stopped; what was read is stored, the next run goes on from there", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    return result


def _checked_coins(symbols: list[str]) -> list[str]:
    try:
        return list(TypeAdapter(Coins).validate_python(symbols))
    except ValidationError as error:
        text = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"--symbol: {text}") from None


def _range(begin: str | None, end: str | None) -> Range | None:
    if begin is None and end is None:
        return None
    from_ms = 0 if begin is None else _time(begin, "--from")
    to_ms = None if end is None else _time(end, "--to")
    if to_ms is not None and to_ms <= from_ms:
        raise ConfigurationError(f"--to {as_date(to_ms):%Y-%m-%d %H:%M:%S} is not after --from")
    return Range(from_ms, to_ms)


def _time(text: str, name: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{name} {text[:40]!r}: not a time; write 2026-01-31, 2026-01-31T12:00:00 (UTC) or with an offset"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    time_ms = int(moment.timestamp() * 1000)
    if time_ms < 0:
        raise ConfigurationError(f"{name} {text[:40]!r}: before 1970")
    return time_ms


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True, highlight=False), transient=True)
