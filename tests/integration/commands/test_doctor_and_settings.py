"""`doctor`, and what the program says about wrong settings."""

import socket
from pathlib import Path

import pytest

from tests.support.plain_mongod import free_port
from tests.support.program import finished

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WRONG = {
    "HTTP_PORT": "eighty",
    "TRADER_WS_CLIENTS": "99",
    "HYPERLIQUID_TRADERS": "0x12,Bob",
    "HYPERLIQUID_WS_URL": "https://api.hyperliquid.xyz/ws",
    "MONGODB_URI": "postgres://someone:secret-word@db/x",
}


def lines_by_state(run):
    """Output lines of doctor by how they begin."""
    return {
        state: [line for line in run.out if line.split()[:1] == [state] or line.split()[1:2] == [state]]
        for state in ("ok", "warn", "FAIL", "skip")
    }


def test_all_is_well_beside_a_running_program(collector, collector_settings):
    port = collector.url.rsplit(":", 1)[1]
    settings = {**collector_settings, "HTTP_PORT": port, "DATA_DIR": str(collector.data_dir)}
    run = finished(collector.data_dir.parent, "doctor", **settings)
    assert run.code == 0, run.text()
    found = lines_by_state(run)
    assert not found["FAIL"]
    told = "\n".join(found["ok"])
    for name in ("settings", "mongodb", "indexes", "rest", "websocket", "leaderboard", "clock"):
        assert name in told, run.text()
    assert f"pid {collector.pid}" in run.text()
    assert not run.err


def test_every_failure_is_told_with_its_remedy_in_one_look(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead, port = free_port(), taken.getsockname()[1]
        run = finished(
            folder / "ill",
            "doctor",
            HYPERLIQUID_WS_URL=f"ws://127.0.0.1:{dead}/ws",
            HYPERLIQUID_API_URL=f"http://127.0.0.1:{dead}",
            HYPERLIQUID_STATS_URL=f"http://127.0.0.1:{dead}/Mainnet",
            MONGODB_URI=f"mongodb://127.0.0.1:{dead}/",
            MONGODB_TIMEOUT_S="1",
            HTTP_PORT=str(port),
        )
    assert run.code == 1, run.text()
    text = "\n".join(run.out)
    for setting in ("HYPERLIQUID_WS_URL", "HYPERLIQUID_API_URL", "MONGODB_URI", "HTTP_PORT", "HYPERLIQUID_TRADERS"):
        assert setting in text, text
    assert len(lines_by_state(run)["FAIL"]) == 5, text
    assert "Traceback" not in run.text()


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_wrong_settings_are_told_all_at_once(tmp_path, command):
    (tmp_path / ".env").write_text("HYPERLIQUID_COIN=BTC\nTRADER_WS_CLIENT=3\nLOG_LEVEL=info\n")
    run = finished(tmp_path, command, **WRONG)
    assert run.code == (2 if command == "run" else 1), run.text()
    text = run.text()
    for name, value in WRONG.items():
        assert name in text
        if name != "MONGODB_URI":
            assert value.split(",")[0] in text
    assert "did you mean HYPERLIQUID_COINS?" in text
    assert "did you mean TRADER_WS_CLIENTS?" in text
    assert "secret-word" not in text
    assert "Traceback" not in text
    assert len(run.out) + len(run.err) < 4 * len(WRONG)
    assert not (tmp_path / "data").exists()


def test_the_committed_settings_file_is_what_a_fresh_start_reads(tmp_path, venue, new_database):
    settings, _ = new_database()
    (tmp_path / ".env").write_text((Path(__file__).parents[3] / ".env").read_text())
    run = finished(tmp_path, "traders", "list", **settings)
    assert run.code == 0, run.text()
    assert list(run.out) == ["nobody is followed yet; add somebody with: traders add 0x…"]
    assert not run.err
