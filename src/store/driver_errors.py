"""The driver's errors in the program's own words: does trying again help?"""

from __future__ import annotations

from pymongo.errors import (
    ConfigurationError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from src.models.errors import StoreError, StoreFatalError
from src.store.bulk import EnvironmentTroubleError, Verdict, verdict

_MAX_TEXT_CHARS = 400
_ATLAS_ERROR = 8000
_RIGHTS_CODES = frozenset({13, 18, 31, 33, _ATLAS_ERROR})
_REMEDY_RIGHTS = "check user, password and rights (readWrite on the database) in MONGODB_URI"


def store_error(error: PyMongoError | EnvironmentTroubleError, doing: str, *, at_start: bool = False) -> StoreError:
    """The error to raise in place of the driver's.

    Args:
        error: what the driver raised, or what the answer to a bulk said.
        doing: what was being done, for the text.
        at_start: Atlas has one code for wrong credentials and for a full cluster; at start the former is meant.

    Returns:
        `StoreFatalError` for rights, authentication and wrong settings, else `StoreError`.
    """
    code = error.code if isinstance(error, OperationFailure | EnvironmentTroubleError) else None
    text = f"{doing}: {type(error).__name__}: {error}"[:_MAX_TEXT_CHARS]
    if _is_fatal(error, code) or (at_start and code == _ATLAS_ERROR):
        return StoreFatalError(f"{text}; {_REMEDY_RIGHTS}" if code in _RIGHTS_CODES else text)
    return StoreError(text)


def _is_fatal(error: Exception, code: int | None) -> bool:
    if isinstance(error, ConfigurationError | InvalidName | InvalidOperation):
        return True
    if isinstance(error, OperationFailure) and error.has_error_label("RetryableWriteError"):
        return False
    return code is not None and verdict(code) is Verdict.FATAL
