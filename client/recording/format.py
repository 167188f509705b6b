"""The file of a recorded stream: every message of both directions, with its time.

A recording is the magic, then records, each written as soon as it happens::

    0        4                                       little endian
    "KFR1"   | length  crc32 | msgpack of so many bytes | length  crc32 | ...
    4s       | u32     u32   |                          |

The first is the :class:`Header`; the others are entries of the classes after it, as arrays
``[kind, microseconds since the first, connection, ...]``. A recording that was cut off within a
record (a crash, a full disk) ends before it and says so. Tokens are not recorded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from client.errors import RecordingError
from kfusion import wire

MAGIC: Final = b"KFR1"
FORMAT: Final = 1
_RECORD: Final = struct.Struct("<II")
_MAX_BYTES: Final = 4 * wire.MESSAGE_BYTES  # a record is one message and a few bytes

if TYPE_CHECKING:
    Message = str | bytes
else:
    Message = Any  # msgpack distinguishes the two, msgspec's schema does not


class RecordingHeader(msgspec.Struct, frozen=True):
    """Describes the recording. ``date``: ISO 8601, UTC. ``url``: without any token."""

    date: str
    url: str = ""
    kfusion: str = ""
    python: str = ""
    system: str = ""
    format: int = FORMAT


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    us: int
    link: int


class Opened(_Entry, frozen=True, array_like=True, tag="opened"):
    """A connection was opened."""


class Failed(_Entry, frozen=True, array_like=True, tag="failed"):
    """No connection could be opened."""

    why: str


class Sent(_Entry, frozen=True, array_like=True, tag="sent"):
    """The client sent a message; whether it arrived is not known."""

    message: Message


class Received(_Entry, frozen=True, array_like=True, tag="received"):
    message: Message


class Lost(_Entry, frozen=True, array_like=True, tag="lost"):
    """The connection was closed by the server, or broke: WebSocket code and reason."""

    code: int
    reason: str


class Left(_Entry, frozen=True, array_like=True, tag="left"):
    """The client closed the connection."""


Entry = Opened | Failed | Sent | Received | Lost | Left


_entry_decoder: Final = msgspec.msgpack.Decoder(Entry)
_header_decoder: Final = msgspec.msgpack.Decoder(RecordingHeader)


def encode(record: RecordingHeader | Entry) -> bytes:
    """The bytes of a record."""
    data = msgspec.msgpack.encode(record)
    return _RECORD.pack(len(data), zlib.crc32(data)) + data


def _decode_entry(data: bytes) -> Entry:
    entry = _entry_decoder.decode(data)
    message: object = getattr(entry, "message", "")
    if not isinstance(message, str | bytes):
        raise msgspec.ValidationError("a message that is neither text nor bytes")
    return entry


class Recording:
    """A recording in a file. ``torn``, once read, says where it was cut off, if it was.

    Raises :class:`~client.errors.RecordingError` for a file that is none.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.torn = ""
        with self._open() as file:
            magic = file.read(len(MAGIC))
            if magic != MAGIC:
                raise RecordingError(
                    f"{path} begins with {magic!r}; wanted {MAGIC!r}: a recording, as --record "
                    "writes it"
                )
            records = self._records(file)
            try:
                self.header = _header_decoder.decode(next(records, b""))
            except msgspec.DecodeError as error:
                why = self.torn or str(error)
                raise RecordingError(f"{path}: no header ({why}); wanted a recording") from None
        if self.header.format != FORMAT:
            raise RecordingError(
                f"{path} is of format {self.header.format}; wanted {FORMAT}: it is of another "
                f"version of KFusion ({self.header.kfusion})"
            )

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise RecordingError(
                f"{self.path}: cannot be read ({error.strerror}); wanted a recording"
            ) from None

    def _records(self, file: BinaryIO) -> Iterator[bytes]:
        """The records from the file's position on."""
        size = self.path.stat().st_size
        while (at := file.tell()) < size:
            head = file.read(_RECORD.size)
            length, check = _RECORD.unpack(head) if len(head) == _RECORD.size else (0, 0)
            data = file.read(min(length, _MAX_BYTES))
            if not length or at + len(head) + length > size:  # zeros are what a crash leaves, too
                self.torn = f"{self.path}: cut off at byte {at}; what came before is whole"
                return
            if zlib.crc32(data) != check or len(data) != length:
                if file.tell() == size:
                    self.torn = f"{self.path}: the last record, at byte {at}, is damaged"
                    return
                raise RecordingError(
                    f"{self.path}: the record at byte {at} is damaged; wanted the file as it was "
                    "written"
                )
            yield data

    def entries(self) -> Iterator[Entry]:
        """All entries, in order. Raises :class:`~client.errors.RecordingError`."""
        with self._open() as file:
            file.seek(len(MAGIC))
            records = self._records(file)
            next(records)
            for number, data in enumerate(records, 1):
                try:
                    yield _decode_entry(data)
                except msgspec.DecodeError as error:
                    raise RecordingError(
                        f"{self.path}: record {number}: {error}; wanted one of format {FORMAT}"
                    ) from None
