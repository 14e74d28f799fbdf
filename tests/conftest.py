"""Shared by all tests: one real MongoDB for the whole session, and a fresh database for each test that asks."""

import asyncio
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import settings
from pymongo import MongoClient

from src.models.errors import EmbeddedServerError
from src.store.embedded import EmbeddedServer, open_embedded
from src.store.mongod import find_binary

# A shell that starts the tests in the background may have told them to ignore Ctrl-C; the programs they start inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, so that a change is what makes a property fail; by hand HYPOTHESIS_PROFILE=explore
# looks for new ones.
settings.register_profile("same", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def mongod_binary() -> Path:
    """The embedded mongod; skips where it cannot run (other system, library missing)."""
    try:
        binary = find_binary()
    except EmbeddedServerError as error:
        pytest.skip(f"no embedded mongod: {error}")
    tried = subprocess.run([str(binary), "--version"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"the embedded mongod does not run here: {tried.stderr or tried.stdout}")
    return binary


@pytest.fixture(scope="session")
def mongod(mongod_binary: Path) -> Iterator[EmbeddedServer]:
    """A running embedded server for the whole session, started on first use; tests use its ``uri``.

    It belongs to the session: a test that stops, freezes or kills a server opens one of its own.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mongod-", ignore_cleanup_errors=True) as folder,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
        ThreadPoolExecutor(1) as thread,  # a loop of its own, also when asked for from inside a running loop
    ):
        opened = open_embedded(Path(folder), cache_gib=0.25, binary=mongod_binary)
        server = thread.submit(lambda: runner.run(opened.__aenter__())).result()
        try:
            yield server
        finally:
            thread.submit(lambda: runner.run(opened.__aexit__(None, None, None))).result()


@pytest.fixture
def mongo_uri(mongod: EmbeddedServer) -> str:
    """Connection string of the session's MongoDB."""
    return mongod.uri


@pytest.fixture
def database_name(mongo_uri: str) -> Iterator[str]:
    """A database name nobody has used; the database is dropped after the test."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    with MongoClient(mongo_uri, serverSelectionTimeoutMS=2000) as client:
        client.drop_database(name)
