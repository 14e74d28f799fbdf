"""Shortens a ``webData2`` frame to what is kept of it, before it is decoded.

Six sevenths of such a frame describe the whole market (``meta``, ``assetCtxs``, ``spotAssetCtxs``). Even skipping
them token by token costs more than all else that is done with the frame; searching for where they end does not.
"""

from __future__ import annotations

_HEAD = b'{"channel":"webData2","data":{'
_META = b',"meta":{'
_SERVER_TIME = b',"serverTime":'
_SPOT_CONTEXTS = b',"spotAssetCtxs":['
_SPOT_CONTEXTS_END = b'],"'


def without_market(frame: str | bytes) -> bytes | None:
    """The frame without its market parts, None when it is not laid out as the recorded ones.

    The result may be wrong (not JSON, or without a field that the frame has) where the order of the fields differs
    from the recordings. Take it only if it decodes and has every field that is kept; else decode the frame itself.
    A key in these patterns cannot be the inside of a string: there its quotes would be escaped.
    """
    if not isinstance(frame, bytes) or not frame.startswith(_HEAD):
        return None
    spot = frame.rfind(_SPOT_CONTEXTS)
    if spot < 0:
        return None
    server_time = frame.rfind(_SERVER_TIME, 0, spot)
    meta = frame.find(_META, 0, max(server_time, 0))
    if meta < 0:
        return None
    spot_end = frame.rfind(_SPOT_CONTEXTS_END, spot)
    if spot_end < 0:
        return None
    return frame[:meta] + frame[server_time:spot] + frame[spot_end + 1 :]
