"""Writing recordings: every frame byte for byte, bounded, rotating, and never in the way of collecting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from src.jobs.recordings import recording
from src.jobs.recordings.recorded_frames import read_frames
from src.jobs.recordings.recording import FrameRecorder
from src.models.clock import ManualClock
from src.models.errors import ConfigurationError
from src.models.metrics import FRAMES_RECORDED, RECORDING_DROPPED, Metrics

ROOT = Path(__file__).parents[3]
NOVEMBER_20 = 1_795_169_700_000  # 2026-11-20 10:15:00 UTC


def recorder_in(directory: Path, **options) -> FrameRecorder:
    options = {
        "clock": ManualClock(wall_ms=NOVEMBER_20),
        "metrics": Metrics(),
        "venue": "hyperliquid",
        "flush_seconds": 0.01,
        "min_free_bytes": 0,
        **options,
    }
    return FrameRecorder(directory, **options)


def wait_until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.005)


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


ODD_FRAMES = [
    '{"channel":"pong"}',
    b'{"channel":"pong"}',
    '{"a" : 1.50 ,  "b":"\\u00e9é"}',
    "[]",
    ' {"a":1}',
    '{"a":1}\n',
    '{\n"a":1}',
    '{"a":1}{"b":2}',
    '{"a":',
    '{"a":NaN}',
    "Websocket connection established.",
    "",
    "null",
    '"text"',
    b"\xff\xfe\x00{}",
    b'{"a":"\xff"}',
    "\x00\x1f",
    "[" * 5000 + "]" * 5000,
    '{"frame":{"channel":"x"},"recv_ms":5}',
]


def test_every_kind_of_frame_comes_back_byte_for_byte_and_in_order(tmp_path) -> None:
    recorder = recorder_in(tmp_path)
    recorder.start()
    for number, frame in enumerate(ODD_FRAMES):
        recorder("hl-1", frame, 1000 + number)
    stats = recorder.close()
    found = list(read_frames(tmp_path))
    assert [one.frame for one in found] == [one.encode() if isinstance(one, str) else one for one in ODD_FRAMES]
    assert [one.recv_ms for one in found] == [1000 + number for number in range(len(ODD_FRAMES))]
    assert {(one.venue, one.conn) for one in found} == {("hyperliquid", "hl-1")}
    assert (stats.frames, stats.files, stats.dropped, stats.problem) == (len(ODD_FRAMES), 1, 0, None)
    assert stats.file_bytes == (tmp_path / names_in(tmp_path)[0]).stat().st_size


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(st.one_of(st.binary(max_size=200), st.text(st.characters(codec="utf-8"), max_size=200))))
def test_any_frames_come_back_byte_for_byte(tmp_path_factory, frames) -> None:
    directory = tmp_path_factory.mktemp("any")
    recorder = recorder_in(directory)
    recorder.start()
    for frame in frames:
        recorder('c"1', frame, 7)
    recorder.close()
    found = [one.frame for one in read_frames(directory)] if frames else []
    assert found == [one.encode() if isinstance(one, str) else one for one in frames]


def test_files_are_named_by_venue_and_time_and_a_restart_never_overwrites(tmp_path) -> None:
    for number in range(3):
        recorder = recorder_in(tmp_path)
        recorder.start()
        recorder("c", f'{{"n":{number}}}', number)
        recorder.close()
    assert names_in(tmp_path) == [
        "hyperliquid-20261120T101500Z.jsonl.zst",
        "hyperliquid-20261120T101500Z_002.jsonl.zst",
        "hyperliquid-20261120T101500Z_003.jsonl.zst",
    ]
    assert [one.recv_ms for one in read_frames(tmp_path)] == [0, 1, 2]


def test_without_frames_there_is_no_file(tmp_path) -> None:
    recorder = recorder_in(tmp_path / "new" / "directory")
    recorder.start()
    assert recorder.close().files == 0
    assert names_in(tmp_path / "new" / "directory") == []
    assert recorder.close().files == 0


def test_a_file_that_is_large_enough_is_followed_by_the_next(tmp_path) -> None:
    recorder = recorder_in(tmp_path, rotate_bytes=4096)
    recorder.start()
    for number in range(6):
        recorder("c", os.urandom(3000), number)
        wait_until(lambda expected=number + 1: recorder.stats().frames == expected)
    recorder.close()
    assert recorder.stats().files == 3
    assert [one.recv_ms for one in read_frames(tmp_path)] == list(range(6))
    assert recorder.stats().file_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_file_that_is_old_enough_is_finished_even_when_nothing_comes(tmp_path) -> None:
    clock = ManualClock(wall_ms=NOVEMBER_20)
    recorder = recorder_in(tmp_path, clock=clock, rotate_seconds=60)
    recorder.start()
    recorder("c", "{}", 1)
    wait_until(lambda: recorder.stats().frames == 1)
    clock.advance(61)
    wait_until(lambda: recorder._files._file is None)
    recorder("c", "{}", 2)
    recorder.close()
    assert names_in(tmp_path) == ["hyperliquid-20261120T101500Z.jsonl.zst", "hyperliquid-20261120T101601Z.jsonl.zst"]


def test_what_was_flushed_can_be_read_while_recording_goes_on(tmp_path) -> None:
    recorder = recorder_in(tmp_path)
    recorder.start()
    recorder("c", '{"n":1}', 1)
    wait_until(lambda: recorder.stats().frames == 1)
    assert [one.frame for one in read_frames(tmp_path)] == [b'{"n":1}']
    recorder.close()


def test_when_the_disk_cannot_follow_frames_are_dropped_and_counted(tmp_path) -> None:
    metrics = Metrics()
    recorder = recorder_in(
        tmp_path, metrics=metrics, max_pending_bytes=10_000
    )  # not started: the slowest disk of all
    for number in range(20):
        recorder("c", "x" * 1000, number)
    assert metrics.value(FRAMES_RECORDED) == 9
    assert metrics.value(RECORDING_DROPPED, "queue_full") == 11
    recorder.start()
    stats = recorder.close()
    assert (stats.frames, stats.dropped) == (9, 11)
    assert [one.recv_ms for one in read_frames(tmp_path)] == list(range(9))


def test_a_nearly_full_disk_ends_the_recording_loudly_and_nothing_else(tmp_path) -> None:
    metrics = Metrics()
    recorder = recorder_in(tmp_path, metrics=metrics, min_free_bytes=1 << 62)
    with capture_logs() as logs:
        recorder.start()
        recorder("c", "{}", 1)
        wait_until(lambda: recorder.stats().problem is not None)
        recorder("c", "{}", 2)
        stats = recorder.close()
    assert stats.problem is not None
    assert "are free" in stats.problem
    assert stats.dropped == 2
    assert metrics.value(RECORDING_DROPPED, "write_failed") == 1
    assert metrics.value(RECORDING_DROPPED, "stopped") == 1
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("recording_stopped", "error")]


def test_a_directory_that_vanishes_ends_the_recording_only(tmp_path) -> None:
    directory = tmp_path / "gone"
    recorder = recorder_in(directory)
    recorder.start()
    directory.rmdir()
    recorder("c", "{}", 1)
    wait_until(lambda: recorder.stats().problem is not None)
    assert recorder.close().dropped == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_refused_at_start(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="not writable"):
        recorder_in(tmp_path).start()


def test_a_file_in_the_place_of_the_directory_is_refused_at_start(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cannot record into"):
        recorder_in(tmp_path / "file").start()


def test_the_tap_costs_the_event_loop_little(tmp_path) -> None:
    recorder = recorder_in(tmp_path)
    recorder.start()
    frame = '{"x":"' + "y" * 20_000 + '"}'
    started = time.thread_time()
    for number in range(1000):
        recorder("c", frame, number)
    assert time.thread_time() - started < 0.2
    assert recorder.close().frames == 1000


SCRIPT = """
import resource, sys, time
from pathlib import Path
from src.jobs.recordings.recording import FrameRecorder
from src.models.metrics import Metrics
from src.venues.clock import SystemClock

