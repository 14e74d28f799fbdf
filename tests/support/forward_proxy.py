"""A forward proxy that leaves from an address of its own: plain requests by absolute URL, tunnels by CONNECT."""

import asyncio
import contextlib
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class ForwardProxy:
    def __init__(self, leaves_from):
        self.leaves_from = leaves_from
        self.url = ""
        self.tunnels = 0
        self.requests = 0
        self.serving = set()

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b" ", 2)
            if method == b"CONNECT":
                host, _, port = target.decode().rpartition(":")
                self.tunnels += 1
            else:
                parts = urlsplit(target.decode())
                host, port = parts.hostname, parts.port
                self.requests += 1
            upstream = await asyncio.open_connection(host, int(port), local_addr=(self.leaves_from, 0))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            return
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            path = parts.path or "/"
            upstream[1].write(head.replace(target, path.encode(), 1))
        try:
            await asyncio.gather(self._pipe(reader, upstream[1]), self._pipe(upstream[0], writer))
        finally:
            upstream[1].close()

    @staticmethod
    async def _pipe(reader, writer):
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def forward_proxy(leaves_from):
    """A proxy on 127.0.0.1 whose own connections come from ``leaves_from`` (another loopback address)."""
    proxy = ForwardProxy(leaves_from)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.serving:
            task.cancel()
        await asyncio.gather(*proxy.serving, return_exceptions=True)
