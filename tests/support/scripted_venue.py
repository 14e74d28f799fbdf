"""A WebSocket server that acknowledges every subscription and then says exactly what a test tells it to say."""

import asyncio
import json
import threading
from contextlib import contextmanager

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


class ScriptedVenue:
    """Sends frames to everybody who is connected; ``subscribed`` collects what was asked for."""

    def __init__(self, loop):
        self._loop = loop
        self._server = None
        self._sockets = set()
        self.subscribed = []
        self.connects = 0
        self.ws_url = ""

    @property
    def connections(self):
        return len(self._sockets)

    def send(self, *frames):
        """Send each frame (str = text, bytes = binary, other = JSON text) to every connection, in order."""
        asyncio.run_coroutine_threadsafe(self._send(frames), self._loop).result(60)

    async def start(self):
        self._server = await serve(self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None)
        self.ws_url = f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}/ws"

    async def stop(self):
        self._server.close()
        await self._server.wait_closed()

    async def _send(self, frames):
        for frame in frames:
            message = frame if isinstance(frame, str | bytes) else json.dumps(frame)
            for socket in list(self._sockets):
                try:
                    await socket.send(message)
                except ConnectionClosed:
                    continue

    async def _serve(self, socket):
        self.connects += 1
        self._sockets.add(socket)
        try:
            async for message in socket:
                await self._answer(socket, json.loads(message))
        except ConnectionClosed:
            pass  # the client went without good-bye, as it may
        finally:
            self._sockets.discard(socket)

    async def _answer(self, socket, request):
        if request["method"] == "ping":
            await socket.send('{"channel":"pong"}')
            return
        if request["method"] == "subscribe":
            self.subscribed.append(request["subscription"])
        await socket.send(json.dumps({"channel": "subscriptionResponse", "data": request}))


@contextmanager
def scripted_venue():
    """A scripted venue in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted-venue", daemon=True)
    thread.start()
    venue = ScriptedVenue(loop)
    try:
        asyncio.run_coroutine_threadsafe(venue.start(), loop).result(10)
        yield venue
        asyncio.run_coroutine_threadsafe(venue.stop(), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
