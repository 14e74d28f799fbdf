"""The embedded MongoDB: a real mongod of our own under ``DATA_DIR``, for as long as somebody uses it.

Every process that uses the server holds a shared lock on ``mongodb.users``. Who joins while none runs starts it; who
leaves as the last one stops it. A server that survived the death of its users (``kill -9``) is found through
``mongodb.json`` or mongod's own lock file and used on. Starting and stopping happen under the lock ``mongodb.mutex``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import structlog

from src.models.errors import ConfigurationError, DataDirectoryBusyError, EmbeddedServerError
from src.store import mongod
from src.store.embedded_files import (
    Files,
    RunningServer,
    ServerState,
    find_running,
    read_state,
    replica_set_name,
    rotate_log,
    write_state,
)
from src.store.lockfile import DataDirectoryLock, FileLock, acquire, command_line, make_directory
from src.store.mongod import MongodProcess
from src.store.replica import (
    ProcessEndedError,
    local_uri,
    request_shutdown,
    wait_for_end,
    wait_until_writable,
)

DEFAULT_CACHE_GIB = 0.5
MIN_CACHE_GIB = 0.25
START_TIMEOUT_S = 120.0
"""Recovery after a power cut can take a minute on a slow disk; a usual start takes about a second."""

ORPHAN_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
LEAST_STOP_TIMEOUT_S = 1.0
TERMINATE_TIMEOUT_S = 5.0
KILL_TIMEOUT_S = 5.0
_START_ATTEMPTS = 5
_DIRECTORY_ATTEMPTS = 3
"""A server that was killed may hold its directory for a moment longer than its process is to be seen."""

_PORT_RETRY_INTERVAL_S = 0.5
_WATCH_INTERVAL_S = 0.25
_LOG_CHECK_EVERY = 120  # turns of the watch: 30 s

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_embedded(
    data_dir: Path,
    *,
    shared: bool = False,
    cache_gib: float = DEFAULT_CACHE_GIB,
    binary: Path | None = None,
    start_timeout_s: float = START_TIMEOUT_S,
) -> AsyncIterator[EmbeddedServer]:
    """Use the embedded MongoDB of a data directory; it is started where it does not run yet.

    At the end it is stopped, unless another process uses it.

    Args:
        data_dir: ``DATA_DIR``; created where missing.
        shared: False for the collector itself, of which one may run per directory; True for commands that only
            need the database, beside a running collector or alone.
        cache_gib: memory for the server's cache in GiB.
        binary: another mongod than the one that came with the packages.
        start_timeout_s: longest time to wait for the server.

    Raises:
        DataDirectoryBusyError: another collector runs on this directory.
        EmbeddedServerError: there is no mongod for this system, or it does not start.
        ConfigurationError: the directory or the cache size cannot be used.
    """
    if cache_gib < MIN_CACHE_GIB:
        raise ConfigurationError(f"MONGODB_CACHE_GB: {cache_gib} is below the least MongoDB takes, {MIN_CACHE_GIB}")
    files = Files(data_dir)
    with ExitStack() as locks:
        if not shared:
            locks.enter_context(DataDirectoryLock(data_dir))
        make_directory(files.database)
        server = EmbeddedServer(files, cache_gib=cache_gib, binary=binary, start_timeout_s=start_timeout_s)
        await server.join()
        watch = asyncio.create_task(server.watch(), name="mongod_watch")
        watch.add_done_callback(server.note_end_of_watch)
        try:
            yield server
        finally:
            watch.cancel()
            await server.leave()


class EmbeddedServer:
    """A running embedded server as one of its users sees it; made by `open_embedded`.

    Attributes:
        died: set when the mongod is found dead; cleared by a successful `restart`.
        was_running: True when it ran already: another process uses it, or it had been left behind.
        leave_by: time of the event loop by which `leave` has to have stopped the server, at worst by killing it;
            None = it takes the time it usually may.
    """

    def __init__(self, files: Files, *, cache_gib: float, binary: Path | None, start_timeout_s: float) -> None:
        self.died = asyncio.Event()
        self.was_running = False
        self.leave_by: float | None = None
        self._files = files
        self._cache_gib = cache_gib
        self._binary = binary
        self._start_timeout_s = start_timeout_s
        self._users = FileLock(files.users)
        self._process: MongodProcess | None = None
        self._state: ServerState | None = None

    @property
    def uri(self) -> str:
        """Connection string; the same after a `restart`."""
        return local_uri(self._known_state().port, replica_set_name(self._files))

    @property
    def pid(self) -> int:
        """Process id of the mongod."""
        return self._known_state().pid

    @property
    def version(self) -> str:
        """Version of MongoDB."""
        return self._known_state().version

    @property
    def log_path(self) -> Path:
        """Where mongod writes its log."""
        return self._files.log

    async def restart(self) -> None:
        """Bring a dead server back on the same port with all it acknowledged; nothing happens when it runs.

        Safe when several users notice the death at once: the first one starts it, the others find it running.

        Raises:
            EmbeddedServerError: it does not start; trying again later may help.
            DataDirectoryBusyError: another process keeps starting or stopping it.
        """
        async with self._mutex(timeout_s=self._start_timeout_s + STOP_TIMEOUT_S):
            await self._find_or_start(port=self._known_state().port)
        self.died.clear()

    async def join(self) -> None:
        """Use the running server, or start one; called by `open_embedded`."""
        async with self._mutex(timeout_s=self._start_timeout_s + STOP_TIMEOUT_S):
            await self._find_or_start(port=None)
            if not self._users.try_acquire(shared=True):
                raise DataDirectoryBusyError(f"{self._files.users} is locked by a program that is not this one")

    async def leave(self) -> None:
        """Stop the server unless others use it; called by `open_embedded`."""
        if self._process is None:
            return
        try:
            async with self._mutex(timeout_s=STOP_TIMEOUT_S):
                self._users.release()
                if self._users.try_acquire():
                    directory = str(self._files.database)
                    running = RunningServer(self._process, self._known_state().port, directory)
                    await _stop(running, timeout_s=self._leave_timeout_s())
                else:
                    _log.info("mongod_left_running", pid=self.pid, reason="in use by another process")
        except DataDirectoryBusyError as error:
            _log.warning("mongod_left_running", pid=self.pid, reason=str(error))
        finally:
            self._users.release()
            self._process.detach()

    async def watch(self) -> None:
        """Notice the death of the server, and keep its log bounded; runs until cancelled."""
        turns = 0
        while True:
            await asyncio.sleep(_WATCH_INTERVAL_S)
            turns += 1
            process = self._process
            if process is not None and not process.is_running() and not self.died.is_set():
                _log.error("mongod_died", pid=process.pid, returncode=process.returncode, log=str(self.log_path))
                self.died.set()
            if turns % _LOG_CHECK_EVERY == 0 and rotate_log(self._files, process):
                _log.info("mongod_log_rotated", log=str(self.log_path))

    def note_end_of_watch(self, watch: asyncio.Task[None]) -> None:
        """Count a watch that failed as a death: its users then look at the server with `restart`."""
        if not watch.cancelled() and watch.exception() is not None:
            _log.error("mongod_watch_failed", exc_info=watch.exception())
            self.died.set()

    @asynccontextmanager
    async def _mutex(self, *, timeout_s: float) -> AsyncIterator[None]:
        """Only one user at a time starts or stops the server."""
        mutex = FileLock(self._files.mutex)
        if not await acquire(mutex, timeout_s=timeout_s):
            raise DataDirectoryBusyError(
                f"{mutex.holder()} has been starting or stopping the embedded MongoDB in {self._files.data_dir} for "
                f"more than {timeout_s:g} s: stop that program, then start again"
            )
        try:
            mutex.sign(command_line())
            yield
        finally:
            mutex.release()

    async def _find_or_start(self, *, port: int | None) -> None:
        version, cache_gib = None, self._cache_gib
        before = read_state(self._files)
        running = find_running(self._files)
        if running is not None:
            version = await self._take_over(running, before)
        self.was_running = version is not None
        if running is None or version is None:
            running, version = await self._start(port)
        elif before is not None:
            cache_gib = before.cache_gib
        self._follow(running.process)
        self._state = ServerState(running.process.pid, running.port, cache_gib, version)
        write_state(self._files, self._state)
        event = "mongod_found_running" if self.was_running else "mongod_started"
        _log.info(event, pid=self.pid, uri=self.uri, version=version, directory=str(self._files.database))

    def _follow(self, process: MongodProcess) -> None:
        if self._process is None or self._process.pid != process.pid or not self._process.is_running():
            self._process = process

    async def _take_over(self, running: RunningServer, state: ServerState | None) -> str | None:
        """Version of a running server once it takes writes; None when it was of no use and has been stopped."""
        others = FileLock(self._files.users)
        alone = others.try_acquire()
        others.release()
        if alone and state is not None and state.cache_gib != self._cache_gib:
            await _stop(running)
            return None
        try:
            return await wait_until_writable(running, timeout_s=ORPHAN_TIMEOUT_S)
        except EmbeddedServerError as error:
            if not alone and running.process.is_running():
                raise
            _log.warning("mongod_unresponsive", pid=running.process.pid, error=str(error))
            await _stop(running)
            return None

    async def _start(self, fixed_port: int | None) -> tuple[RunningServer, str]:
        """Start a server, on the port given or on the last one or on any.

        Raises:
            EmbeddedServerError: it ended, with the reason and the remedy, or was not ready in time.
            DataDirectoryBusyError: a mongod out of our sight (another container) works on the directory.
        """
        binary = self._binary or mongod.find_binary()
        state = read_state(self._files)
        for attempt in range(1, _START_ATTEMPTS + 1):
            port = fixed_port or mongod.choose_port(state.port if state else None)
            if mongod.is_free(port):
                rotate_log(self._files, None)
                log_start = mongod.size_bytes(self._files.log)
                try:
                    return await self._start_on(binary, port)
                except ProcessEndedError as ended:
                    if ended.returncode != mongod.EXIT_DIRECTORY_TAKEN or attempt >= _DIRECTORY_ATTEMPTS:
                        self._raise_unless_port_taken(port, ended.returncode, log_start)
            await asyncio.sleep(_PORT_RETRY_INTERVAL_S)
        raise EmbeddedServerError(f"port {port} is taken by another program: close it, then start again")

    async def _start_on(self, binary: Path, port: int) -> tuple[RunningServer, str]:
        files = self._files
        name = replica_set_name(files)
        arguments = mongod.command(
            binary, directory=files.database, port=port, cache_gib=self._cache_gib, log=files.log, replica_set=name
        )
        running = RunningServer(mongod.spawn(arguments, output=files.output), port, str(files.database), name)
        try:
            return running, await wait_until_writable(running, timeout_s=self._start_timeout_s)
        except BaseException:  # also when cancelled: nobody else knows of this process yet
            await _terminate(running.process)
            raise

    def _raise_unless_port_taken(self, port: int, returncode: int | None, log_start: int) -> None:
        # Two that bind the port before either listens: the slower one aborts without the exit code for that.
        if returncode == mongod.EXIT_PORT_TAKEN or not mongod.is_free(port):
            return
        if returncode == mongod.EXIT_DIRECTORY_TAKEN:
            raise DataDirectoryBusyError(
                f"another mongod works on {self._files.database}, perhaps in another container or on another "
                f"machine: stop it, or set DATA_DIR to another directory"
            )
        printed = mongod.tail(self._files.output)
        log_lines = mongod.tail(self._files.log, after_byte=log_start).splitlines()
        raise EmbeddedServerError(mongod.explain_exit(returncode, printed, log_lines))

    def _leave_timeout_s(self) -> float:
        if self.leave_by is None:
            return STOP_TIMEOUT_S + TERMINATE_TIMEOUT_S
        return max(LEAST_STOP_TIMEOUT_S, self.leave_by - asyncio.get_running_loop().time())

    def _known_state(self) -> ServerState:
        if self._state is None:
            raise EmbeddedServerError("the embedded MongoDB has not been started")
        return self._state


async def _stop(running: RunningServer, *, timeout_s: float | None = None) -> None:
    """Stop in order, then less and less politely; every step has its deadline."""
    if not running.process.is_running():
        return
    total_s = STOP_TIMEOUT_S + TERMINATE_TIMEOUT_S if timeout_s is None else timeout_s
    terminate_s = min(TERMINATE_TIMEOUT_S, total_s / 4)
    deadline = asyncio.get_running_loop().time() + total_s
    await request_shutdown(running)
    left_s = deadline - terminate_s - asyncio.get_running_loop().time()
    if await wait_for_end(running.process, timeout_s=max(0.0, left_s)):
        _log.info("mongod_stopped", pid=running.process.pid)
        return
    await _terminate(running.process, timeout_s=terminate_s)


async def _terminate(process: MongodProcess, *, timeout_s: float | None = None) -> None:
    process.send(signal.SIGTERM)
    if await wait_for_end(process, timeout_s=TERMINATE_TIMEOUT_S if timeout_s is None else timeout_s):
        return
    _log.warning("mongod_killed", pid=process.pid, reason="it did not stop when asked to")
    with contextlib.suppress(AttributeError):  # Windows has no SIGKILL, and no embedded server
        process.send(signal.SIGKILL)
    await wait_for_end(process, timeout_s=KILL_TIMEOUT_S)
