"""Reading recorded frames: our own recordings, and plain JSON or JSON-lines files of others, compressed or not.

Understood, per line or per element of a JSON list: our own line (`src.jobs.recordings.recording`),
``{"recv_ns":...,"msg":...}`` and ``{"recv_ms":...,"msg":...}``, a bare frame (``{"channel":...,"data":...}``), and a
webData2 answer without its envelope, which gets one. Anything else is handed on as it is, for the pipeline to count.
Where a recording ends in the middle of a write, everything before is read.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import structlog
import zstandard
from msgspec import Struct

from src.models.errors import ConfigurationError

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is no frame: its beginning is handed on as a broken one, the rest is skipped."""

MAX_DOCUMENT_BYTES = 512 * 1024 * 1024
"""A ``.json`` file is read whole; above this only JSON lines can be read."""

_PACKED_BYTES = 1024
"""Fed to the decompressor at once: damage costs no more than what this much holds, and little memory is needed."""

_UNPACKED_BYTES = 64 * 1024

_PLAIN_BYTES = 256 * 1024
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
_OWN_LINE = b'{"recv_ms":'
_log = structlog.get_logger(__name__)


class RecordedFrame(Struct, frozen=True):
    """One raw frame; ``recv_ms`` is when it was received, None where the recording does not say.

    ``venue`` and ``conn`` (the connection's name) are known for our own recordings only.
    """

    recv_ms: int | None
    venue: str | None
    frame: bytes
    conn: str | None = None


