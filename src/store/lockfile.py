"""Locks of the operating system on files: they vanish with the process that holds them, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from src.models.errors import ConfigurationError, DataDirectoryBusyError

if sys.platform != "win32":
    import fcntl

INSTANCE_LOCK_NAME = "collector.lock"
_RETRY_INTERVAL_S = 0.05
_MAX_OWNER_CHARS = 4096

_log = structlog.get_logger(__name__)


class FileLock:
    """A lock on one file, held until `release` or the end of the process. The file itself stays.

    On systems without such locks (Windows) every attempt succeeds, and a warning is logged once.
    """

    _warned = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock now or not at all; False = another holder is in the way.

        Raises:
            ConfigurationError: the file cannot be opened or the file system knows no locks.
        """
        assert self._descriptor is None, "a lock is taken once"
        if sys.platform == "win32":
            self._warn_once()
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(_unusable(self._path.parent, error)) from error
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise ConfigurationError(_unusable(self._path.parent, error)) from error
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go; safe to repeat."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def sign(self, command: str) -> None:
        """Write into the file who holds the lock, for the message another process shows."""
        owner = {"pid": os.getpid(), "command": command, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # on a full disk the lock holds all the same, only unsigned
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)

    def holder(self) -> str:
        """The last signature as text: who, pid, since when; "another process" where it cannot be read."""
        try:
            owner = json.loads(self._path.read_text("utf-8")[:_MAX_OWNER_CHARS])
            return f"pid {int(owner['pid'])} ({owner['command']}), running since {owner['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _warn_once(self) -> None:
        if not FileLock._warned:
            FileLock._warned = True
            _log.warning("file_locks_missing", path=str(self._path), remedy="start the program once per DATA_DIR")


class DataDirectoryLock:
    """The right to run the collector on a data directory; at most one process has it at a time.

    Taken by `open_embedded` for an exclusive user. With a MongoDB of the user's own the composition root takes it.

    Use as a context manager.

    Raises:
        DataDirectoryBusyError: another instance runs there; the text says which one and what to do.
        ConfigurationError: the directory cannot be used.
    """

    def __init__(self, data_dir: Path, *, command: str | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._command = command or command_line()
        self._lock = FileLock(self._data_dir / INSTANCE_LOCK_NAME)

    def __enter__(self) -> Self:
        make_directory(self._data_dir)
        if not self._lock.try_acquire():
            raise DataDirectoryBusyError(
                f"data directory {self._data_dir} is in use by {self._lock.holder()}: stop that one first, "
                f"or give this one a directory of its own with DATA_DIR"
            )
        self._lock.sign(self._command)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


async def acquire(lock: FileLock, *, timeout_s: float) -> bool:
    """Take an exclusive lock, waiting up to ``timeout_s``; False when it was not to be had."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not lock.try_acquire():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(_RETRY_INTERVAL_S)
    return True


def make_directory(path: Path) -> None:
    """Create a directory for this user alone, with its parents.

    Raises:
        ConfigurationError: it cannot be created or is not a directory.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(_unusable(path, error)) from error


def command_line() -> str:
    """This process as a person would type it, without options (they may carry secrets)."""
    words = [Path(sys.argv[0]).name] if sys.argv and sys.argv[0] else ["python"]
    with contextlib.suppress(IndexError):
        if not sys.argv[1].startswith("-"):
            words.append(sys.argv[1])
    return " ".join(words)


def _unusable(path: Path, error: OSError) -> str:
    return (
        f"DATA_DIR: {path} cannot be used ({error.strerror or error}): give the user that runs the program the right "
        f"to write there, or set DATA_DIR to a directory on a local disk"
    )
