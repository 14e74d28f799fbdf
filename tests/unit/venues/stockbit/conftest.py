"""An account whose venue answers from lists."""

import pytest

from src.models.clock import ManualClock
from src.venues.stockbit.auth import StockbitAuth
from src.venues.stockbit.token_file import TokenFile
from tests.support.stockbit_account import NOW_MS, ScriptedRest


@pytest.fixture
def clock():
    return ManualClock(wall_ms=NOW_MS)


@pytest.fixture
def rest():
    return ScriptedRest()


@pytest.fixture
def make(tmp_path, clock, rest):
    def made(given=None):
        return StockbitAuth(rest=rest, file=TokenFile(tmp_path), clock=clock, given=given)

    return made
