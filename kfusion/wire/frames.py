"""Binary messages of the server: consecutive frames of one kind behind a header of 24 bytes.

::

    0        4     5      6       8              16                24
    "KFL1"   kind  flags  count   n of the first clock, us         count * width float32
    4s       u8    u8 0   u16     u64            u64               little endian

``n``: the frame's number. ``clock``: the server's time in microseconds. ``width``: 136 for points.
"""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.errors import BadMessage
from kfusion.landmarks import COUNT
from kfusion.wire.messages import Output

__all__ = [
    "HEADER", "KINDS", "MAGIC", "MAX_COUNT", "FrameBlock", "FrameHeader", "decode_frames",
    "encode_frames", "read_header",
]  # fmt: skip

MAGIC: Final = b"KFL1"
HEADER: Final = struct.Struct("<4sBBHQQ")
KINDS: Final[dict[Output, int]] = {"points": 1, "arkit52": 2, "vrm": 3}
_OUTPUT_OF: Final[dict[int, Output]] = {number: name for name, number in KINDS.items()}
MAX_COUNT: Final = 0xFFFF


@dataclass(frozen=True)
class FrameHeader:
    """The frames ``first`` .. ``first + count - 1`` of one output."""

    output: Output
    count: int
    first: int
    clock_us: int


@dataclass(frozen=True)
class FrameBlock:
    """``values`` (count, width) float32 of frames ``first`` ...; width 136 for points."""

    output: Output
    first: int
    clock_us: int
    values: NDArray[np.float32]


def encode_frames(block: FrameBlock) -> bytes:
    """1 to 65535 consecutive frames as one binary message."""
    values = np.ascontiguousarray(block.values, "<f4")
    header = HEADER.pack(MAGIC, KINDS[block.output], 0, len(values), block.first, block.clock_us)
    return header + values.tobytes()


def read_header(data: bytes) -> FrameHeader:
    """The header of a binary message. Raises :class:`~kfusion.errors.BadMessage`."""
    if len(data) < HEADER.size:
        raise BadMessage(f"binary frames: {len(data)} bytes; wanted at least {HEADER.size}")
    magic, kind, flags, count, first, clock_us = HEADER.unpack_from(data)
    if magic != MAGIC or flags != 0:
        raise BadMessage(f"binary frames: begins {magic!r}, flags {flags}; wanted {MAGIC!r}, 0")
    if kind not in _OUTPUT_OF:
        raise BadMessage(f"binary frames: kind {kind}; wanted one of {sorted(_OUTPUT_OF)}")
    return FrameHeader(_OUTPUT_OF[kind], count, first, clock_us)


def decode_frames(data: bytes) -> FrameBlock:
    """The inverse of :func:`encode_frames`. Raises :class:`~kfusion.errors.BadMessage`."""
    header = read_header(data)
    output, count, body = header.output, header.count, len(data) - HEADER.size
    if count == 0 or body == 0 or body % (4 * count):
        raise BadMessage(f"binary frames: {body} bytes for {count} frames; wanted whole float32s")
    if output == "points" and body != count * 2 * COUNT * 4:
        raise BadMessage(f"binary frames: {body} bytes for {count} frames of 136 float32")
    values = np.frombuffer(data, "<f4", offset=HEADER.size).reshape(count, -1)
    return FrameBlock(output, header.first, header.clock_us, values)
