"""Writing raw frames to disk, so that a session can be replayed, kept as evidence or turned into a test.

One compressed file (``*.jsonl.zst``) after the other, one JSON object per line:
``{"recv_ms":...,"conn":"...","venue":"...","frame":<the frame>}``. A frame that is not one JSON value on one line
stands under ``"text"`` (as a JSON string) or ``"b64"`` instead, so every frame comes back byte for byte;
`src.jobs.recordings.recorded_frames` reads the files.
"""

from __future__ import annotations

import base64
import os
import shutil
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog
import zstandard
from msgspec import Struct

from src.models.clock import Clock
from src.models.errors import ConfigurationError
from src.models.metrics import FRAMES_RECORDED, RECORDING_DROPPED, Metrics

ROTATE_BYTES = 256 * 1024 * 1024
ROTATE_SECONDS = 3600.0
FLUSH_SECONDS = 0.5
"""What a crash of the program can lose of a recording, at most twice this."""

MAX_PENDING_BYTES = 64 * 1024 * 1024
MIN_FREE_BYTES = 512 * 1024 * 1024
"""A recording never takes the last of the disk: MongoDB needs it more."""

CLOSE_TIMEOUT_S = 10.0

_FRAME_OVERHEAD_BYTES = 100
_MOST_NAMES_PER_SECOND = 1000
_encode = msgspec.json.Encoder().encode
_any_json = msgspec.json.Decoder(msgspec.Raw)
_log = structlog.get_logger(__name__)


class RecorderStats(Struct, frozen=True):
    """What a recording amounts to so far; ``problem`` says why it stopped by itself, None while it has not."""

    files: int
    frames: int
    frame_bytes: int
    file_bytes: int
    dropped: int
    path: Path | None
    problem: str | None


class FrameRecorder:
    """A tap that keeps every frame, without ever holding up or ending the collection it listens to.

    Calling it only queues the frame; a thread of its own compresses and writes. When the disk cannot follow, frames
    are dropped and counted (``queue_full``); when writing fails or the disk is nearly full, recording stops, says so
    once in the log and in `stats`, and counts what it misses (``stopped``). The owner calls `start` and `close`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        venue: str,
        clock: Clock,
        metrics: Metrics,
        rotate_bytes: int = ROTATE_BYTES,
        rotate_seconds: float = ROTATE_SECONDS,
        flush_seconds: float = FLUSH_SECONDS,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self._directory = directory
        self._venue = venue
        self._metrics = metrics
        self._flush_seconds = flush_seconds
        self._max_pending_bytes = max_pending_bytes
        self._min_free_bytes = min_free_bytes
        self._files = _Files(directory, venue, clock, rotate_bytes=rotate_bytes, rotate_seconds=rotate_seconds)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._pending: list[_Pending] = []
        self._pending_bytes = 0
        self._frames = 0
        self._frame_bytes = 0
        self._dropped = 0
        self._lost_by_writer = 0
        self._closing = False
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name=f"record-{venue}", daemon=True)

    def start(self) -> None:
        """Begin recording.

        Raises:
            ConfigurationError: the directory cannot be created or written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot record into {self._directory}: {error}") from error
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise ConfigurationError(f"cannot record into {self._directory}: it is not writable for this user")
        self._thread.start()

    def __call__(self, conn: str, frame: str | bytes, received_ms: int) -> None:
        """Queue one frame; returns at once and never raises. Called from one thread (the event loop's)."""
        size = len(frame) + _FRAME_OVERHEAD_BYTES
        with self._lock:
            reason = self._refusal(size)
            if reason is None:
                self._pending.append(_Pending(conn, frame, received_ms))
                self._pending_bytes += size
                half_full = self._pending_bytes * 2 > self._max_pending_bytes
        if reason is not None:
            self._dropped += 1
            self._metrics.add(RECORDING_DROPPED, reason)
        else:
            self._metrics.add(FRAMES_RECORDED)
            if half_full:
                self._wake.set()
        self._report_lost()

    def stats(self) -> RecorderStats:
        """What was recorded so far; safe at any time."""
        self._report_lost()
        return RecorderStats(
            files=self._files.opened,
            frames=self._frames,
            frame_bytes=self._frame_bytes,
            file_bytes=self._files.written_bytes,
            dropped=self._dropped,
            path=self._files.path,
            problem=self._problem,
        )

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> RecorderStats:
        """Write what is queued, finish the file and say what was recorded; safe to repeat.

        Blocks for up to ``timeout_s``, so an event loop calls it through ``asyncio.to_thread``.
        """
        with self._lock:
            self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                _log.warning("recording_not_finished", directory=str(self._directory), waited_s=timeout_s)
        return self.stats()

    def _refusal(self, size: int) -> str | None:
        if self._problem is not None or self._closing:
            return "stopped"
        if self._pending_bytes + size > self._max_pending_bytes:
            return "queue_full"
        return None

    def _report_lost(self) -> None:
        with self._lock:
            lost, self._lost_by_writer = self._lost_by_writer, 0
        if lost:
            self._dropped += lost
            self._metrics.add(RECORDING_DROPPED, "write_failed", amount=lost)

    def _run(self) -> None:
        batch: list[_Pending] = []
        closing = False
        try:
            while not closing:
                self._wake.wait(self._flush_seconds)
                self._wake.clear()
                with self._lock:
                    closing = self._closing
                    batch, self._pending, self._pending_bytes = self._pending, [], 0
                self._write(batch)
                batch = []
            self._files.finish()
        except Exception as error:  # noqa: BLE001 - the thread's boundary: whatever fails, collecting goes on
            self._fail(error, unwritten=len(batch))

    def _write(self, batch: list[_Pending]) -> None:
        if not batch:
            self._files.rotate_if_due()
            return
        free = shutil.disk_usage(self._directory).free
        if free < self._min_free_bytes:
            raise OSError(f"only {free:,} bytes are free, {self._min_free_bytes:,} are left to MongoDB")
        self._files.write(_line(self._venue, item) for item in batch)
        self._frames += len(batch)
        self._frame_bytes += sum(len(item.frame) for item in batch)

    def _fail(self, error: Exception, *, unwritten: int) -> None:
        with self._lock:
            self._problem = f"{type(error).__name__}: {error}"
            self._lost_by_writer += unwritten + len(self._pending)
            self._pending, self._pending_bytes = [], 0
        self._files.abandon()
        _log.error(
            "recording_stopped",
            directory=str(self._directory),
            error=self._problem,
            remedy="free disk space or choose another directory, then start recording again; collecting goes on",
        )


