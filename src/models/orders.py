"""Orders of a trader.

In memory an order is one short ``bytes`` row (the MessagePack array of `Order`): equality is byte equality, a row
costs about 150 bytes, and it is only unpacked when something has to be written.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

Action = Literal["new", "updated", "closed", "untracked"]
"""``untracked``: nobody looks any more because its trader was let go; what became of it is not known."""

CloseObserved = Literal["live", "late"]


class Order(Struct, frozen=True, array_like=True, gc=False):
    """One order as the venue last described it; decimals are the venue's own text.

    ``sz`` is the remaining size, ``origSz`` the size when placed. A live position take-profit or stop-loss may carry
    ``sz`` = ``"0.0"``. ``timestamp`` is the placement time in ms. ``parentOid`` names the order whose fill activates
    this one. Field names are those of the stored documents; new fields are added at the end only.
    """

    oid: int
    coin: str
    side: str
    limitPx: str  # noqa: N815 - the stored field's name
    sz: str
    origSz: str | None = None  # noqa: N815
    timestamp: int | None = None
    orderType: str | None = None  # noqa: N815
    tif: str | None = None
    cloid: str | None = None
    reduceOnly: bool | None = None  # noqa: N815
    isTrigger: bool | None = None  # noqa: N815
    triggerPx: str | None = None  # noqa: N815
    triggerCondition: str | None = None  # noqa: N815
    isPositionTpsl: bool | None = None  # noqa: N815
    parentOid: int | None = None  # noqa: N815


pack_order = msgspec.msgpack.Encoder().encode
unpack_order = msgspec.msgpack.Decoder(Order).decode

NUMERIC_ORDER_FIELDS = frozenset({"limitPx", "sz", "origSz", "triggerPx"})
