"""Packets of Epic's Live Link Face app, version 6, which Unreal's ARKit plug-in reads.

Big endian; strings are an int32 length and so many characters::

    uint8    6, the packet's version
    string   device, a UUID of 36 characters
    string   subject
    int32    frame number, float32 part of a frame, int32 and int32 frames per second as a fraction
    uint8    61
    float32  61 values in the order of kfusion.coefficients.arkit.LIVE_LINK_FACE
"""

import struct
import time
import uuid
from typing import Final

import numpy as np

from client.errors import BadSink
from client.sinks.udp import UdpSink
from client.stream.events import Frame
from kfusion import wire
from kfusion.coefficients.arkit import LIVE_LINK_FACE, live_link_face
from kfusion.config import FPS
from kfusion.landmarks import RIGID, Identity, fit_similarity

VERSION: Final = 6
MAX_NAME: Final = 255
COUNT: Final = len(LIVE_LINK_FACE)


def _string(text: str) -> bytes:
    return struct.pack(">i", len(text)) + text.encode("ascii")


class LiveLinkSink(UdpSink):
    """Sends to Unreal under the name ``subject``; frames count from midnight, as a timecode."""

    needs: tuple[wire.Output, ...] = ("arkit52",)

    def __init__(self, url: str, host: str, port: int, subject: str, rest: Identity) -> None:
        if not (subject.isascii() and subject.isprintable() and 0 < len(subject) <= MAX_NAME):
            raise BadSink(f"{url}: subject={subject}; wanted 1 to {MAX_NAME} ASCII characters")
        device = str(uuid.uuid5(uuid.NAMESPACE_URL, f"kfusion:{subject}"))
        self.head = bytes([VERSION]) + _string(device) + _string(subject)
        self.rest = rest.points[list(RIGID)]
        self.first: int | None = None  # the number of the stream's frame 0
        super().__init__(url, host, port)

    def packet(self, frame: Frame) -> bytes:
        if self.first is None:
            now = time.localtime()
            today_s = 3600 * now.tm_hour + 60 * now.tm_min + now.tm_sec
            self.first = FPS * today_s - frame.n
        return self.head + packed(frame, self.first + frame.n, self.roll(frame))

    def roll(self, frame: Frame) -> float:
        """The roll of the head, radians, clockwise in the image."""
        turn = fit_similarity(self.rest, frame.points[list(RIGID)].astype(np.float64)).linear
        return float(np.arctan2(turn[1, 0], turn[0, 0]))


def packed(frame: Frame, number: int, roll: float) -> bytes:
    """The part of a packet after the names."""
    assert frame.arkit52 is not None, "the stream was not asked for arkit52"
    values: list[float] = live_link_face(frame.arkit52[None], np.array([roll]))[0].tolist()
    return struct.pack(f">ifiiB{COUNT}f", number, 0.0, FPS, 1, COUNT, *values)