class _Pending(Struct, frozen=True, gc=False):
    conn: str
    frame: str | bytes
    received_ms: int


class _Files:
    """The files of one recording, one open at a time; used by the writer thread only (but for its counters)."""

    def __init__(
        self, directory: Path, venue: str, clock: Clock, *, rotate_bytes: int, rotate_seconds: float
    ) -> None:
        self._directory = directory
        self._venue = venue
        self._clock = clock
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._file: BinaryIO | None = None
        self._compressor: zstandard.ZstdCompressionWriter | None = None
        self._opened_at = 0.0
        self._finished_bytes = 0
        self.opened = 0
        self.written_bytes = 0
        self.path: Path | None = None

    def write(self, lines: Iterable[bytes]) -> None:
        """Write and hand to the operating system, so that a crash of the program loses none of these."""
        file, compressor = self._open_files()
        for line in lines:
            compressor.write(line)
        compressor.flush(zstandard.FLUSH_BLOCK)  # a reader gets everything up to here even when the end is missing
        file.flush()
        self.written_bytes = self._finished_bytes + file.tell()
        self.rotate_if_due()

    def rotate_if_due(self) -> None:
        """Finish the file when it is large or old enough; the next frame opens the next one."""
        if self._file is None:
            return
        too_large = self._file.tell() >= self._rotate_bytes
        too_old = self._clock.monotonic() - self._opened_at >= self._rotate_seconds
        if too_large or too_old:
            self.finish()

    def finish(self) -> None:
        """Complete the open file and make it survive a power cut."""
        if self._file is None or self._compressor is None:
            return
        self._compressor.close()  # type: ignore[no-untyped-call]  # the library left it out of its stubs
        self._file.flush()
        os.fsync(self._file.fileno())
        self._finished_bytes += self._file.tell()
        self.written_bytes = self._finished_bytes
        self._file.close()
        self._file = self._compressor = None

    def abandon(self) -> None:
        """Let go of the open file as it is; what was flushed stays readable."""
        file, self._file, self._compressor = self._file, None, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                _log.debug("recording_close_failed", error=str(error))

    def _open_files(self) -> tuple[BinaryIO, zstandard.ZstdCompressionWriter]:
        if self._file is None or self._compressor is None:
            self._file = self._create()
            self._compressor = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)
            self._opened_at = self._clock.monotonic()
            self.opened += 1
        return self._file, self._compressor

    def _create(self) -> BinaryIO:
        """A file that did not exist before; ``_002`` and so on sort behind the name of the same second without it."""
        stamp = datetime.fromtimestamp(self._clock.wall_ms() / 1000, tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        for number in range(1, _MOST_NAMES_PER_SECOND):
            tail = "" if number == 1 else f"_{number:03d}"
            path = self._directory / f"{self._venue}-{stamp}{tail}.jsonl.zst"
            try:
                file = path.open("xb")
            except FileExistsError:
                continue
            self.path = path
            return file
        raise FileExistsError(f"{self._directory} already holds {_MOST_NAMES_PER_SECOND} recordings of {stamp}")


def _line(venue: str, item: _Pending) -> bytes:
    head = b'{"recv_ms":%d,"conn":%b,"venue":%b,' % (item.received_ms, _encode(item.conn), _encode(venue))
    return head + _body(item.frame) + b"}\n"


def _body(frame: str | bytes) -> bytes:
    raw = frame.encode("utf-8", errors="surrogatepass") if isinstance(frame, str) else frame
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return b'"b64":"%b"' % base64.b64encode(raw)
    if _is_one_line_value(raw):
        return b'"frame":' + raw
    return b'"text":' + _encode(text)


def _is_one_line_value(raw: bytes) -> bool:
    """Whether these bytes can stand inside a line as they are: an object or array, without line breaks or margins."""
    if raw[:1] not in {b"{", b"["} or raw[-1:] not in {b"}", b"]"} or b"\n" in raw or b"\r" in raw:
        return False
    try:
        _any_json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
