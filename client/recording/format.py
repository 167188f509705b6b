"""A stream in a file: every message both ways, with its time. For bug reports and tests.

A recording is the magic, then records, each as soon as it happens::

    0        4                                       little endian
    "KFR1"   | length  crc32 | msgpack of so many bytes | length  crc32 | ...
    4s       | u32     u32   |                          |

The first is the :class:`Header`; the others are of the classes after it, as arrays
``[kind, microseconds since the first, connection, ...]``. A recording that was cut off in the
midst of a record (a crash, a full disk) ends before it, and says so. Tokens are not recorded.
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
_HEAD: Final = struct.Struct("<II")
_MOST: Final = 4 * wire.MESSAGE_BYTES  # a record is one message and a few bytes

if TYPE_CHECKING:
    Message = str | bytes
else:
    Message = Any  # msgpack tells the two apart, msgspec's schema does not


class Header(msgspec.Struct, frozen=True):
    """Of what this is a recording. ``date``: ISO 8601, UTC. ``url``: without any token."""

    date: str
    url: str = ""
    kfusion: str = ""
    python: str = ""
    system: str = ""
    format: int = FORMAT


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A connection was opened."""

    us: int
    link: int


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """No connection could be opened."""

    us: int
    link: int
    why: str


class Sent(msgspec.Struct, frozen=True, array_like=True, tag="sent"):
    """The client sends; whether it arrives only the other side knows."""

    us: int
    link: int
    message: Message


class Received(msgspec.Struct, frozen=True, array_like=True, tag="received"):
    us: int
    link: int
    message: Message


class Lost(msgspec.Struct, frozen=True, array_like=True, tag="lost"):
    """The connection closed, by the other side or by itself: WebSocket code and reason."""

    us: int
    link: int
    code: int
    reason: str


class Left(msgspec.Struct, frozen=True, array_like=True, tag="left"):
    """The client closed the connection."""

    us: int
    link: int


Entry = Opened | Failed | Sent | Received | Lost | Left


_entry: Final = msgspec.msgpack.Decoder(Entry)
_header: Final = msgspec.msgpack.Decoder(Header)


def packed(record: Header | Entry) -> bytes:
    """A record as it stands in the file."""
    data = msgspec.msgpack.encode(record)
    return _HEAD.pack(len(data), zlib.crc32(data)) + data


def _decoded(data: bytes) -> Entry:
    entry = _entry.decode(data)
    message: object = getattr(entry, "message", "")
    if not isinstance(message, str | bytes):
        raise msgspec.ValidationError("a message that is neither text nor bytes")
    return entry


class Recording:
    """A recording that was made. ``torn``, once read: how it was cut off, if it was.

    Raises :class:`~client.errors.RecordingError` for what is no recording, saying where.
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
                self.header = _header.decode(next(records, b""))
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
        """The records from the file's place on."""
        size = self.path.stat().st_size
        while (at := file.tell()) < size:
            head = file.read(_HEAD.size)
            length, check = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
            data = file.read(min(length, _MOST))
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
        """All that happened, in order. Raises :class:`~client.errors.RecordingError`."""
        with self._open() as file:
            file.seek(len(MAGIC))
            records = self._records(file)
            next(records)
            for number, data in enumerate(records, 1):
                try:
                    yield _decoded(data)
                except msgspec.DecodeError as error:
                    raise RecordingError(
                        f"{self.path}: record {number}: {error}; wanted one of format {FORMAT}"
                    ) from None
