"""Runs the program for long at twice the normal rate and says how memory and files behave. By hand:

    uv run python -m tests.faults.soak --minutes 30

The venue is a simulator in a process of its own with twice the real venue's cadences; the database is embedded.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.program import ROOT, clean_environment, mongod_pid, running

NORMAL = {"--trader-cadence": 5.0, "--book-cadence": 5.0}
NORMAL_PER_S = {"--actions-per-s": 20.0, "--trades-per-s": 10.0}
SAMPLE_S = 5.0
WARM_UP_SHARE = 0.25
MIB = 1024 * 1024


def main():
    parser = argparse.ArgumentParser(description="Soak test; prints figures, last a line of JSON.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=2.0, help="times the normal rate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, simulator(options.rate) as addresses:
        settings = {
            "HYPERLIQUID_WS_URL": addresses["ws_url"],
            "HYPERLIQUID_API_URL": addresses["api_url"],
            "HYPERLIQUID_STATS_URL": addresses["stats_url"],
            "HYPERLIQUID_TRADERS": ",".join(addresses["traders"]),
            "HYPERLIQUID_DEXES": "xyz",
            "TRADER_ORDERS_WS_FLUSH_INTERVAL": "5",
        }
        with running(Path(folder), **settings) as program:
            program.banner()
            samples = watch(program, options.minutes * 60)
            code, took_s = program.stop()
            figures = summary(samples, program) | {"exit_code": code, "stop_s": round(took_s, 1)}
    print(json.dumps(figures))


class simulator:  # noqa: N801 - a context manager
    """The simulated venue in a process of its own; gives its addresses."""

    def __init__(self, rate):
        arguments = [sys.executable, "-m", "src.venues.hyperliquid.simulator"]
        for name, value in NORMAL.items():
            arguments += [name, str(value / rate)]
        for name, value in NORMAL_PER_S.items():
            arguments += [name, str(value * rate)]
        self._arguments = arguments

    def __enter__(self):
        self._process = subprocess.Popen(
            self._arguments,
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return json.loads(self._process.stdout.readline())

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


def watch(program, seconds):
    """One sample every few seconds."""
    process, began, samples = psutil.Process(program.pid), time.monotonic(), []
    while (elapsed := time.monotonic() - began) < seconds:
        time.sleep(SAMPLE_S)
        stats = program.stats()
        samples.append(
            {
                "s": elapsed,
                "rss": process.memory_info().rss / MIB,
                "fds": process.num_fds(),
                "cpu_s": sum(process.cpu_times()[:2]),
                "mongod_rss": psutil.Process(mongod_pid(program.data_dir)).memory_info().rss / MIB,
                "messages": stats["messages_received"],
                "documents": sum(stats["documents_inserted"].values()),
                "pending": stats["pending"],
                "journal": stats["journal"]["bytes"],
                "lag_ms": stats["event_loop_lag_ms"],
            }
        )
        if len(samples) % 12 == 0:
            print(" ".join(f"{name}={value:.1f}" for name, value in samples[-1].items()), flush=True)
    return samples


def summary(samples, program):
    """What to write down."""
    settled = samples[int(len(samples) * WARM_UP_SHARE) :]
    first, last = settled[0], samples[-1]
    span_s = last["s"] - first["s"]
    return {
        "minutes": round(last["s"] / 60, 1),
        "messages_per_s": round((last["messages"] - first["messages"]) / span_s, 1),
        "documents_per_s": round((last["documents"] - first["documents"]) / span_s, 1),
        "rss_mib": [round(first["rss"], 1), round(last["rss"], 1)],
        "rss_slope_mib_per_hour": round(slope([s["s"] for s in settled], [s["rss"] for s in settled]) * 3600, 1),
        "rss_slope_last_half": round(_half_slope(settled) * 3600, 1),
        "fds": [min(s["fds"] for s in settled), max(s["fds"] for s in settled)],
        "mongod_rss_mib": [round(first["mongod_rss"], 1), round(last["mongod_rss"], 1)],
        "cpu_share": round((last["cpu_s"] - first["cpu_s"]) / span_s, 3),
        "pending_most": max(s["pending"] for s in settled),
        "journal_most_bytes": max(s["journal"] for s in settled),
        "lag_ms_most": max(s["lag_ms"] for s in settled),
        "task_failures": program.logged("task_died"),
    }


def _half_slope(settled):
    half = settled[len(settled) // 2 :]
    return slope([s["s"] for s in half], [s["rss"] for s in half])


def slope(xs, ys):
    """Least squares."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


if __name__ == "__main__":
    main()
