"""Order-book sessions and CSV files, put together for the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from src.config import Settings
from src.jobs.market_status import idx_status
from src.jobs.order_books.csv_archive import Compression
from src.jobs.order_books.csv_directory import CsvOptions
from src.jobs.order_books.csv_rows import Layout
from src.jobs.order_books.csv_writer import CsvJob
from src.jobs.order_books.stream_sessions import Link, link_of
from src.jobs.order_books.streams import StreamSessions
from src.jobs.source import Work
from src.models.clock import Clock
from src.models.live import Upstream
from src.models.metrics import Metrics
from src.models.status import Check
from src.models.symbols import ALL_VENUES
from src.pipeline.hub import Hub
from src.store.base import Store
from src.venues.idx.calendar import IdxCalendar

LOGGED_IN = "ready"


class LinkedSource(Protocol):
    """What is asked of a venue's source: its name, and its status as `src.venues.pool.Pool.status` tells it.

    A venue with an account adds ``login``: ``{"state": "ready" or why not, "why": …}``.
    """

    @property
    def venue(self) -> str:
        """Name of the venue."""

    def status(self) -> Mapping[str, Any]:
        """How it stands now, from memory."""


class OrderBookJobs:
    """Sessions, the files they are written to, and the exchange's calendar.

    Args:
        settings: ``ORDERBOOK_…`` and ``IDX_HOLIDAYS_FILE``.
        store: where sessions are kept.
        hub: publishes the books.
        upstream: takes the demand for tickers.
        sources: the venues collected by this program.
        calendar: of IDX.
        clock: for times and durations.
        metrics: counts sessions, rows and what is missing.

    Attributes:
        calendar: of IDX.
        sessions: order-book sessions.
        csv: writes the files; None when ``ORDERBOOK_CSV`` is off.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        hub: Hub,
        upstream: Upstream,
        sources: Iterable[LinkedSource],
        calendar: IdxCalendar,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.calendar = calendar
        self._clock = clock
        self.sessions = StreamSessions(
            store,
            upstream=upstream,
            venues=ALL_VENUES,
            links={source.venue: partial(link_to, source) for source in sources},
            market=lambda: idx_status(self.calendar, clock.wall_ms()),
            clock=clock,
            metrics=metrics,
        )
        self.csv: CsvJob | None = None
        hub.listen("streams", self.sessions.listen)
        if settings.orderbook_csv != "off":
            options = CsvOptions(
                settings.csv_dir,
                Layout(settings.orderbook_csv_layout),
                Compression(settings.orderbook_csv_compress),
            )
            wanted = self.sessions.is_wanted if settings.orderbook_csv == "sessions" else _everything
            self.csv = CsvJob(options, wanted=wanted, clock=clock, metrics=metrics)
            hub.listen("csv", self.csv.listen)

    def works(self, stopping: asyncio.Event) -> Sequence[Work]:
        """Tasks to be kept running, by name; each returns when ``stopping`` is set."""
        works: list[Work] = [("streams", lambda: self.sessions.run(stopping))]
        if self.csv is not None:
            works.append(("csv", partial(self.csv.run, stopping)))
        return works

    async def finish(self, *, stored: bool = True) -> None:
        """End all sessions and complete the files.

        To be called once, when nothing arrives any more and everything that arrived has been published. ``stored``
        False = another program writes to the database now.
        """
        await self.sessions.stop_all(stored=stored)
        if self.csv is not None:
            await self.csv.finish()

    def csv_stats(self) -> dict[str, Any]:
        """The ``csv`` section of ``/stats``."""
        return {"enabled": False} if self.csv is None else {"enabled": True, **self.csv.stats()}

    def checks(self) -> list[Check]:
        """For ``/health``: whether files can be written."""
        if self.csv is None:
            return []
        return [Check("csv", not self.csv.problem, self.csv.problem or "files are written")]


def link_to(source: LinkedSource) -> Link:
    """How a source's connections stand, and whether somebody has to log in."""
    status = source.status()
    login = status.get("login") or {"state": LOGGED_IN}
    obstacle = "" if login["state"] == LOGGED_IN else login.get("why") or login["state"]
    return link_of(status.get("connections", ()), obstacle=obstacle, requires_login=bool(obstacle))


def _everything(venue: str, ticker: str) -> bool:
    del venue, ticker
    return True