def read_frames(path: Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[RecordedFrame]:
    """Frames of a file, or of all recordings below a directory in the order of their names.

    JSON lines are streamed, in memory for one line; ``.json`` files are read whole.

    Raises:
        ConfigurationError: nothing there to read (at once), or a file cannot be opened or is too large (when its turn
            comes).
    """
    paths = find_recordings(path)
    return (frame for one in paths for frame in _read_file(one, max_line_bytes))


def find_recordings(path: Path) -> list[Path]:
    """The file itself, or the recordings below a directory, sorted by name.

    Raises:
        ConfigurationError: no such path, or nothing in it that looks like a recording.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigurationError(f"{path}: no such file or directory; give a recording or a directory of recordings")
    found = sorted(one for one in path.rglob("*") if one.is_file() and _inner_suffix(one)[0] in _SUFFIXES)
    if not found:
        names = ", ".join(f"*{suffix}" for suffix in sorted(_SUFFIXES))
        raise ConfigurationError(f"{path}: holds no recordings ({names}, also with .gz or .zst behind)")
    return found


_ABSENT = msgspec.Raw()


class _Probe(Struct):
    """The keys that tell what kind of line it is; Raw fields keep their exact bytes."""

    recv_ms: Any = None
    recv_ns: Any = None
    venue: Any = None
    conn: Any = None
    text: Any = None
    b64: Any = None
    frame: msgspec.Raw = _ABSENT
    msg: msgspec.Raw = _ABSENT
    channel: msgspec.Raw = _ABSENT
    clearinghouseState: msgspec.Raw = _ABSENT  # noqa: N815 - the venue's name


_decode_probe = msgspec.json.Decoder(_Probe).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_BROKEN = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def _read_file(path: Path, max_line_bytes: int) -> Iterator[RecordedFrame]:
    suffix, compression = _inner_suffix(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from error
    with file:
        chunks = _chunks(file, compression, path)
        if suffix == ".json":
            yield from _document(chunks, path, max_line_bytes)
        else:
            yield from _lines(chunks, path, max_line_bytes)


def _inner_suffix(path: Path) -> tuple[str, str | None]:
    """The suffix below a compression, and the compression."""
    compression = _COMPRESSIONS.get(path.suffix.lower())
    inner = path.with_suffix("") if compression else path
    return inner.suffix.lower(), compression


def _document(chunks: Iterator[bytes], path: Path, max_line_bytes: int) -> Iterator[RecordedFrame]:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ConfigurationError(
                f"{path}: larger than {MAX_DOCUMENT_BYTES:,} bytes; write one frame per line and name it .jsonl"
            )
    document = bytes(body).removeprefix(b"\xef\xbb\xbf").strip()
    if not document:
        return
    try:
        items = _decode_list(document) if document[:1] == b"[" else [_decode_any(document)]
    except _BROKEN:
        yield from _lines(iter([document]), path, max_line_bytes)  # many a ".json" holds one value per line
        return
    for item in items:
        yield _interpret(bytes(item))


def _lines(chunks: Iterator[bytes], path: Path, max_line_bytes: int) -> Iterator[RecordedFrame]:
    for line, complete in _split(chunks, max_line_bytes):
        text = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not text:
            continue
        if not complete and text.startswith(_OWN_LINE) and not _is_json(text):
            _log.warning("recording_torn", path=str(path), lost_bytes=len(text))
            continue
        yield _interpret(text)


def _split(chunks: Iterator[bytes], max_line_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Lines without their end, and whether the end was there. Of an overlong line only the beginning is given."""
    rest: list[bytes] = []
    size = 0
    for chunk in chunks:
        *ended, tail = chunk.split(b"\n")
        for part in ended:
            yield _joined(rest, part, max_line_bytes), True
            rest, size = [], 0
        if size <= max_line_bytes:
            rest.append(tail)
        size += len(tail)
    if size:
        yield _joined(rest, b"", max_line_bytes), False


def _joined(parts: list[bytes], last: bytes, max_line_bytes: int) -> bytes:
    line = b"".join([*parts, last]) if parts else last
    return line[:max_line_bytes]


def _interpret(value: bytes) -> RecordedFrame:
    try:
        probe = _decode_probe(value)
    except _BROKEN:  # broken, or not an object
        return RecordedFrame(None, None, value)
    recv_ms = _receipt_ms(probe)
    own = _own_frame(probe)
    if own is not None and recv_ms is not None:
        return RecordedFrame(recv_ms, _name(probe.venue), own, _name(probe.conn))
    if probe.channel is _ABSENT and probe.msg is not _ABSENT:
        return RecordedFrame(recv_ms, _name(probe.venue), bytes(probe.msg))
    if probe.channel is _ABSENT and probe.clearinghouseState is not _ABSENT:
        return RecordedFrame(None, None, b'{"channel":"webData2","data":' + value + b"}")
    return RecordedFrame(None, None, value)


def _own_frame(probe: _Probe) -> bytes | None:
    if probe.frame is not _ABSENT:
        return bytes(probe.frame)
    if isinstance(probe.text, str):
        return probe.text.encode()
    if isinstance(probe.b64, str):
        try:
            return base64.b64decode(probe.b64, validate=True)
        except (binascii.Error, ValueError):
            return None
    return None


def _receipt_ms(probe: _Probe) -> int | None:
    if isinstance(probe.recv_ms, (int, float)):
        return int(probe.recv_ms)
    if isinstance(probe.recv_ns, int):
        return probe.recv_ns // 1_000_000
    return None


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _is_json(text: bytes) -> bool:
    try:
        _decode_any(text)
    except _BROKEN:
        return False
    return True


def _chunks(file: BinaryIO, compression: str | None, path: Path) -> Iterator[bytes]:
    """The uncompressed content; ends with a warning where the file is damaged, cut off or cannot be read on."""
    try:
        if compression == "zstd":
            yield from _unzstd(file)
        elif compression == "gzip":
            yield from _gunzip(file)
        else:
            while chunk := file.read(_PLAIN_BYTES):
                yield chunk
    except (zstandard.ZstdError, zlib.error, OSError) as error:
        _log.warning("recording_damaged", path=str(path), error=str(error))


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    # Not the library's stream_reader: that one keeps back a part of what a torn file still holds.
    decompressor = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
    while data := file.read(_PACKED_BYTES):
        if chunk := decompressor.decompress(data):
            yield chunk


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(wbits=31)
    while data := file.read(_PLAIN_BYTES):
        while data:
            if decompressor.eof:
                decompressor = zlib.decompressobj(wbits=31)
            if chunk := decompressor.decompress(data, _UNPACKED_BYTES):
                yield chunk
            data = decompressor.unconsumed_tail or decompressor.unused_data