mode, directory = sys.argv[1], Path(sys.argv[2])
recorder = FrameRecorder(directory, venue="hyperliquid", clock=SystemClock(), metrics=Metrics(), min_free_bytes=0)
if mode == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
recorder.start()
import random
rng = random.Random(1)
for number in range(1_000_000):
    recorder("c", '{"n":%d,"x":"%s"}' % (number, rng.randbytes(200).hex()), number)
    if recorder.stats().problem is not None:
        break
    if number % 100 == 0:
        print(recorder.stats().frames, flush=True)
        time.sleep(0.01)
print("problem", recorder.close().problem, flush=True)
"""


def start_script(mode: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, mode, str(directory)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_after_a_kill_everything_up_to_the_last_flush_is_readable(tmp_path) -> None:
    with start_script("kill", tmp_path) as process:
        assert process.stdout is not None
        written = 0
        while written < 500:
            written = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    found = [one.recv_ms for one in read_frames(tmp_path)]
    assert len(found) >= written
    assert found == list(range(len(found)))


def test_when_a_write_fails_the_process_goes_on_and_what_was_flushed_is_readable(tmp_path) -> None:
    with start_script("full", tmp_path) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "File too large" in output.splitlines()[-1]
    found = [one.recv_ms for one in read_frames(tmp_path)]
    assert len(found) > 100
    assert found == list(range(len(found)))


def test_the_flush_interval_keeps_the_promise_of_a_second() -> None:
    assert recording.FLUSH_SECONDS * 2 <= 1.0
