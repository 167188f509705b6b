"""Frames for sinks, and readers of their packets, written from the published layouts.

OpenSeeFace: facetracker.py of github.com/emilianavt/OpenSeeFace writes them, Unity/OpenSee.cs
reads them. Live Link Face: FAppleARKitLiveLinkSource of Unreal's AppleARKitFaceSupport, and
github.com/JimWest/PyLiveLinkFace.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pythonosc.osc_bundle import OscBundle
from pythonosc.osc_message import OscMessage

from client.stream.events import Frame
from kfusion.coefficients import Rig
from kfusion.landmarks import INNER_LOWER, NEUTRAL, NEUTRAL_IDENTITY

Faces = NDArray[Any]
GOLDEN_TIME = 1_700_000_000.25


def opened(gap: float) -> Faces:
    """The neutral face, its inner lower lip so many pixels further down."""
    face = NEUTRAL.copy()
    face[list(INNER_LOWER), 1] += gap
    return face


def frame(points: Faces = NEUTRAL, n: int = 0) -> Frame:
    """A frame with what a server would say of these points."""
    rig = Rig(NEUTRAL_IDENTITY)
    moved = rig.displacement(points[None])
    return Frame(
        n, n / 30, points.astype(np.float32), rig.arkit52(moved)[0], rig.vrm(moved)[0]
    )  # fmt: skip


class Bytes:
    """Reads one thing after the other."""

    def __init__(self, data: bytes, order: str) -> None:
        self.data, self.order, self.at = data, order, 0

    def take(self, kind: str) -> float:
        (value,) = struct.unpack_from(self.order + kind, self.data, self.at)
        self.at += struct.calcsize(self.order + kind)
        return value

    def floats(self, count: int) -> list[float]:
        return [self.take("f") for _ in range(count)]

    def text(self) -> str:
        length = int(self.take("i"))
        found = self.data[self.at : self.at + length]
        self.at += length
        return found.decode("ascii")

    def end(self) -> None:
        assert self.at == len(self.data)


@dataclass
class OpenSeeFacePacket:
    time: float
    id: int
    size: list[float]
    right_open: float
    left_open: float
    success: int
    error: float
    quaternion: list[float]
    euler: list[float]
    translation: list[float]
    confidence: list[float]
    points: NDArray[np.float64]
    points3d: NDArray[np.float64]
    features: dict[str, float]

    @property
    def mouth_gap(self) -> float:
        """Between the inner lips in the image: 63-65 below 59-61."""
        return float(self.points[63:66, 1].mean() - self.points[59:62, 1].mean())


_FEATURES = (
    "eye_l eye_r eyebrow_steepness_l eyebrow_updown_l eyebrow_quirk_l eyebrow_steepness_r "
    "eyebrow_updown_r eyebrow_quirk_r mouth_corner_updown_l mouth_corner_inout_l "
    "mouth_corner_updown_r mouth_corner_inout_r mouth_open mouth_wide"
)
FEATURES = _FEATURES.split()


def read_openseeface(data: bytes) -> OpenSeeFacePacket:
    assert len(data) == 1785
    b = Bytes(data, "<")
    packet = OpenSeeFacePacket(
        b.take("d"), int(b.take("i")), b.floats(2), b.take("f"), b.take("f"), int(b.take("B")),
        b.take("f"), b.floats(4), b.floats(3), b.floats(3), b.floats(68),
        np.array(b.floats(136)).reshape(68, 2), np.array(b.floats(210)).reshape(70, 3),
        dict(zip(FEATURES, b.floats(14), strict=True)),
    )  # fmt: skip
    b.end()
    return packet


@dataclass
class LiveLinkPacket:
    version: int
    device: str
    subject: str
    frame: int
    subframe: float
    rate: tuple[int, int]
    values: dict[str, float]


_LIVE_LINK_NAMES = (
    "EyeBlinkLeft EyeLookDownLeft EyeLookInLeft EyeLookOutLeft EyeLookUpLeft EyeSquintLeft "
    "EyeWideLeft EyeBlinkRight EyeLookDownRight EyeLookInRight EyeLookOutRight EyeLookUpRight "
    "EyeSquintRight EyeWideRight JawForward JawLeft JawRight JawOpen MouthClose MouthFunnel "
    "MouthPucker MouthLeft MouthRight MouthSmileLeft MouthSmileRight MouthFrownLeft "
    "MouthFrownRight MouthDimpleLeft MouthDimpleRight MouthStretchLeft MouthStretchRight "
    "MouthRollLower MouthRollUpper MouthShrugLower MouthShrugUpper MouthPressLeft MouthPressRight "
    "MouthLowerDownLeft MouthLowerDownRight MouthUpperUpLeft MouthUpperUpRight BrowDownLeft "
    "BrowDownRight BrowInnerUp BrowOuterUpLeft BrowOuterUpRight CheekPuff CheekSquintLeft "
    "CheekSquintRight NoseSneerLeft NoseSneerRight TongueOut HeadYaw HeadPitch HeadRoll "
    "LeftEyeYaw LeftEyePitch LeftEyeRoll RightEyeYaw RightEyePitch RightEyeRoll"
)
LIVE_LINK_NAMES = _LIVE_LINK_NAMES.split()


def read_live_link(data: bytes) -> LiveLinkPacket:
    b = Bytes(data, ">")
    version = int(b.take("B"))
    device, subject = b.text(), b.text()
    frame, subframe = int(b.take("i")), b.take("f")
    rate = int(b.take("i")), int(b.take("i"))
    numbers = b.floats(int(b.take("B")))
    b.end()
    values: dict[str, float] = dict(zip(LIVE_LINK_NAMES, numbers, strict=True))
    return LiveLinkPacket(version, device, subject, frame, subframe, rate, values)


def osc(packet: bytes) -> list[tuple[str, list[Any]]]:
    """The messages of a bundle, as python-osc parses them."""
    return [(m.address, m.params) for m in OscBundle(packet) if isinstance(m, OscMessage)]


def read_vmc(packet: bytes) -> dict[str, float]:
    """The expressions of a bundle."""
    return {params[0]: params[1] for _, params in osc(packet) if len(params) == 2}
