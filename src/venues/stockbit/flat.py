"""The flat layout that older documents describe: a compatibility codec, not what the venue sends.

Request: 1 user id (number), 2 tickers in one text, 3 tickers with a colon before each, 4 tickers with a J before
each, 5 key, 6 access token. Update: 1 ticker, 2 body ``SIDE|PRICE;LOTS;VALUE|…``, 5 and 9 times. It is what the
nested layout looks like when the tag byte in front of each ticker is taken for a letter (README.md). Written by hand,
without generated code.
"""

from __future__ import annotations

from src.models.errors import WireError
from src.venues.stockbit.body import Body, Levels, parse_flat_body
from src.venues.stockbit.stockbit_pb2 import Frame, Orderbook
from src.venues.stockbit.varints import BYTES, MALFORMED, read_fields, write_number, write_text
from src.venues.stockbit.wire import PING_TEXT, Channels, Credentials

USER_ID, JOINED, COLONS, LETTERS, KEY, TOKEN = range(1, 7)
TICKER, BODY, TIME, OTHER_TIME = 1, 2, 5, 9
_TEXTS = frozenset({TICKER, BODY, TIME, OTHER_TIME})


class FlatCodec:
    """The layout of the documents."""

    def auth_frame(self, credentials: Credentials) -> None:
        """There is none: the one request says everything."""
        del credentials

    def subscribe_frame(self, credentials: Credentials, channels: Channels) -> bytes:
        """One request; the layout knows no channels, so it names every ticker once."""
        tickers = list(dict.fromkeys(ticker for named in channels.values() for ticker in named))
        return b"".join(
            (
                write_number(USER_ID, int(credentials.user_id.get_secret_value())),
                write_text(JOINED, "".join(tickers)),
                write_text(COLONS, "".join(f":{ticker}" for ticker in tickers)),
                write_text(LETTERS, "".join(f"J{ticker}" for ticker in tickers)),
                write_text(KEY, credentials.key.get_secret_value()),
                write_text(TOKEN, credentials.access_token.get_secret_value()),
            )
        )

    def ping_frame(self) -> bytes:
        """The layout has none; the bare word is what its users sent before they left it out."""
        return PING_TEXT.encode()

    def read_frame(self, frame: bytes) -> Frame:
        """See `Codec`."""
        found: dict[int, str] = {}
        for number, wire_type, value in read_fields(frame):
            if number in _TEXTS and wire_type == BYTES:
                assert isinstance(value, bytes)
                try:
                    found[number] = value.decode()
                except UnicodeDecodeError as error:
                    raise WireError(MALFORMED, f"field {number} is no text: {error}") from error
        if BODY not in found:
            return Frame()
        book = Orderbook(
            stock_code=found.get(TICKER, ""),
            body=found[BODY],
            datetime=found.get(TIME, ""),
            itch_incoming_time=found.get(OTHER_TIME, ""),
        )
        return Frame(orderbook=book)

    def read_body(self, body: str, known: Levels | None = None) -> Body:
        """See `Codec`."""
        return parse_flat_body(body, known)


def write_update(ticker: str, body: str, time: str, other_time: str = "") -> bytes:
    """An update in this layout; for the simulator and tests."""
    parts = [write_text(TICKER, ticker), write_text(BODY, body), write_text(TIME, time)]
    return b"".join([*parts, *([write_text(OTHER_TIME, other_time)] if other_time else [])])
