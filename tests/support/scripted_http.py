"""A loopback HTTP server whose answers a test writes byte by byte, so that broken ones can be given too."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Respond = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class ScriptedHttp:
    """Answers each request with the next of ``script`` (the last one again and again) and then hangs up."""

    def __init__(self) -> None:
        self.script: list[Respond] = []
        self.requests: list[bytes] = []
        self.idle = asyncio.Event()
        self.url = ""

    def answer(self, status: int, body: bytes, *, headers: dict[str, str] | None = None) -> None:
        head = {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())

        async def respond(_request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 {status} X\r\n{lines}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()

        self.script.append(respond)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.idle.clear()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(x[15:]) for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")), 0)
            self.requests.append(head + await reader.readexactly(length))
            step = self.script[min(len(self.requests), len(self.script)) - 1]
            with contextlib.suppress(ConnectionError):
                await step(self.requests[-1], writer)
        finally:
            writer.close()
            self.idle.set()


@asynccontextmanager
async def serve_script() -> AsyncIterator[ScriptedHttp]:
    scripted = ScriptedHttp()
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield scripted
    server.close()
    await server.wait_closed()
