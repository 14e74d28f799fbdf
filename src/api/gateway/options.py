"""How the gateway behaves."""

from __future__ import annotations

from msgspec import Struct

from src.api.gateway.admission import Rules
from src.api.gateway.session import Limits


class Options(Struct, frozen=True):
    """How the gateway behaves; each is a setting.

    Attributes:
        connections_per_client: sockets with the same client id.
        connections: all sockets together.
        limits: see `Limits`.
        message_bytes: largest message a client may send.
        interval_s: least time between two updates of a topic.
        recent: trades sent on subscribe.
        compression: permessage-deflate for clients that offer it.
        rules: who is let in.
    """

    connections_per_client: int = 10
    connections: int = 5_000
    limits: Limits = Limits()
    message_bytes: int = 64 * 1024
    interval_s: float = 0.1
    recent: int = 20
    compression: bool = False
    rules: Rules = Rules()
