"""Files of the embedded MongoDB in a data directory, and what they tell about a server that runs there."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path

import msgspec
from msgspec import Struct

from src.models.errors import ConfigurationError
from src.store.mongod import REPLICA_SET, MongodProcess, command_of, find_process, option, size_bytes

MAX_LOG_BYTES = 16 * 1024 * 1024
"""A larger log is set aside as ``mongodb.log.1``, in place of the one before: two files at most."""


class ServerState(Struct, frozen=True):
    """What ``mongodb.json`` tells other processes about the running server."""

    pid: int
    port: int
    cache_gib: float
    version: str


class Files:
    """Paths below one ``DATA_DIR``."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.database = self.data_dir / "mongodb"
        self.state = self.data_dir / "mongodb.json"
        self.users = self.data_dir / "mongodb.users"
        self.mutex = self.data_dir / "mongodb.mutex"
        self.log = self.data_dir / "mongodb.log"
        self.old_log = self.data_dir / "mongodb.log.1"
        self.output = self.data_dir / "mongodb.out"
        self.set_name = self.database / "collector.set"


class RunningServer(Struct, frozen=True):
    """A mongod that works on our ``directory``, and the port it listens on."""

    process: MongodProcess
    port: int
    directory: str
    replica_set: str = REPLICA_SET


def replica_set_name(files: Files) -> str:
    """Name of this directory's replica set, made up at first use; it stays with the data.

    Every directory has its own, so that a driver whose server is gone refuses the stranger that got its port.

    Raises:
        ConfigurationError: the data directory cannot be written.
    """
    try:
        return files.set_name.read_text().strip() or REPLICA_SET
    except FileNotFoundError:
        pass
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{files.set_name} cannot be read: {error}") from error
    used_before = (files.database / "WiredTiger").exists()
    name = REPLICA_SET if used_before else f"{REPLICA_SET}-{secrets.token_hex(4)}"
    try:
        files.set_name.write_text(f"{name}\n")
    except OSError as error:
        raise ConfigurationError(f"{files.set_name} cannot be written: {error}; set DATA_DIR elsewhere") from error
    return name


def find_running(files: Files) -> RunningServer | None:
    """The mongod that works on this data directory, whoever started it; None when there is none we can see.

    A pid read from a file is believed only when its process is a mongod with our directory on its command line.
    """
    state = read_state(files)
    for pid in (state.pid if state else None, _pid_in_database(files)):
        process = find_process(pid, files.database) if pid else None
        arguments = command_of(pid) if pid and process else []
        port = option(arguments, "--port")
        if process is not None and port is not None:
            name = option(arguments, "--replSet") or REPLICA_SET
            return RunningServer(process, int(port), str(files.database), name)
    return None


def read_state(files: Files) -> ServerState | None:
    """The last state written, of a server that may be gone; None where there is none or it cannot be read."""
    try:
        return msgspec.json.decode(files.state.read_bytes(), type=ServerState)
    except (OSError, msgspec.MsgspecError):
        return None


def write_state(files: Files, state: ServerState) -> None:
    """Replace the state in one step: a reader sees the old one or the new one.

    Raises:
        ConfigurationError: the data directory cannot be written.
    """
    fresh = files.state.with_suffix(".json.new")
    try:
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.replace(files.state)
    except OSError as error:
        raise ConfigurationError(f"DATA_DIR: {files.state} cannot be written: {error.strerror}") from error


def rotate_log(files: Files, process: MongodProcess | None) -> bool:
    """Set a log that has grown too large aside and let the running server open a new one; True when it did."""
    if size_bytes(files.log) <= MAX_LOG_BYTES:
        return False
    with contextlib.suppress(OSError):
        files.log.replace(files.old_log)
        if process is not None and os.name == "posix":
            process.send(signal.SIGUSR1)
        return True
    return False


def _pid_in_database(files: Files) -> int | None:
    """The pid in mongod's own lock file, which a clean stop empties."""
    try:
        return int((files.database / "mongod.lock").read_text("ascii"))
    except (OSError, ValueError):
        return None
