"""Checks of this machine: directory, disk, port, limits."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import httpx
import psutil

from src.jobs.doctor.lines import CheckLine
from src.store.lockfile import INSTANCE_LOCK_NAME, FileLock

GIB = 1024**3
DISK_WARN_BYTES = 5 * GIB
DISK_FAIL_BYTES = GIB // 2
OPEN_FILES_WANTED = 4096
MEMORY_WARN_BYTES = GIB

_HTTP_TIMEOUT_S = 3.0
_ANY_HOST = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound


async def check_data_directory(directory: Path) -> list[CheckLine]:
    """Can it be written, is there room, does a program run on it? Made where missing, as the program does."""
    return await asyncio.to_thread(_look_at_directory, directory)


async def check_http_port(host: str, port: int) -> list[CheckLine]:
    """Is the port free, or is it this very program that has it?"""
    if port == 0:
        return [CheckLine("http", "ok", "any free port will be used")]
    problem = await asyncio.to_thread(_try_to_bind, host, port)
    if problem is None:
        return [CheckLine("http", "ok", f"{host}:{port} is free")]
    if problem.errno == errno.EADDRINUSE:
        version = await _ask_who_listens(host, port)
        if version is not None:
            return [CheckLine("http", "ok", f"{host}:{port} is served by a running market-collector {version}")]
        remedy = "stop that program, or set HTTP_PORT to another port"
        return [CheckLine("http", "FAIL", f"{host}:{port} is in use by another program", remedy)]
    if problem.errno == errno.EACCES:
        remedy = "set HTTP_PORT to a port from 1024 on"
        return [CheckLine("http", "FAIL", f"{host}:{port} is not allowed for this user", remedy)]
    remedy = "set HTTP_HOST=127.0.0.1, or to an address of this machine"
    return [CheckLine("http", "FAIL", f"{host}:{port} cannot be used: {problem.strerror or problem}", remedy)]


async def check_limits() -> list[CheckLine]:
    """Open files and memory."""
    return [_open_files_line(), _memory_line()]


def _look_at_directory(directory: Path) -> list[CheckLine]:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"probe")
            probe.flush()
    except OSError as error:
        remedy = "give this user the right to write there, free disk space, or set DATA_DIR to another directory"
        return [CheckLine("data", "FAIL", f"{directory} cannot be written: {error.strerror or error}", remedy)]
    return [CheckLine("data", "ok", f"{directory} is writable"), _disk_line(directory), _instance_line(directory)]


def _disk_line(directory: Path) -> CheckLine:
    free = shutil.disk_usage(directory).free
    text = f"{free / GIB:.1f} GiB free"
    if free < DISK_FAIL_BYTES:
        return CheckLine("disk", "FAIL", text, "MongoDB stops at a full disk: free space, or move DATA_DIR")
    if free < DISK_WARN_BYTES:
        remedy = "free space, move DATA_DIR, or lower ORDERBOOK_SNAPSHOT_DAYS"
        return CheckLine("disk", "warn", text, remedy)
    return CheckLine("disk", "ok", text)


def _instance_line(directory: Path) -> CheckLine:
    if not (directory / INSTANCE_LOCK_NAME).exists():
        return CheckLine("instance", "ok", "no other instance runs on this directory")
    lock = FileLock(directory / INSTANCE_LOCK_NAME)
    if lock.try_acquire(shared=True):
        lock.release()
        return CheckLine("instance", "ok", "no other instance runs on this directory")
    return CheckLine("instance", "ok", f"the collector runs on this directory: {lock.holder()}")


def _try_to_bind(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        return error
    return None


async def _ask_who_listens(host: str, port: int) -> str | None:
    """Version of the collector that answers there; None when something else does."""
    target = "127.0.0.1" if host in _ANY_HOST else host
    shown = f"[{target}]" if ":" in target else target
    with contextlib.suppress(httpx.HTTPError, ValueError):
        async with httpx.AsyncClient(timeout=_HTTP_TIMEOUT_S, trust_env=False) as client:
            answer = (await client.get(f"http://{shown}:{port}/health")).json()
        if isinstance(answer, dict) and {"status", "ready", "checks"} <= answer.keys():
            return str(answer.get("version", ""))
    return None


def _open_files_line() -> CheckLine:
    if sys.platform == "win32":
        return CheckLine("open files", "skip", "this system has no such limit")
    import resource  # noqa: PLC0415 - does not exist on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES_WANTED:
        remedy = f"run `ulimit -n {OPEN_FILES_WANTED}` before the start (up to {hard} is allowed here)"
        return CheckLine("open files", "warn", f"at most {soft}", remedy)
    return CheckLine("open files", "ok", f"at most {'unlimited' if soft == resource.RLIM_INFINITY else soft}")


def _memory_line() -> CheckLine:
    available = psutil.virtual_memory().available
    text = f"{available / GIB:.1f} GiB available"
    if available < MEMORY_WARN_BYTES:
        remedy = "close other programs, lower MONGODB_CACHE_GB, or use a MongoDB on another machine (MONGODB_URI)"
        return CheckLine("memory", "warn", text, remedy)
    return CheckLine("memory", "ok", text)
