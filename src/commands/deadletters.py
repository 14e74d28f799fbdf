"""``deadletters list`` and ``deadletters retry``: what could not be used, and a second try by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from src.commands.replaying import only_replay
from src.commands.session import read_settings, run_async
from src.config import Settings
from src.jobs.deadletters import DECODE, DONE, DeadLetters, Letter, Tried
from src.jobs.hyperliquid.source import make_feed
from src.models.clock import Clock
from src.models.errors import ConfigurationError, WriterBusyError
from src.models.metrics import Metrics
from src.opening import open_database
from src.store.base import Store
from src.venues.clock import SystemClock

TABLE_COLUMNS = 250
SAMPLE_CHARS = 60
OTHERWISE = "frames can be tried again only while no collector runs; stop it, retry, and start it again"

app = typer.Typer(no_args_is_help=True, help="What could not be used: look at it, and try it again by hand.")


@app.command("list")
def list_letters(
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
) -> None:
    """Show what was put aside and not resolved since, the newest first."""
    letters: list[Letter] = run_async(_listed(read_settings(quiet=True), reason, limit))
    if not letters:
        typer.echo("no dead letters" if reason is None else f"no dead letters with reason {reason}")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("id", "when", "stage", "reason", "bytes", "retry", "tried", "detail", "sample"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("bytes", "tried") else "left")
    for letter in letters:
        table.add_row(*(_printable(cell) for cell in _row(letter)))
    Console(highlight=False, markup=False, emoji=False, width=TABLE_COLUMNS).print(table)


@app.command("retry")
def retry_letters(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As shown by list.")] = None,
    reason: Annotated[str | None, typer.Option(help="All with this reason.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are not resolved.")] = False,  # noqa: FBT002
) -> None:
    """Try letters again, each once: refused documents are offered to MongoDB, frames go through the mapper."""
    if not ids and reason is None and not everything:
        raise ConfigurationError("say which: one or more ids (see deadletters list), --reason R, or --all")
    if ids and everything:
        raise ConfigurationError("ids or --all, not both")
    tried: list[Tried] = run_async(_retried(read_settings(quiet=True), reason, ids or []))
    for one in tried:
        if one.error:
            typer.echo(_printable(f"{one.letter.id}: {one.outcome}: {one.error}"))
    sums = Counter(one.outcome for one in tried)
    typer.echo(f"{len(tried)} tried" + "".join(f", {count} {outcome}" for outcome, count in sorted(sums.items())))
    if any(one.outcome not in DONE for one in tried):
        raise typer.Exit(1)


async def _listed(settings: Settings, reason: str | None, limit: int) -> list[Letter]:
    async with open_database(settings, shared=True) as (store, _):
        await store.prepare()
        return await DeadLetters(store, SystemClock()).listed(reason=reason, limit=limit)


async def _retried(settings: Settings, reason: str | None, ids: Sequence[str]) -> list[Tried]:
    clock = SystemClock()
    async with open_database(settings, shared=True) as (store, _):
        await store.prepare()
        letters = DeadLetters(store, clock)
        chosen = await letters.chosen(reason=reason, identities=ids)
        tried = [await letters.retry_write(letter) for letter in chosen if letter.stage != DECODE]
        frames = [letter for letter in chosen if letter.stage == DECODE]
        return tried + await _retry_frames(settings, store, letters, frames, clock)


async def _retry_frames(
    settings: Settings, store: Store, letters: DeadLetters, frames: Sequence[Letter], clock: Clock
) -> list[Tried]:
    if not frames:
        return []
    feed = make_feed(settings)
    try:
        async with only_replay(settings, store, clock=clock, metrics=Metrics(), otherwise=OTHERWISE) as replay:
            return [await letters.retry_frame(letter, feed, replay) for letter in frames]
    except WriterBusyError as error:
        return [Tried(letter, "cannot be tried", str(error)) for letter in frames]


def _row(letter: Letter) -> tuple[str, ...]:
    sample = letter.sample[:SAMPLE_CHARS] + ("…" if len(letter.sample) > SAMPLE_CHARS else "")
    return (
        letter.id,
        f"{letter.received:%Y-%m-%d %H:%M:%S}",
        letter.stage,
        letter.reason,
        f"{letter.size_bytes}",
        "yes" if letter.payload else "no",
        f"{letter.attempts}",
        (letter.last_error or letter.detail)[:SAMPLE_CHARS],
        sample,
    )


def _printable(text: str) -> str:
    """What strangers sent must not steer the terminal, nor break the line."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
