"""The mongod program: where it is, how it is started, what it says when it does not start."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from src.models.errors import EmbeddedServerError

LOOPBACK = "127.0.0.1"
REPLICA_SET = "collector"
FIRST_PORT, LAST_PORT = 27117, 28016
"""Below the range from which systems take ports for outgoing connections, so that a restart finds its port free."""

OPLOG_MIB = 990
"""The smallest oplog MongoDB allows; its default is 5 % of the free disk."""

WANTED_OPEN_FILES = 64_000
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_BINARY = Path("fiftyone/db/bin/mongod")

EXIT_PORT_TAKEN = 48
EXIT_DIRECTORY_TAKEN = 100
_EXIT_WRONG_VERSION = 62
_EXIT_NO_LIBRARY = 127
_DISK_FULL = ("No space left", "ENOSPC")
_MAX_TAIL_BYTES = 64 * 1024
_MAX_TAIL_CHARS = 600

_ELSEWHERE = (
    "or use a MongoDB of your own: start one with `docker compose -f deploy/compose.yaml up -d mongodb` and set "
    "MONGODB_URI"
)


def find_binary() -> Path:
    """The mongod that came with the program's packages.

    Raises:
        EmbeddedServerError: there is none for this system, or it may not be executed.
    """
    for folder in sys.path:
        binary = Path(folder or ".").resolve() / _BINARY
        if binary.is_file():
            if not os.access(binary, os.X_OK):
                raise EmbeddedServerError(f"{binary} may not be executed: run `chmod +x` on it, {_ELSEWHERE}")
            return binary
    raise EmbeddedServerError(
        f"no embedded MongoDB for {platform.system()} {platform.machine()}: it comes for Linux (x86_64, aarch64) and "
        f"macOS. Run `uv sync` if this is one of them, {_ELSEWHERE}"
    )


def command(
    binary: Path, *, directory: Path, port: int, cache_gib: float, log: Path, replica_set: str = REPLICA_SET
) -> list[str]:
    """The command line of a single-node replica set that listens on the loopback address only."""
    return [
        str(binary),
        *("--dbpath", str(directory), "--bind_ip", LOOPBACK, "--port", str(port), "--nounixsocket"),
        *("--replSet", replica_set, "--oplogSize", str(OPLOG_MIB)),
        *("--wiredTigerCacheSizeGB", f"{cache_gib:g}"),
        *("--logpath", str(log), "--logappend", "--logRotate", "reopen", "--quiet", "--slowms", "1000"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]


def spawn(arguments: Sequence[str], *, output: Path) -> MongodProcess:
    """Start mongod in a session of its own: the terminal's Ctrl-C reaches this program alone, which then stops it.

    Its environment carries none of our secrets. What it prints before it opens its log goes to ``output``.

    Raises:
        EmbeddedServerError: the program cannot be executed at all.
    """
    raise_open_files_limit()
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    try:
        with output.open("wb") as sink:
            child = subprocess.Popen(  # noqa: S603 - a fixed binary with arguments of ours
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
    except OSError as error:
        raise EmbeddedServerError(f"{arguments[0]} cannot be started ({error}): {_ELSEWHERE[3:]}") from error
    return MongodProcess(child.pid, child)


class MongodProcess:
    """A mongod on this machine, our child or found by its pid; never mistaken for a later process of that pid."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):
            self._process = psutil.Process(pid)

    @property
    def returncode(self) -> int | None:
        """Exit status of a child, negative for a signal; None while it runs, and for a process that is no child."""
        return self._child.poll() if self._child is not None else None

    def is_running(self) -> bool:
        """Whether it still runs; a dead process that nobody has collected yet does not."""
        if self._child is not None:
            return self._child.poll() is None
        if self._process is None:
            return False
        try:
            return bool(self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is left in peace."""
        if self._process is not None and self.is_running():
            with contextlib.suppress(psutil.Error):
                self._process.send_signal(number)

    def detach(self) -> None:
        """Leave the process running after we end: nobody waits for it here any more."""
        if self._child is not None and self._child.poll() is None:
            self._child.returncode = 0  # tells Popen not to complain about a child that outlives it
            self._child = None


def find_process(pid: int, directory: Path) -> MongodProcess | None:
    """The process with this pid, if it is a mongod that works on ``directory``; anything else is not ours."""
    arguments = command_of(pid)
    if not arguments or not Path(arguments[0]).name.startswith("mongod"):
        return None
    if option(arguments, "--dbpath") != str(directory):
        return None
    found = MongodProcess(pid)
    return found if found.is_running() else None


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty when there is no such process or it is none of our business."""
    try:
        return list(psutil.Process(pid).cmdline())
    except (psutil.Error, ValueError, OverflowError):
        return []


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value that follows an option on a command line."""
    with contextlib.suppress(ValueError, IndexError):
        return arguments[arguments.index(name) + 1]
    return None


def choose_port(preferred: int | None) -> int:
    """A free loopback port, the preferred one where possible, else the usual one, else any of the range.

    Any, not the next: programs that start at the same time would all choose that.

    Raises:
        EmbeddedServerError: the system has none left.
    """
    others = random.sample(range(FIRST_PORT + 1, LAST_PORT + 1), LAST_PORT - FIRST_PORT)
    candidates = [FIRST_PORT, *others] if preferred is None else [preferred, FIRST_PORT, *others]
    for candidate in candidates:
        if is_free(candidate):
            return candidate
    raise EmbeddedServerError(
        f"no free port from {FIRST_PORT} to {LAST_PORT} on {LOOPBACK}: close other programs, {_ELSEWHERE}"
    )


def is_free(port: int) -> bool:
    """Whether nobody listens on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
        return True


def raise_open_files_limit() -> None:
    """Allow more open files where the system lets us; mongod and many connections both need them."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - does not exist on Windows

    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = WANTED_OPEN_FILES if hard == resource.RLIM_INFINITY else min(WANTED_OPEN_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def explain_exit(returncode: int | None, printed: str, log_lines: Sequence[str]) -> str:
    """Why mongod ended, in words that say what to do.

    Args:
        returncode: exit status, negative for a signal, None when unknown.
        printed: what it wrote to its standard output and error.
        log_lines: the last lines of its log.
    """
    said = _last_words(printed, log_lines)
    if returncode == _EXIT_NO_LIBRARY or "error while loading shared libraries" in printed:
        cause = "a system library is missing: `apt-get install libcurl4 libssl3` (Debian, Ubuntu) brings them"
    elif returncode == -signal.SIGILL:
        cause = "this processor is too old for MongoDB (it needs AVX on x86_64, ARMv8.2 on aarch64)"
    elif returncode == _EXIT_WRONG_VERSION:
        cause = "the data was written by another version of MongoDB: set DATA_DIR to another directory"
    elif any(sign in said for sign in _DISK_FULL):
        cause = "the disk is full: make room and start again"
    elif returncode == -signal.SIGKILL:
        cause = "it was killed (out of memory?): lower MONGODB_CACHE_GB or free some memory"
    else:
        cause = "see its log"
    ending = f"signal {-returncode}" if returncode is not None and returncode < 0 else f"exit code {returncode}"
    return f"embedded MongoDB stopped with {ending}: {cause}, {_ELSEWHERE}. It said: {said or 'nothing'}"


def size_bytes(path: Path) -> int:
    """Size of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def tail(path: Path, *, after_byte: int = 0) -> str:
    """The end of a text file, not beyond ``after_byte``; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(after_byte, size_bytes(path) - _MAX_TAIL_BYTES))
            return file.read(_MAX_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _last_words(printed: str, log_lines: Sequence[str]) -> str:
    """The errors among the last log lines, else what was printed."""
    errors: list[str] = []
    for line in log_lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("s") in {"E", "F"}:
            errors.append(f"{entry.get('msg')} {json.dumps(entry.get('attr', {}))}")
    plain = [line for line in printed.splitlines() if line and not line.startswith("{")]
    return " | ".join(errors[-3:] or plain[-3:])[:_MAX_TAIL_CHARS]
