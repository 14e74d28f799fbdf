"""Frames to and from the venue: the true, nested layout. What a frame means is the mapper's business.

Sources of the layout: README.md, "Where this comes from". Encoding and decoding are the official protobuf runtime's:
unknown fields of any wire type are skipped, what is cut off or no protobuf at all is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct
from pydantic import SecretStr

from src.models.errors import WireError
from src.venues.stockbit.body import Body, Levels, parse_body
from src.venues.stockbit.stockbit_pb2 import Frame, Ping, Request
from src.venues.stockbit.varints import MALFORMED

PING_TEXT = "ping"

Channels = Mapping[str, Sequence[str]]
"""Tickers by channel, which are named as in `stockbit.proto` (``order_book``, ``running_trade``, ``liveprice``)."""


class Credentials(Struct, frozen=True):
    """What every connection shows; never printed, not even the user number."""

    user_id: SecretStr
    key: SecretStr
    access_token: SecretStr

    def __repr__(self) -> str:
        return "Credentials(***)"


class Codec(Protocol):
    """A layout of frames."""

    def auth_frame(self, credentials: Credentials) -> bytes | None:
        """The first frame of a connection; None where the layout has none of its own."""

    def subscribe_frame(self, credentials: Credentials, channels: Channels) -> bytes:
        """All that is wanted from now on; no channels at all clear the set."""

    def ping_frame(self) -> bytes:
        """The application's ping."""

    def read_frame(self, frame: bytes) -> Frame:
        """Read a frame of the venue.

        Raises:
            WireError: it is cut off or no protobuf.
        """

    def read_body(self, body: str, known: Levels | None = None) -> Body:
        """Read the text of an order-book message, see `body.parse_body`."""


class NestedCodec:
    """The layout of the web application."""

    def auth_frame(self, credentials: Credentials) -> bytes:
        """User, key and token without a channel."""
        return _request(credentials).SerializeToString()

    def subscribe_frame(self, credentials: Credentials, channels: Channels) -> bytes:
        """The same with a channel message, which may be empty."""
        request = _request(credentials)
        request.channel.SetInParent()  # an empty set is a channel message, too
        for name, tickers in channels.items():
            getattr(request.channel, name).extend(tickers)
        return request.SerializeToString()

    def ping_frame(self) -> bytes:
        """Eight bytes, as observed."""
        return Request(ping=Ping(message=PING_TEXT)).SerializeToString()

    def read_frame(self, frame: bytes) -> Frame:
        """See `Codec`."""
        try:
            return Frame.FromString(frame)
        except DecodeError as error:
            raise WireError(MALFORMED, str(error)) from error

    def read_body(self, body: str, known: Levels | None = None) -> Body:
        """See `Codec`."""
        return parse_body(body, known)


def _request(credentials: Credentials) -> Request:
    return Request(
        user_id=credentials.user_id.get_secret_value(),
        key=credentials.key.get_secret_value(),
        access_token=credentials.access_token.get_secret_value(),
    )
