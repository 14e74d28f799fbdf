"""Which of the driver's errors are worth another attempt."""

import pytest
from pymongo import errors
from pymongo.errors import OperationFailure, PyMongoError

from src.models.errors import StoreError, StoreFatalError
from src.store.bulk import EnvironmentTroubleError
from src.store.driver_errors import store_error


@pytest.mark.parametrize(
    "error",
    [
        errors.AutoReconnect("connection closed"),
        errors.NetworkTimeout("timed out"),
        errors.ServerSelectionTimeoutError("nobody there"),
        errors.NotPrimaryError("stepped down"),
        errors.WaitQueueTimeoutError("no connection free"),
        errors.ExecutionTimeout("exceeded time limit", 50),
        errors.WTimeoutError("waiting for replication timed out", 64),
        errors.CursorNotFound("cursor id 5 not found", 43),
        OperationFailure("out of disk space", 14031),
        OperationFailure("space quota", 8000),
        OperationFailure("something new", 987_654),
        OperationFailure("not now", 13, {"errorLabels": ["RetryableWriteError"]}),
        EnvironmentTroubleError(64, "waiting for replication timed out"),
        EnvironmentTroubleError(11600, "interrupted at shutdown"),
    ],
)
def test_worth_another_attempt(error: PyMongoError | EnvironmentTroubleError) -> None:
    result = store_error(error, "writing trades")
    assert type(result) is StoreError
    assert result.retryable
    assert "writing trades" in str(result)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConfigurationError("bad option"),
        errors.InvalidURI("no"),
        errors.InvalidName("no"),
        errors.InvalidOperation("Cannot use MongoClient after close"),
        OperationFailure("not authorized", 13),
        OperationFailure("Authentication failed", 18),
        EnvironmentTroubleError(13, "not authorized"),
    ],
)
def test_not_worth_another_attempt(error: PyMongoError | EnvironmentTroubleError) -> None:
    result = store_error(error, "writing trades")
    assert type(result) is StoreFatalError
    assert not result.retryable


def test_the_many_meanings_of_an_atlas_error() -> None:
    error = OperationFailure("bad auth", 8000)
    assert type(store_error(error, "writing")) is StoreError
    fatal = store_error(error, "preparing", at_start=True)
    assert type(fatal) is StoreFatalError
    assert "MONGODB_URI" in str(fatal)


def test_missing_rights_name_the_remedy() -> None:
    assert "readWrite" in str(store_error(OperationFailure("not authorized", 13), "writing"))


def test_texts_are_cut() -> None:
    assert len(str(store_error(errors.AutoReconnect("x" * 10_000), "writing"))) <= 400
