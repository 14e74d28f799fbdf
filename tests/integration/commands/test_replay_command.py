"""`record` and `replay` as a user runs them."""

import asyncio
import gzip
import json
import os
import socket
from pathlib import Path

import pytest

from src.config import setting_names
from src.main import main
from src.store.mongo import MongoStore
from src.venues.hyperliquid.simulator import FaultKind
from tests.support.program import finished, running, wait_until
from tests.support.truth import compare

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RECORDED = Path(__file__).parents[4] / "shared" / "data" / "hyperliquid" / "recorded"
OPENED = RECORDED / "gareth_webSocketDataSample_4-webData2-openPosition-all.json"
CLOSED = RECORDED / "gareth_webSocketDataSample_5-webData2-closePosition-all.json"
STATES = ("trader_orders", "trader_positions")
EVENTS = ("trader_order_events", "trader_position_events")


@pytest.fixture(scope="module")
def recorded_sessions(tmp_path_factory):
    """A directory that shows the two recorded sessions in the order in which they happened."""
    place = tmp_path_factory.mktemp("sessions")
    for path in (OPENED, CLOSED):
        if not path.exists():
            pytest.skip(f"recorded session {path.name} is not here (looked in {RECORDED})")
        (place / path.name).symlink_to(path)
    return place


def without_marks(states):
    """States without what is refreshed at most once a minute, counted from when a program first sees a position."""
    marks = {"positionValue", "unrealizedPnl", "returnOnEquity", "liquidationPx", "marginUsed", "cumFunding"}
    marks |= {"receivedAt", "updatedAt", "timestamp"}
    return {
        name: {key: {k: v for k, v in d.items() if k not in marks} for key, d in documents.items()}
        for name, documents in states.items()
    }


def contents(database, *collections):
    return {name: {d["_id"]: d for d in database[name].find({})} for name in collections}


# -- recordings of others ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replayed(folder, new_database, recorded_sessions):
    settings, database = new_database()
    runs = [finished(folder, "replay", path, **settings) for path in (OPENED, CLOSED)]
    return settings, database, runs


def test_the_two_sessions_leave_one_btc_position_opened_and_closed_once(replayed):
    _, database, runs = replayed
    assert [run.code for run in runs] == [0, 0], runs[0].text() + runs[1].text()
    (position,) = database.trader_positions.find({})
    assert (position["coin"], position["status"], position["action"]) == ("BTC", "closed", "closed")
    events = list(database.trader_position_events.find({"coin": "BTC"}).sort("revision", 1))
    assert [event["kind"] for event in events].count("open") == 1
    assert [event["kind"] for event in events].count("close") == 1
    assert (events[0]["kind"], events[-1]["kind"]) == ("open", "close")
    assert [event["revision"] for event in events] == list(range(1, len(events) + 1))
    assert {event["timestamp"].year for event in events} == {2025}
    assert {event["receivedAt"].year for event in events} == {2025}


def test_the_summary_is_one_line_that_adds_up(replayed):
    for run in replayed[2]:
        (line,) = run.out
        frames, data = int(line.split()[0]), int(line.split()[2])
        assert 0 < data <= frames
        assert "0 rejected" in line


def test_replaying_again_and_out_of_order_changes_nothing(replayed, recorded_sessions, folder):
    settings, database, _ = replayed
    names = sorted(set(database.list_collection_names()) - {"schema"})  # there stands who wrote last
    before = contents(database, *names)
    for path in (OPENED, recorded_sessions):
        again = finished(folder, "replay", path, **settings)
        assert again.code == 0, again.text()
    assert contents(database, *names) == before


# -- files of all kinds ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory):
    """A directory with a good file, broken ones, and one that is no recording at all."""
    place = tmp_path_factory.mktemp("recordings")
    level = [{"px": "100", "sz": "1", "n": 1}]
    book = {"channel": "l2Book", "data": {"coin": "BTC", "time": 1_700_000_000_000, "levels": [level, []]}}
    (place / "1-good.jsonl").write_text(json.dumps(book) + "\n")
    (place / "2-cut-off.jsonl").write_text(json.dumps(book)[:40])
    (place / "3-words.json").write_text("once upon a time")
    (place / "4-empty.jsonl").write_text("")
    (place / "5-torn.jsonl.gz").write_bytes(gzip.compress(b"[]\n" * 5000)[:-20])
    (place / "6-not-compressed.jsonl.zst").write_text("plain")
    (place / "notes.txt").write_text("not a recording")
    return place


