"""Tokens on disk: one file below ``DATA_DIR`` that only its owner can read. Tokens are kept nowhere else."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgspec
import structlog
from msgspec import Struct
from pydantic import SecretStr

from src.venues.stockbit.tokens import TokenError, Tokens, check_refresh, read_claims

log = structlog.get_logger(__name__)

NAME = "stockbit-token.json"
OWNER_ONLY = 0o600
_LARGEST_BYTES = 64 * 1024


class _Kept(Struct):
    access_token: str
    refresh_token: str | None = None


class TokenFile:
    """The file, which need not exist. Every method is quick: it is a few hundred bytes."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    def read(self) -> Tokens | None:
        """The kept tokens; None when there are none or the file is not readable (that is logged)."""
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & ~OWNER_ONLY:
                    log.warning("stockbit_token_file_was_open", mode=f"{mode:o}", action="closed for others")
                    os.fchmod(file.fileno(), OWNER_ONLY)
                kept = msgspec.json.decode(file.read(_LARGEST_BYTES), type=_Kept)
            read_claims(kept.access_token)
            refresh = None if kept.refresh_token is None else check_refresh(kept.refresh_token)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, TokenError) as error:
            log.warning("stockbit_token_file_not_used", error=type(error).__name__, remedy="hand in a token again")
            return None
        return Tokens(SecretStr(kept.access_token), refresh)

    def write(self, tokens: Tokens) -> bool:
        """Replace the kept tokens in one step; False when the disk does not take them (that is logged)."""
        kept = _Kept(
            tokens.access.get_secret_value(),
            None if tokens.refresh is None else tokens.refresh.get_secret_value(),
        )
        temporary = self.path.with_suffix(".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), OWNER_ONLY)  # whatever the umask says
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            log.error(  # noqa: TRY400 - no trace needed
                "stockbit_token_not_kept",
                error=type(error).__name__,
                errno=error.errno,
                remedy="free space in DATA_DIR and make it writable; until then a restart needs a new token",
            )
            with contextlib.suppress(OSError):
                temporary.unlink()
            return False
        return True
