"""The files of the journal: how a record is laid out, written down, found again and read back.

A record is a header (length, CRC-32 of the payload, sequence, number of changes, CRC-32 of these) and the MessagePack
of a list of changes. A damaged payload costs its record; behind a damaged header the file cannot be read on.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgspec
from msgspec import Struct

from src.models.changes import Change
from src.models.errors import CollectorError

_FACTS = struct.Struct("<IIQI")
_CHECK = struct.Struct("<I")
_HEADER_BYTES = _FACTS.size + _CHECK.size
_LOST_FILE = frozenset({errno.EIO, errno.ENOENT, errno.ENXIO, errno.ESTALE})
"""What reading a file says when trying again will not help; anything else (rights, descriptors) may pass."""


UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What `Journal.append` raises for a change that no file can hold; `is_writable` finds it."""


class JournalDamagedError(CollectorError):
    """A record cannot be read back.

    Attributes:
        last_good: the last sequence before the damage.
        resume_after: reading goes on behind the damage with what comes after this sequence.
    """

    def __init__(self, text: str, last_good: int, resume_after: int) -> None:
        super().__init__(text)
        self.last_good = last_good
        self.resume_after = resume_after


class Record(Struct, frozen=True):
    """One appended batch."""

    seq: int
    changes: list[Change]


class SegmentFile(Struct):
    """One file of records.

    Attributes:
        first / last: its sequences; ``last`` is ``first`` - 1 while it is empty.
        size: bytes on disk.
        unreadable: bytes at the end behind a damaged header.
        counts: changes per record; a record has about a hundred times the size.
    """

    path: Path
    first: int
    last: int
    size: int = 0
    unreadable: int = 0
    counts: list[int] = []


class BadHeaderError(Exception):
    """Where the next record begins cannot be known."""


def encode_record(seq: int, changes: Sequence[Change]) -> bytes:
    """One record, ready to be appended to a file.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: a change that no file can hold (`UNWRITABLE`).
    """
    payload = _encode(changes)
    facts = _FACTS.pack(len(payload), crc32(payload), seq, len(changes))
    return b"".join((facts, _CHECK.pack(crc32(facts)), payload))


def is_writable(change: Change) -> bool:
    """Whether this change can be written down at all."""
    try:
        _encode(change)
    except UNWRITABLE:
        return False
    return True


def read_records(segment: SegmentFile, after: int) -> Iterator[Record]:
    """The records of one file after a sequence.

    Raises:
        JournalDamagedError: the next one cannot be read and never will.
        OSError: the file cannot be read now.
    """
    last = segment.first - 1
    try:
        with segment.path.open("rb") as file:
            while file.tell() < segment.size - segment.unreadable:
                length, checksum, seq, _ = _read_header(file, last)
                if seq <= after:
                    file.seek(length, os.SEEK_CUR)
                else:
                    yield Record(seq, _decoded(segment, seq, file.read(length), checksum))
                last = seq
    except BadHeaderError as error:
        raise JournalDamagedError(f"{segment.path.name}: {error}", last, segment.last) from error
    except OSError as error:
        if error.errno not in _LOST_FILE:
            raise
        raise JournalDamagedError(f"{segment.path.name}: {error}", last, segment.last) from error


def _decoded(segment: SegmentFile, seq: int, payload: bytes, checksum: int) -> list[Change]:
    """The changes of one record; where they are damaged or of another version, the next record is none the worse."""
    if crc32(payload) != checksum:
        raise JournalDamagedError(f"{segment.path.name}: record {seq} is damaged", seq - 1, seq)
    try:
        return _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalDamagedError(f"{segment.path.name}: record {seq}: {error}", seq - 1, seq) from error


def scan_records(segment: SegmentFile, *, check: bool) -> Iterator[tuple[int, int, int, bool]]:
    """Sequence, number of changes, end offset and soundness of each record; payloads are only read to ``check``."""
    last = segment.first - 1
    with segment.path.open("rb") as file:
        while file.tell() < segment.size:
            length, checksum, seq, count = _read_header(file, last)
            end = file.tell() + length
            if end > segment.size:
                raise BadHeaderError(f"record {seq} is cut")
            yield seq, count, end, not check or crc32(file.read(length)) == checksum
            file.seek(end)
            last = seq


def _read_header(file: BinaryIO, last: int) -> tuple[int, int, int, int]:
    raw = file.read(_HEADER_BYTES)
    if len(raw) < _HEADER_BYTES:
        raise BadHeaderError(f"the header after record {last} is cut")
    facts, (check,) = raw[: _FACTS.size], _CHECK.unpack_from(raw, _FACTS.size)
    length, checksum, seq, count = _FACTS.unpack(facts)
    if crc32(facts) != check or seq != last + 1:
        raise BadHeaderError(f"the header after record {last} is damaged")
    return length, checksum, seq, count


def _plain(value: object) -> object:
    """What MongoDB handed out in place of a plain integer."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"{type(value).__name__} cannot be written to the journal")


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_decode = msgspec.msgpack.Decoder(list[Change]).decode