def test_a_directory_of_broken_files_is_read_as_far_as_possible(odd_files, folder, new_database):
    settings, database = new_database()
    run = finished(folder, "replay", odd_files, **settings)
    assert run.code == 0, run.text()
    assert "Traceback" not in run.text()
    (line,) = run.out
    assert "1 data" in line
    assert "malformed_json" in line
    assert database.orderbooks.count_documents({}) == 1
    assert 0 < database.dead_letters.count_documents({}) < 1000
    assert any("6-not-compressed" in event.get("path", "") for event in run.events)


@pytest.fixture
def in_place(tmp_path, monkeypatch):
    """A working directory of its own for commands run inside this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.commands.session.configure_logging", lambda **_: None)
    for name in os.environ.keys() & set(setting_names()):
        monkeypatch.delenv(name)
    return tmp_path


def exit_code_of(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["main", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code


@pytest.mark.parametrize("missing", ["nowhere.jsonl", "empty-directory"])
def test_a_wrong_path_is_told_before_anything_is_started(in_place, capsys, missing):
    (in_place / "empty-directory").mkdir()
    assert exit_code_of("replay", missing) == 2
    assert missing in capsys.readouterr().err
    assert not (in_place / "data").exists()


# -- recordings of our own ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def recorder(folder, venue):
    """A program that records, from the first test of this module on."""
    settings = {
        **venue.urls,
        "HYPERLIQUID_TRADERS": ",".join(venue.traders),
        "HYPERLIQUID_COINS": "BTC",
        "TRADER_WS_CLIENTS": "2",
    }
    with running(folder, "record", "--out", folder / "own", **settings) as program:
        yield program


@pytest.fixture(scope="module")
def recording(recorder, folder, venue):
    """What was recorded, with a broken connection and a malformed frame on the way, until the frozen end."""
    recorder.event("venue_connected", connection="hyperliquid-1")
    venue.do(venue.simulator.faults.arm, FaultKind.MALFORMED)
    wait_until(lambda: venue.simulator.faults.struck[FaultKind.MALFORMED])
    venue.run(venue.simulator.faults.drop())
    recorder.event("venue_connection_lost")
    venue.run(venue.simulator.settle())
    recorder.code, _ = recorder.stop()
    return recorder, folder / "own"


def test_a_recording_says_what_it_wrote_and_needs_no_database(recording):
    program, place = recording
    assert program.code == 0, program.text()
    (line,) = program.out
    frames, path = int(line.split()[0]), line.split()[-1]
    assert frames > 50
    assert Path(path).parent == place
    assert Path(path).suffixes[-2:] == [".jsonl", ".zst"]
    assert not (program.data_dir / "mongodb").exists()


def test_a_recording_replayed_gives_what_the_venue_had_shown(recording, folder, new_database, venue):
    _, place = recording
    settings, database = new_database()
    run = finished(folder, "replay", place, **settings)
    assert run.code == 0, run.text()
    assert "1 rejected" in run.out[0]
    verdict = asyncio.run(_compare(settings, venue.simulator))
    assert not verdict.problems, verdict.problems[:10]
    assert verdict.order_events > 20
    assert verdict.position_events > 5
    before = contents(database, *EVENTS), without_marks(contents(database, *STATES))
    assert finished(folder, "replay", place, **settings).code == 0
    assert (contents(database, *EVENTS), without_marks(contents(database, *STATES))) == before


def test_a_recording_ends_by_itself_after_the_seconds_asked_for(folder, venue):
    run = finished(
        folder, "record", "--seconds", "1", HYPERLIQUID_COINS="BTC", TRADER_WS_ENABLED="false", **venue.urls
    )
    assert run.code == 0, run.text()
    assert list((run.data_dir / "recordings").glob("*.jsonl.zst"))
    assert int(run.out[0].split()[0]) > 2


def test_recording_can_be_stopped_while_the_leaderboard_does_not_answer(folder):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with running(folder / "silent", "record", HYPERLIQUID_STATS_URL=silent_url) as program:
            silent.settimeout(30)
            asking, _ = silent.accept()
            code, seconds = program.stop()
            asking.close()
    assert (code, seconds < 5) == (0, True), program.text()
    assert program.out[0].startswith("0 frames")


def test_recording_into_a_place_that_cannot_be_written_is_told(in_place, capsys):
    (in_place / "file").write_text("")
    assert exit_code_of("record", "--out", "file/below") == 2
    assert "cannot record into" in capsys.readouterr().err


async def _compare(settings, simulator):
    store = MongoStore(settings["MONGODB_URI"], settings["MONGODB_DATABASE"])
    try:
        return await compare(store, simulator)
    finally:
        await store.close()
