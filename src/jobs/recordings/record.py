"""Raw frames to disk: the connections alone, without diff and database."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from src.config import Settings
from src.jobs.hyperliquid.source import HyperliquidSource
from src.jobs.recordings.recording import FrameRecorder
from src.models.changes import DeadLetter
from src.models.errors import VenueError
from src.models.messages import Data, Gap, Refusal
from src.models.metrics import Metrics
from src.models.streams import Subscription
from src.venues.clock import SystemClock

log = structlog.get_logger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1


class _Discard:
    """A sink for a pool whose frames are kept raw; hears only what the server refuses."""

    source: HyperliquidSource

    def data(self, data: Data) -> None:
        """Nothing: the tap has it."""

    def gap(self, gap: Gap) -> None:
        """Nothing: the pool logs it."""

    def rejected(self, letter: DeadLetter) -> None:
        """Nothing: the tap has it."""

    def refused(self, refusal: Refusal, failed: tuple[Subscription, ...]) -> None:
        """Let the source choose another feed."""
        self.source.on_refused(refusal, failed)


async def record_frames(settings: Settings, *, directory: Path, seconds: float | None) -> int:
    """Record until ``seconds`` are over or a signal comes; returns the exit code.

    Raises:
        ConfigurationError: the directory cannot be written.
    """
    clock, metrics, stopping = SystemClock(), Metrics(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    recorder = FrameRecorder(directory, venue="hyperliquid", clock=clock, metrics=metrics)
    recorder.start()
    sink = _Discard()
    source = HyperliquidSource(settings, sink=sink, clock=clock, metrics=metrics, tap=recorder)
    sink.source = source
    finding = asyncio.create_task(_traders(settings, source), name="leaderboard")
    if not await _ends_before(finding, stopping, None):
        finding.cancel()
        await asyncio.wait([finding])
    source.follow(() if finding.cancelled() else finding.result())
    log.info(
        "recording",
        directory=str(directory),
        traders=len(source.followed),
        coins=list(settings.hyperliquid_coins),
    )
    collecting = asyncio.create_task(source.run(), name="record")
    await _ends_before(collecting, stopping, seconds)
    await source.close()
    await asyncio.wait([collecting])
    stats = await asyncio.to_thread(recorder.close)
    sys.stdout.write(f"{stats.frames} frames in {stats.path or directory}\n")
    if stats.problem is not None or stats.dropped:
        sys.stdout.write(f"not recorded: {stats.dropped} frames; {stats.problem or 'the disk could not follow'}\n")
        return EXIT_FAILED
    collecting.result()  # a fault that ended the connections comes out here, when what they brought is on disk
    return EXIT_OK


async def _ends_before(work: asyncio.Task[Any], stopping: asyncio.Event, timeout_s: float | None) -> bool:
    """Wait for ``work``, the stop or the timeout, whichever comes first; True when it was ``work``."""
    stopped = asyncio.create_task(stopping.wait(), name="stop")
    try:
        await asyncio.wait([work, stopped], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    return work.done()


async def _traders(settings: Settings, source: HyperliquidSource) -> Sequence[str]:
    if not settings.trader_ws_enabled:
        return ()
    if settings.hyperliquid_traders:
        return settings.hyperliquid_traders
    try:
        return [candidate.address for candidate in await source.discover(settings.hyperliquid_max_users)]
    except VenueError as error:
        log.warning("leaderboard_not_read", error=str(error), effect="only books and trades are recorded")
        return ()
