"""Programs, servers and databases for the faults."""

import secrets

import pytest
from pymongo import MongoClient

from tests.support.faults import LONG

COLLECTING = {
    "HYPERLIQUID_COINS": "BTC,ETH",
    "HYPERLIQUID_DEXES": "xyz",
    "TRADER_WS_CLIENTS": "2",
    "MONGODB_TIMEOUT_S": "2",
}


def pytest_collection_modifyitems(items):
    """Real programs take their time on a busy machine; a long form may take as long as it needs."""
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.timeout(3600 if LONG else 300))


@pytest.fixture
def collecting():
    """Settings that make a program collect all of a simulated venue."""

    def settings(venue, **more):
        return {**venue.urls, **COLLECTING, "HYPERLIQUID_TRADERS": ",".join(venue.traders), **more}

    return settings


@pytest.fixture
def fresh_database(mongod):
    """Settings for a fresh database on the session's MongoDB."""
    name = f"test_{secrets.token_hex(6)}"
    yield {"MONGODB_URI": mongod.uri, "MONGODB_DATABASE": name}
    with MongoClient(mongod.uri, serverSelectionTimeoutMS=5000) as client:
        client.drop_database(name)
