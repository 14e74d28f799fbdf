"""Programs run against a MongoDB; plain pymongo looks at what they stored."""

import secrets

import pytest
from pymongo import MongoClient

from tests.support.program import running
from tests.support.simulated_venue import simulated_venue


@pytest.fixture(scope="module")
def venue():
    """One simulated venue for the programs of a module."""
    with simulated_venue() as running_venue:
        yield running_venue


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory for the programs of a module."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def new_database(mongod):
    """Makes names of fresh databases on the session's MongoDB; gives settings and the database to look at."""
    names = []
    with MongoClient(mongod.uri, tz_aware=True, serverSelectionTimeoutMS=5000) as client:

        def make():
            names.append(f"test_{secrets.token_hex(6)}")
            return {"MONGODB_URI": mongod.uri, "MONGODB_DATABASE": names[-1]}, client[names[-1]]

        yield make
        for name in names:
            client.drop_database(name)


@pytest.fixture(scope="module")
def collected_venue():
    """The venue of the one program that runs for several modules."""
    with simulated_venue(traders=6) as running_venue:
        yield running_venue


@pytest.fixture(scope="module")
def collector_settings(collected_venue):
    """Three of six traders are followed, and four are the most."""
    return {
        **collected_venue.urls,
        "HYPERLIQUID_TRADERS": ",".join(collected_venue.traders[:3]),
        "HYPERLIQUID_MAX_USERS": "4",
        "HYPERLIQUID_COINS": "BTC,ETH",
        "TRADER_WS_CLIENTS": "2",
    }


@pytest.fixture(scope="module")
def collector(tmp_path_factory, collector_settings, mongod_binary):
    """A program with its embedded MongoDB, running until a test stops it."""
    with running(tmp_path_factory.mktemp("collector"), "run", **collector_settings) as program:
        program.banner()
        yield program
