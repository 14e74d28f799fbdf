"""What MongoDB hands out is not quite what was stored: its own subclass of int, in particular."""

from bson.int64 import Int64

from src.models.orders import pack_order, unpack_order
from src.pipeline.stored_documents import order_of_document

STORED = {"oid": Int64(566_617_882_672), "coin": "SOL", "side": "B", "limitPx": 119.27, "sz": 108.74}


def test_an_order_read_back_can_be_packed():
    order = order_of_document({**STORED, "parentOid": Int64(7)})
    assert (type(order.oid), type(order.parentOid)) == (int, int)
    assert unpack_order(pack_order(order)) == order


def test_an_order_without_a_parent_stays_without():
    assert order_of_document(STORED).parentOid is None
    assert order_of_document({**STORED, "parentOid": Int64(7), "activated": True}).parentOid is None
