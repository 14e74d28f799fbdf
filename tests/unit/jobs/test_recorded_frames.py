"""Reading recordings: ours and those of others, whole, damaged and torn."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from structlog.testing import capture_logs

from src.jobs.recordings.recorded_frames import RecordedFrame, find_recordings, read_frames
from src.models.errors import ConfigurationError

REPOSITORY = Path(__file__).parents[3]
MEASURED = """
import sys, tracemalloc
from pathlib import Path
from src.jobs.recordings.recorded_frames import read_frames
tracemalloc.start()
frames = sum(1 for _ in read_frames(Path(sys.argv[1]), max_line_bytes=100_000))
print(frames, tracemalloc.get_traced_memory()[1])
"""
RECORDED = Path(__file__).parents[4] / "shared/data/hyperliquid/recorded"


def recorded(name: str) -> Path:
    path = RECORDED / name
    if not path.exists():
        pytest.skip(f"recorded data is not here: {name}")
    return path


def frames_of(path: Path, **options) -> list[bytes]:
    return [one.frame for one in read_frames(path, **options)]


def file_with(tmp_path: Path, name: str, body: bytes) -> Path:
    path = tmp_path / name
    if name.endswith(".zst"):
        body = zstandard.ZstdCompressor().compress(body)
    elif name.endswith(".gz"):
        body = gzip.compress(body)
    path.write_bytes(body)
    return path


OWN = b'{"recv_ms":1700000000123,"conn":"hl-1","venue":"hyperliquid","frame":{"channel":"pong"}}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.ndjson", "a.JSONL", "a.log", "a.json"])
def test_own_lines_come_back_with_receipt_time_venue_and_connection(tmp_path, name) -> None:
    path = file_with(tmp_path, name, OWN * 2)
    expected = RecordedFrame(1_700_000_000_123, "hyperliquid", b'{"channel":"pong"}', "hl-1")
    assert list(read_frames(path)) == [expected, expected]


def test_a_frame_kept_as_text_or_base64_comes_back_as_bytes(tmp_path) -> None:
    lines = (
        b'{"recv_ms":1,"conn":"c","venue":"v","text":"not \\"json\\"\\n\\u00e9"}\n'
        b'{"recv_ms":2,"conn":"c","venue":"v","b64":"//4A"}\n'
        b'{"recv_ms":3,"conn":"c","venue":"v","b64":"***"}\n'
    )
    found = list(read_frames(file_with(tmp_path, "a.jsonl", lines)))
    assert [one.frame for one in found[:2]] == ['not "json"\né'.encode(), b"\xff\xfe\x00"]
    assert found[2] == RecordedFrame(None, None, lines.splitlines()[2])  # damaged by hand: counted by the pipeline


def test_a_frame_with_a_receipt_time_in_nanoseconds_gives_milliseconds(tmp_path) -> None:
    line = b'{"recv_ns":1737918843893903000,"msg":{"channel":"l2Book","data":{"px": 1.50}}}'
    found = list(read_frames(file_with(tmp_path, "a.jsonl", line)))
    assert found == [RecordedFrame(1737918843893, None, b'{"channel":"l2Book","data":{"px": 1.50}}')]


def test_a_bare_frame_has_no_receipt_time_and_keeps_its_bytes(tmp_path) -> None:
    line = b'{"channel" : "trades","data":[],"recv_ms":null}'
    assert list(read_frames(file_with(tmp_path, "a.jsonl", line))) == [RecordedFrame(None, None, line)]


def test_broken_and_foreign_lines_are_handed_on_for_the_pipeline_to_count(tmp_path) -> None:
    lines = [
        b'{"channel":"trades"',
        b"plain text",
        b"\xff\xfe\x00",
        b"[1,2]",
        b"null",
        b"7",
        b'{"a":1}',
        b"[" * 50_000,
    ]
    path = file_with(tmp_path, "a.jsonl", b"\n\n  \n".join(lines))
    assert frames_of(path) == lines


def test_windows_line_ends_and_a_byte_order_mark_are_tolerated(tmp_path) -> None:
    path = file_with(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"channel":"pong"}\r\n{"channel":"pong"}\r\n')
    assert frames_of(path) == [b'{"channel":"pong"}'] * 2


def test_a_json_list_gives_its_elements_and_an_object_itself(tmp_path) -> None:
    listed = file_with(tmp_path, "a.json", b' [\n {"channel": "pong"},\n {"channel":\n "x"}, 5 ]\n')
    assert frames_of(listed) == [b'{"channel": "pong"}', b'{"channel":\n "x"}', b"5"]
    assert frames_of(file_with(tmp_path, "b.json", b'{\n"channel": "pong"\n}')) == [b'{\n"channel": "pong"\n}']
    assert frames_of(file_with(tmp_path, "c.json.gz", b"[]")) == []
    assert frames_of(file_with(tmp_path, "d.json", b"  \n")) == []


def test_a_truncated_json_document_is_handed_on_line_by_line(tmp_path) -> None:
    path = file_with(tmp_path, "a.json", b'[{"channel":"pong"},\n{"chan')
    assert frames_of(path) == [b'[{"channel":"pong"},', b'{"chan']


def test_a_webdata2_answer_without_envelope_gets_one(tmp_path) -> None:
    body = b'{"clearinghouseState":{"time":5},"openOrders":[],"user":"0x1"}'
    (found,) = read_frames(file_with(tmp_path, "a.json", body))
    assert found.frame == b'{"channel":"webData2","data":' + body + b"}"


def test_a_recorded_session_gives_acknowledgement_state_and_acknowledgement() -> None:
    frames = frames_of(recorded("gareth_webSocketDataSample_4-webData2-openPosition-all.json"))
    channels = [json.loads(frame)["channel"] for frame in frames]
    assert channels == ["subscriptionResponse", "webData2", "subscriptionResponse"]
    assert all(one.recv_ms is None for one in read_frames(recorded("gct_ws_frames_20261006.jsonl")))


def test_a_recorded_rest_answer_of_webdata2_becomes_a_frame() -> None:
    (frame,) = frames_of(recorded("gareth_hyperliquidNodeDataSample_info-endpoint_webData2.json"))
    assert json.loads(frame)["channel"] == "webData2"
    assert json.loads(frame)["data"]["clearinghouseState"]["assetPositions"]


def test_recorded_lines_with_receipt_times_keep_both() -> None:
    path = recorded("hftbacktest_ws_btc_20250126.jsonl")
    found = list(read_frames(path))
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [one.recv_ms for one in found] == [line["recv_ns"] // 1_000_000 for line in lines]
    assert [json.loads(one.frame) for one in found] == [line["msg"] for line in lines]


def test_every_recorded_file_can_be_read() -> None:
    recorded("PROVENANCE.md")
    total = sum(1 for _ in read_frames(RECORDED))
    assert total > 500


def test_a_directory_is_read_in_the_order_of_names_and_other_files_are_left_alone(tmp_path) -> None:
    (tmp_path / "day2").mkdir()
    for name in ("b.jsonl", "a.jsonl.zst", "c.json", "notes.md", "frames.txt"):
        file_with(tmp_path, name, json.dumps({"channel": name}).encode())
    file_with(tmp_path / "day2", "a.jsonl.gz", b'{"channel":"day2"}')
    assert [json.loads(frame)["channel"] for frame in frames_of(tmp_path)] == [
        "a.jsonl.zst",
        "b.jsonl",
        "c.json",
        "day2",
    ]
    assert [path.name for path in find_recordings(tmp_path)] == ["a.jsonl.zst", "b.jsonl", "c.json", "a.jsonl.gz"]


def test_a_path_without_recordings_is_refused_at_once(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        read_frames(tmp_path / "nothing")
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(ConfigurationError, match="holds no recordings"):
        read_frames(tmp_path)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_a_file_cut_anywhere_gives_a_prefix_of_its_frames(tmp_path, name) -> None:
    lines = [b'{"recv_ms":%d,"conn":"c","venue":"v","frame":{"n":%d}}\n' % (n, n * 7919 % 1009) for n in range(3000)]
    whole = file_with(tmp_path, name, b"".join(lines)).read_bytes()
    expected = frames_of(tmp_path / name)
    assert len(expected) == 3000
    for cut in range(1, len(whole), max(1, len(whole) // 40)):
        (tmp_path / name).write_bytes(whole[:cut])
        found = frames_of(tmp_path / name)
        assert found == expected[: len(found)]


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_rubbish_behind_the_end_is_reported_and_costs_nothing_before_it(tmp_path, name) -> None:
    body = b"".join(b'{"n":%d,"x":"%x"}\n' % (n, n * 2654435761) for n in range(20_000))
    path = file_with(tmp_path, name, body)
    path.write_bytes(path.read_bytes() + b"rubbish" * 100)
    with capture_logs() as logs:
        found = frames_of(path)
    assert len(found) > 15_000
    assert [entry["event"] for entry in logs] == ["recording_damaged"]


def test_several_compressed_streams_in_one_file_are_read_through(tmp_path) -> None:
    for name in ("a.jsonl.zst", "a.jsonl.gz"):
        path = file_with(tmp_path, name, b'{"n":1}\n')
        path.write_bytes(path.read_bytes() * 3)
        assert len(frames_of(path)) == 3


def test_the_torn_last_line_of_an_own_recording_is_reported_and_left_out(tmp_path) -> None:
    path = file_with(tmp_path, "a.jsonl", OWN + OWN[:60])
    with capture_logs() as logs:
        assert len(frames_of(path)) == 1
    assert logs[0]["event"] == "recording_torn"
    assert len(frames_of(file_with(tmp_path, "b.jsonl", OWN + OWN.rstrip()))) == 2  # only the line end is missing


def test_an_overlong_line_is_cut_and_the_next_one_is_read(tmp_path) -> None:
    path = file_with(tmp_path, "a.jsonl.zst", b"x" * 5_000_000 + b'\n{"n":1}\n')
    assert frames_of(path, max_line_bytes=1000) == [b"x" * 1000, b'{"n":1}']


def test_memory_stays_bounded_by_one_line(tmp_path) -> None:
    path = tmp_path / "a.jsonl.zst"
    rng = random.Random(1)
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(3000):
            noise = rng.randbytes(5_000).hex().encode()
            writer.write(b'{"recv_ms":1,"conn":"c","venue":"v","frame":{"x":"' + noise + b'"}}\n')
    # In a process of its own: here other tests would count, too.
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    frames, peak = map(int, told.stdout.split())
    assert frames == 3000
    assert peak < 3_000_000  # of 30 MB
