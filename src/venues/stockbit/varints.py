"""Protobuf's wire format by hand: just enough for messages without a schema (the flat layout) and for tests.

https://protobuf.dev/programming-guides/encoding: a field is a tag (number << 3 | wire type) and its value; wire type
0 = varint, 1 = eight bytes, 2 = length and bytes, 5 = four bytes. 3 and 4 (groups) are outdated and refused here.
"""

from __future__ import annotations

from collections.abc import Iterator

from src.models.errors import WireError

MALFORMED = "malformed_protobuf"
VARINT = 0
FIXED64 = 1
BYTES = 2
FIXED32 = 5

_LONGEST_VARINT_BYTES = 10
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}


def write_varint(value: int) -> bytes:
    """A number from 0 to 2**64 - 1 as a varint."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} does not fit into a varint")
    written = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write_number(number: int, value: int) -> bytes:
    """A whole field of wire type 0."""
    return write_varint(number << 3 | VARINT) + write_varint(value)


def write_bytes(number: int, value: bytes) -> bytes:
    """A whole field of wire type 2."""
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value


def write_text(number: int, text: str) -> bytes:
    """A whole field of wire type 2 that holds text."""
    return write_bytes(number, text.encode())


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint that begins at ``at``, and where the next thing begins.

    Raises:
        WireError: it is cut off or longer than 64 bits.
    """
    value = 0
    for count in range(_LONGEST_VARINT_BYTES):
        if at + count >= len(data):
            raise WireError(MALFORMED, f"varint cut off after {count} bytes")
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            if value >> 64:
                break
            return value, at + count + 1
    raise WireError(MALFORMED, "varint longer than 64 bits")


def read_fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of each field of a message, in the order of the wire.

    Raises:
        WireError: the message is cut off, or no message.
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise WireError(MALFORMED, f"field number {number}")
        if wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == BYTES:
            size, at = read_varint(data, at)
        elif wire_type in _FIXED_BYTES:
            size = _FIXED_BYTES[wire_type]
        else:
            raise WireError(MALFORMED, f"wire type {wire_type}")
        if at + size > len(data):
            raise WireError(MALFORMED, f"field {number} is cut off")
        yield number, wire_type, data[at : at + size]
        at += size
