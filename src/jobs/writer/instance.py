"""Who this program is to others on the same database."""

from __future__ import annotations

import os
import re
import secrets
import socket
from pathlib import Path

import structlog

from src.jobs.writer.rules import Holder

log = structlog.get_logger(__name__)

INSTANCE_FILE = "instance"
_ID = re.compile(r"[0-9a-f]{32}")


def this_holder(data_dir: Path | None) -> Holder:
    """This process as a holder of the writer's lease.

    Args:
        data_dir: ``DATA_DIR``, locked by this process: its identity stays the same over restarts. None for commands
            beside it, which are somebody new each time.
    """
    identity = secrets.token_hex(16) if data_dir is None else _identity(data_dir)
    return Holder(id=identity, host=socket.gethostname(), pid=os.getpid(), run=secrets.token_hex(8))


def _identity(data_dir: Path) -> str:
    path = data_dir / INSTANCE_FILE
    try:
        known = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        known = ""
    if _ID.fullmatch(known):
        return known
    fresh = secrets.token_hex(16)
    temporary = path.with_suffix(".new")
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary.write_text(f"{fresh}\n", encoding="ascii")
        temporary.replace(path)
    except OSError as error:  # without it a restart waits until the lease of the run before has ended; nothing worse
        log.warning("instance_not_noted", path=str(path), error=str(error))
    return fresh
