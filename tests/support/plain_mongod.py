"""A MongoDB of the test's own, as a user might run one: a plain mongod without a replica set."""

import os
import signal
import socket
import subprocess
from contextlib import contextmanager

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.support.program import wait_until


def free_port():
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PlainMongod:
    """A mongod that can be frozen, thawed and killed; started by `start` on a port known before."""

    def __init__(self, binary, folder, port, arguments=()):
        self._binary, self._folder, self._arguments = binary, folder, arguments
        self.port = port
        self.uri = f"mongodb://127.0.0.1:{port}/"
        self._process = None

    @property
    def is_running(self):
        """Whether it has not died meanwhile."""
        return self._process is not None and self._process.poll() is None

    def start(self):
        """Start and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--dbpath", str(self._folder), "--port", str(self.port), "--bind_ip", "127.0.0.1"]
        arguments += ["--wiredTigerCacheSizeGB", "0.25", "--nounixsocket", "--quiet"]
        arguments += ["--setParameter", "diagnosticDataCollectionEnabled=false", *self._arguments]
        self._process = subprocess.Popen(
            [str(self._binary), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with MongoClient(self.uri, directConnection=True, serverSelectionTimeoutMS=500) as client:
            wait_until(lambda: _answers(client), what="an answer of mongod")

    def freeze(self):
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self):
        """End it as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


@contextmanager
def plain_mongod(binary, folder, *arguments):
    """A mongod that is not started yet, with further ``arguments`` of its own; killed at the end."""
    server = PlainMongod(binary, folder, free_port(), arguments)
    try:
        yield server
    finally:
        server.kill()


def _answers(client):
    try:
        return client.admin.command("ping")
    except PyMongoError:
        return False
