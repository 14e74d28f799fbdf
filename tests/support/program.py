"""The real program as a subprocess: what it prints, what it answers, how it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from src.config import OUR_PREFIXES, setting_names

ROOT = Path(__file__).parents[2]
QUICK = {
    "HTTP_PORT": "0",
    "STATUS_LINE_INTERVAL": "0",
    "TRADER_ORDERS_WS_FLUSH_INTERVAL": "0.3",
    "MONGODB_CACHE_GB": "0.25",
    "LOG_FORMAT": "json",
}
START_TIMEOUT_S = 60.0


def wait_until(condition, timeout_s=60.0, what="the condition"):
    """Wait until ``condition()`` is true and return its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s:g} s; last: {value!r}"
        time.sleep(0.02)


def clean_environment(**values):
    """The environment of this process without any setting of the program, and with ``values``."""
    ours = {*setting_names()}
    kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith(OUR_PREFIXES)}
    kept = {k: v for k, v in kept.items() if not k.startswith(("TRADER_", "HYPERLIQUID_", "MONGODB_"))}
    nowhere = {"HYPERLIQUID_API_URL": "http://127.0.0.1:9"}  # no test may ask the real venue
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **nowhere, **values}


class Program:
    """One started program. Lines of both outputs are kept; log lines are parsed.

    Attributes:
        out, err: lines so far.
        events: parsed log lines so far.
        data_dir: its ``DATA_DIR``.
    """

    def __init__(self, folder, *arguments, **settings):
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = Path(settings.pop("DATA_DIR", folder / "data"))
        self.out, self.err, self.events = deque(), deque(), deque()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "src.main", *map(str, arguments)],
            cwd=folder,
            env=clean_environment(DATA_DIR=str(self.data_dir), **{**QUICK, **settings}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.pid = self.process.pid
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out), daemon=True),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        self.code = None
        self._client = None
        self._url = None

    # -- what it says ----------------------------------------------------------------------------------------------

    def banner(self, timeout_s=START_TIMEOUT_S):
        """The whole banner, once it is printed."""
        self._until(lambda: any("stop with" in line for line in self.out), timeout_s, "the banner")
        return "\n".join(self.out)

    @property
    def url(self):
        """Address of its HTTP server, as the banner tells it."""
        if self._url is None:
            line = next(line for line in self.banner().splitlines() if "look at" in line)
            self._url = line.split()[2].rstrip("/")
        return self._url

    @url.setter
    def url(self, value):
        self._url = value

    def event(self, name, timeout_s=60.0, **fields):
        """The first log line of this event with these fields."""
        return self._until(lambda: next(iter(self.logged(name, **fields)), None), timeout_s, f"log line {name}")

    def logged(self, name, **fields):
        """All log lines so far of this event with these fields."""
        wanted = {"event": name, **fields}
        return [event for event in list(self.events) if wanted.items() <= event.items()]

    def text(self):
        """Everything printed so far, for messages of failed assertions."""
        return f"--- stdout\n{chr(10).join(self.out)}\n--- stderr\n{chr(10).join(self.err)}"

    # -- what it answers -------------------------------------------------------------------------------------------

    @property
    def http(self):
        """A client of its HTTP server."""
        if self._client is None:
            self._client = httpx.Client(base_url=self.url, timeout=10.0, trust_env=False)
        return self._client

    def stats(self):
        """Answer of /stats."""
        return self.http.get("/stats").raise_for_status().json()

    def until_stats(self, condition, timeout_s=60.0, what="the condition on /stats"):
        """Wait until ``condition(stats)`` is true; returns those stats."""

        def look():
            stats = self.stats()
            return stats if condition(stats) else None

        return self._until(look, timeout_s, what)

    def until_status(self, path, status, timeout_s=60.0):
        """Wait until ``path`` answers with this status code; returns the body."""

        def look():
            try:
                answer = self.http.get(path)
            except httpx.TransportError:
                return None
            return answer if answer.status_code == status else None

        return self._until(look, timeout_s, f"{path} with {status}").json()

    # -- its life --------------------------------------------------------------------------------------------------

    def send(self, number=signal.SIGINT):
        """Send a signal to the program alone."""
        self.process.send_signal(number)

    def wait(self, timeout_s=40.0):
        """Wait for the end; returns the exit code, when all of its output has been read."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s\n{self.text()}") from None
        for reader in self._readers:
            reader.join(5.0)
        return code

    def stop(self, number=signal.SIGINT, timeout_s=40.0):
        """Signal and wait; returns exit code and seconds it took."""
        began = time.monotonic()
        self.send(number)
        return self.wait(timeout_s), time.monotonic() - began

    def close(self):
        """End it in order, by force where that does not help, together with an embedded server of its own."""
        if self._client is not None:
            self._client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        for reader in self._readers:
            reader.join(5.0)
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self, stream, lines):
        for line in stream:
            text = line.rstrip("\n")
            if lines is self.err and text.startswith("{"):
                with contextlib.suppress(ValueError):  # kept as a line; the assertion on lines will show it
                    self.events.append(json.loads(text))
            lines.append(text)

    def _until(self, condition, timeout_s, what):
        def look():
            value = condition()
            assert value or self.process.poll() is None, f"it ended with {self.process.returncode}\n{self.text()}"
            return value

        try:
            return wait_until(look, timeout_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()}") from None


@contextmanager
def running(folder, *arguments, **settings):
    """A started program; whatever it leaves behind is ended."""
    program = Program(folder, *arguments, **settings)
    try:
        yield program
    finally:
        program.close()
        end_mongod(program.data_dir)


def finished(folder, *arguments, timeout_s=60.0, **settings):
    """Run to the end; returns the program with ``code`` set. An embedded server that others use is left to them."""
    program = Program(folder, *arguments, **settings)
    try:
        program.code = program.wait(timeout_s)
    finally:
        program.close()
    return program


def mongod_pid(data_dir):
    """The pid of the embedded server last started on a data directory, None where there never was one."""
    try:
        return int(json.loads((data_dir / "mongodb.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def is_mongod(pid):
    """Whether this process runs and is a mongod."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "mongod" in process.name()
    except psutil.Error:
        return False


def end_mongod(data_dir):
    """Kill what a failed test left running on a data directory."""
    for folder in (data_dir, data_dir / "demo"):
        pid = mongod_pid(folder)
        if pid is not None and is_mongod(pid) and str(folder) in " ".join(psutil.Process(pid).cmdline()):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not is_mongod(pid))
