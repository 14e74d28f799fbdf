"""The shell: one WebSocket connection of the HTTP server, from the handshake to the close.

uvicorn hands the transport over when a client asks for an upgrade. Frames are written straight to it, already encoded
and shared by all clients; ``websockets`` does the handshake and reads what the client sends.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from src.api.gateway.admission import POLICY_VIOLATION, Handshake, Refusal, is_gateway_path
from src.api.gateway.frames import Frame, joined
from src.api.gateway.session import Session

if TYPE_CHECKING:
    from src.api.gateway.gateway import Gateway


HIGH_WATER_BYTES = 64 * 1024
"""More than this unsent in our own buffer, and the client counts as not reading; the kernel has its own besides."""

PING_EVERY_S = 30.0
SILENT_S = 75.0
CLOSE_S = 3.0
_PING = b"\x89\x00"
_WINDOW_BITS = 15


class GatewaySocket(asyncio.Protocol):
    """One connection. Born with the upgrade request, dead with `connection_lost`."""

    __slots__ = (
        "_batch",
        "_closing",
        "_compresses",
        "_gateway",
        "_heard_at",
        "_paused",
        "_pieces",
        "_pinged_at",
        "_protocol",
        "_session",
        "_transport",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        deflate = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
        self._protocol = ServerProtocol(
            extensions=[deflate] if gateway.options.compression else None, max_size=gateway.options.message_bytes
        )
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._paused = False
        self._closing = False
        self._batch = False
        self._compresses = False
        self._pieces: list[bytes] = []
        self._heard_at = self._pinged_at = gateway.now()

    # -- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        self._gateway.attach(self)

    def data_received(self, data: bytes) -> None:
        """Read what the client says."""
        self._heard_at = self._gateway.now()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, WireFrame):
                self._take(event)
        self._write_protocol()
        self.pump()

    def eof_received(self) -> None:
        """The client sends nothing more; the transport closes."""
        self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        del exc
        self._closing = True
        session, self._session, self._transport = self._session, None, None
        self._gateway.detach(self, session)

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        self._paused = True
        if self._session is not None:
            self._session.block(self._gateway.now())

    def resume_writing(self) -> None:
        """The client has read; what piled up meanwhile goes out."""
        self._paused = False
        if self._session is not None:
            self._session.unblock()
            self.pump()

    # -- for the gateway -------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Write what waits, unless the client does not read."""
        session = self._session
        if session is None or self._transport is None or self._closing:
            return
        if not self._paused and (frames := session.take()):
            self._write(self._transport, frames)
        if session.doom:
            self.close(POLICY_VIOLATION, session.doom.text, cause=session.doom.cause)

    def check(self, now: float) -> None:
        """Once in a while: end a connection that is hopeless or dead, ping one that is quiet."""
        if self._closing or self._transport is None:
            return
        if self._session is not None and self._session.verdict(now):
            self.pump()
        elif now - self._heard_at > SILENT_S:
            self._gateway.ended("silent")
            self._transport.abort()
        elif now - max(self._pinged_at, self._heard_at) > PING_EVERY_S and not self._paused:
            self._pinged_at = now
            self._transport.write(_PING)

    def close(self, code: int, reason: str, *, cause: str) -> None:
        """Say good-bye with a reason; whoever does not answer is cut off after `CLOSE_S`."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._gateway.ended(cause)
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self._write_protocol()
        self._gateway.later(CLOSE_S, self.cut)

    def cut(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- private ---------------------------------------------------------------------------------------------------

    def _write(self, transport: asyncio.Transport, frames: list[Frame]) -> None:
        if self._batch and len(frames) > 1:
            frames = [joined(frames)]
        pieces = [frame.compressed for frame in frames] if self._compresses else [frame.wire for frame in frames]
        data = b"".join(pieces)
        transport.write(data)
        self._gateway.sent(len(frames), len(data))

    def _shake_hands(self, request: Request) -> None:
        handshake = _handshake(request)
        if not is_gateway_path(handshake.target):
            text = "there is no socket here; use /ws or /ws/{client_id}\n"
            self._protocol.send_response(self._protocol.reject(http.HTTPStatus.NOT_FOUND, text))
            return
        response = self._protocol.accept(request)
        opened = None
        if response.status_code == http.HTTPStatus.SWITCHING_PROTOCOLS:
            opened = self._gateway.admit(handshake)
            chosen = handshake.subprotocols[0] if handshake.subprotocols else None
            if not isinstance(opened, Refusal):
                chosen = opened.subprotocol
            if chosen is not None:
                response.headers["Sec-WebSocket-Protocol"] = chosen
        self._protocol.send_response(response)
        self._write_protocol()
        if isinstance(opened, Refusal):
            self.close(POLICY_VIOLATION, opened.reason, cause="refused")
        elif opened is not None:
            self._batch = opened.batch
            extensions = self._protocol.extensions
            # A client may demand smaller windows than the shared frames have; it gets plain ones, as it may.
            self._compresses = any(
                isinstance(one, PerMessageDeflate) and one.local_max_window_bits == _WINDOW_BITS for one in extensions
            )
            self._session = self._gateway.open(opened, self.pump)

    def _take(self, frame: WireFrame) -> None:
        if frame.opcode is Opcode.PING and self._session is not None:
            self._session.admits(self._gateway.now())  # an answer each: they count like messages
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        self._pieces.append(bytes(frame.data))
        if frame.fin:
            message, self._pieces = b"".join(self._pieces), []
            if self._session is not None and not self._closing:
                self._gateway.receive(self._session, message)

    def _write_protocol(self) -> None:
        """Write what the protocol itself has to say; empty data is its sign that nothing more will follow."""
        for data in self._protocol.data_to_send():
            if self._transport is None:
                return
            if data:
                self._transport.write(data)
            else:
                self._closing = True
                self._transport.close()
                self._gateway.later(CLOSE_S, self.cut)


def _handshake(request: Request) -> Handshake:
    headers = request.headers
    protocols: Sequence[str] = [
        one.strip() for value in headers.get_all("Sec-WebSocket-Protocol") for one in value.split(",") if one.strip()
    ]
    return Handshake(
        target=request.path,
        host=(headers.get_all("Host") or [""])[0],
        origin=next(iter(headers.get_all("Origin")), None),
        authorization=(headers.get_all("Authorization") or [""])[0],
        subprotocols=protocols,
    )
