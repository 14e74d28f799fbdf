"""Rights revoked, and disks that fill up: under MongoDB and under the journal."""

import asyncio
import errno
import os
import subprocess
from contextlib import contextmanager

import pytest
from pymongo import MongoClient

from src.store.mongo import MongoStore
from tests.support.faults import LONG, watching
from tests.support.plain_mongod import plain_mongod
from tests.support.program import Program, running
from tests.support.simulated_venue import simulated_venue
from tests.support.truth import compare

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DATABASE = "faults"
MIB = 1024 * 1024
MONGOD_DISK_MIB = 700


@pytest.fixture
def venue():
    with simulated_venue(traders=4, actions_per_s=30.0) as running_venue:
        yield running_venue


@contextmanager
def small_disk(folder, mebibytes):
    """A file system of its own; skips where this user may not mount one."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no small file system to fill up: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder):
    """Not a byte is free in ``folder`` for as long as the block lasts."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
    try:
        yield
    finally:
        ballast.unlink(missing_ok=True)


def stored_completely(program, venue, uri):
    """Let the market end, wait for the last flush, compare."""
    venue.run(venue.simulator.settle())
    program.until_stats(lambda stats: stats["buffer"]["length"] == 0)
    flushes = program.stats()["flushes"]
    program.until_stats(lambda stats: stats["flushes"] > flushes and stats["pending"] == 0, timeout_s=40)
    verdict = asyncio.run(_compare(uri, venue.simulator))
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.order_events > 50


async def _compare(uri, simulator):
    store = MongoStore(uri, DATABASE)
    try:
        return await compare(store, simulator)
    finally:
        await store.close()


def test_with_rights_revoked_collection_goes_on_and_all_is_stored_when_they_are_back(
    tmp_path, mongod_binary, venue, collecting
):
    with plain_mongod(mongod_binary, tmp_path / "mongod", "--auth") as server:
        server.start()
        role = {"role": "readWrite", "db": DATABASE}
        with MongoClient(server.uri) as local:  # the one thing nobody needs rights for: the first user
            local.admin.command("createUser", "root", pwd="secret", roles=["root"])
        uri = f"mongodb://collector:hidden@127.0.0.1:{server.port}/?authSource=admin"
        settings = collecting(venue, MONGODB_URI=uri, MONGODB_DATABASE=DATABASE)
        with MongoClient(server.uri, username="root", password="secret") as root:
            root.admin.command("createUser", "collector", pwd="hidden", roles=[role])
            with running(tmp_path, **settings) as program:
                program.banner()
                program.until_stats(lambda stats: stats["orders_inserted"] > 10)
                root.admin.command("revokeRolesFromUser", "collector", roles=[role])
                with watching(program.url) as seen:
                    away = program.event("database_away")
                    program.until_stats(lambda stats: stats["journal"]["changes"] > 40)
                    assert program.until_status("/health/ready", 503)
                seen.check()
                assert away["level"] == "error"
                assert away["fatal"]
                assert "readWrite" in away["error"]
                assert "hidden" not in program.text()
                if LONG:
                    root.admin.command("grantRolesToUser", "collector", roles=[role])
                    program.event("database_back", timeout_s=60)
                else:
                    code, seconds = program.stop()
                    assert (code, seconds < 15) == (1, True), program.text()
                    assert program.logged("stopped")[-1]["changes_left_in_journal"] > 40
            root.admin.command("grantRolesToUser", "collector", roles=[role])
            if LONG:
                return
            with running(tmp_path, **settings) as again:
                again.banner()
                stored_completely(again, venue, uri)
                assert again.stop()[0] == 0


def test_a_disk_full_under_mongodb_loses_nothing(tmp_path, mongod_binary, venue, collecting):
    with (
        small_disk(tmp_path / "disk", MONGOD_DISK_MIB) as disk,
        plain_mongod(mongod_binary, disk / "mongod", "--syncdelay", "1") as server,
    ):
        server.start()
        settings = collecting(venue, MONGODB_URI=server.uri, MONGODB_DATABASE=DATABASE)
        with running(tmp_path / "program", **settings) as program:
            program.banner()
            program.until_stats(lambda stats: stats["orders_inserted"] > 10)
            with watching(program.url) as seen:
                with full(disk):
                    program.event("database_away")
                    program.until_stats(lambda stats: stats["journal"]["changes"] > 40)
                    assert program.until_status("/health/ready", 503)
                if not server.is_running:  # it gives up when its log cannot be written
                    server.start()
                program.event("database_back")
            seen.check()
            stored_completely(program, venue, server.uri)
            assert program.stop()[0] == 0


def test_a_disk_full_under_the_journal_is_told_and_loses_nothing(tmp_path, venue, collecting, fresh_database):
    with small_disk(tmp_path / "disk", 24) as disk:
        settings = collecting(venue, DATA_DIR=str(disk), **fresh_database)
        with running(tmp_path / "program", **settings) as program:
            program.banner()
            inserted = program.until_stats(lambda stats: stats["orders_inserted"] > 10)["orders_inserted"]
            with watching(program.url) as seen:
                with full(disk):
                    told = program.event("journal_not_written")
                    assert os.strerror(errno.ENOSPC) in told["error"]
                    assert "DATA_DIR" in told["remedy"]
                    health = program.until_status("/health", 200)
                    assert health["status"] == "degraded"
                    assert any(check["name"] == "journal" and not check["ok"] for check in health["checks"])
                    program.until_stats(lambda stats: stats["orders_inserted"] > inserted + 40)
                program.event("journal_works_again")
            seen.check()
            venue.run(venue.simulator.settle())
            program.until_stats(lambda stats: stats["buffer"]["length"] == 0)
            flushes = program.stats()["flushes"]
            program.until_stats(lambda stats: stats["flushes"] > flushes and stats["pending"] == 0)
            verdict = asyncio.run(_compare_in(fresh_database, venue))
            assert not verdict.problems, verdict.problems[:10]
            assert program.stop()[0] == 0
            assert "Traceback" not in program.text()


def test_started_on_a_full_disk_it_collects_says_so_and_journals_once_there_is_room(
    tmp_path, venue, collecting, fresh_database
):
    with small_disk(tmp_path / "disk", 16) as disk, full(disk):
        settings = collecting(venue, DATA_DIR=str(disk / "data"), **fresh_database)
        program = Program(tmp_path / "program", **settings)
        try:
            program.event("journal_not_written")
            program.until_stats(lambda stats: stats["orders_inserted"] > 10)
            (disk / "ballast").unlink()
            program.event("journal_works_again")
            assert program.stop()[0] == 0
            assert "Traceback" not in program.text()
        finally:
            program.close()


async def _compare_in(fresh_database, venue):
    store = MongoStore(fresh_database["MONGODB_URI"], fresh_database["MONGODB_DATABASE"])
    try:
        return await compare(store, venue.simulator)
    finally:
        await store.close()
