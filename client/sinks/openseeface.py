"""OpenSeeFace's UDP packets (https://github.com/emilianavt/OpenSeeFace), 1785 bytes a frame.

Its tracker sends them for a face in front of a camera. Little endian; "right" and "left" are the
subject's::

    double   time, s              float32  eye open right, left: 1 open, 0 shut
    int32    face id              uint8    1: the 3-D points are known
    float32  width, height        float32  error of their fit, 0
    float32  quaternion x y z w, Euler angles in degrees, translation: the head against the camera
    float32  68 confidences; 68 points x, y in the image; 70 points x, y, z; 14 features

The 68 points are not iBUG's: the outer corners of the lips are missing, the eyes' centres last.
"""

import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.sinks.udp import UdpSink
from client.stream.events import Frame
from kfusion.coefficients.arkit import BROW_DOWN, BROW_UP, CORNER, SHUT, STRETCH, WIDE
from kfusion.coefficients.movements import INTER_OCULAR_MM
from kfusion.coefficients.vrm import OPEN
from kfusion.landmarks import CROP, RIGID, Identity, align, fit_similarity, inter_ocular

BYTES: Final = 1785
WIDTH, HEIGHT = 640, 480  # of the image, in which the canonical crop is as high as it can be
SCALE: Final = HEIGHT / CROP
IBUG: Final = [*range(48), *range(49, 54), *range(55, 60), *range(60, 68)]
"""The iBUG points of its first 66."""
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
UNIT_MM: Final = 144.0  # OpenSeeFace's own model is 0.63 units from eye corner to eye corner
NOSE: Final = 30  # the origin of the 3-D points: the nose's tip
EYEBALL: Final = 0.385  # its centre lies so far behind the lids, of the eye's width
_RIGID: Final = list(RIGID)

# A head of our own for how far points lie behind the nose's tip, mm: an upright cylinder with an
# ellipse for its outline, and on it the nose.
FACE_MM, HALF_WIDTH_MM, HEAD_MM = 22.0, 74.0, 110.0
_NOSE_MM: Final = dict(zip(range(27, 36), (20, 14, 6, 0, 18, 14, 12, 14, 18), strict=True))

_Floats = NDArray[np.float64]

_PACKET: Final = np.dtype(
    [
        ("time", "<f8"), ("id", "<i4"), ("size", "<f4", 2), ("open", "<f4", 2), ("success", "u1"),
        ("error", "<f4"), ("quaternion", "<f4", 4), ("euler", "<f4", 3), ("translation", "<f4", 3),
        ("confidence", "<f4", 68), ("points", "<f4", (68, 2)), ("points3d", "<f4", (70, 3)),
        ("features", "<f4", 14),
    ]
)  # fmt: skip
assert _PACKET.itemsize == BYTES


class OpenSeeFaceSink(UdpSink):
    """Sends frames of the face whose rest position is ``rest``."""

    def __init__(self, url: str, host: str, port: int, rest: Identity) -> None:
        self.head = Head(rest)
        super().__init__(url, host, port)

    def packet(self, frame: Frame) -> bytes:
        return self.head.packet(frame.points, time.time())


class Head:
    """Makes the packets of a face whose rest position is ``rest``."""

    def __init__(self, rest: Identity) -> None:
        self.forward = rest.back.inverse
        self.rest: _Floats = rest.canonical
        self.mm = INTER_OCULAR_MM / float(inter_ocular(rest.canonical))
        aside = self.mm * (self.rest[:, 0] - self.rest[NOSE, 0]) / HALF_WIDTH_MM
        self.depth = FACE_MM + HEAD_MM * (1 - np.sqrt(1 - np.minimum(aside**2, 1)))
        self.depth[list(_NOSE_MM)] = list(_NOSE_MM.values())

    def packet(self, points: NDArray[Any], now: float) -> bytes:
        """The packet of a face (68, 2) in the identity's own coordinates, sent at ``now``, s."""
        face = self.forward.apply(np.asarray(points, np.float64))
        still = align(face[None], self.rest)[0]
        moved = self.features(still)
        p = np.zeros((), _PACKET)
        p["time"], p["size"], p["success"], p["confidence"] = now, (WIDTH, HEIGHT), 1, 1
        p["open"] = 1 - np.clip([-moved[1], -moved[0]], 0, 1)
        p["quaternion"], p["euler"], p["translation"] = self._pose(face)
        image = _with_eyes(face) * SCALE + ((WIDTH - HEIGHT) / 2, 0)
        p["points"], p["points3d"], p["features"] = image, self._solid(still), moved
        return p.tobytes()

    def _pose(self, face: _Floats) -> tuple[_Floats, _Floats, _Floats]:
        """Quaternion, Euler angles and translation of a head that faces the camera.

        OpenSeeFace's camera has its first axis down the image and its second to the right, so a
        head that nothing turns is half a turn away, about the diagonal.
        """
        turn = fit_similarity(self.rest[_RIGID], face[_RIGID]).linear
        size, roll = float(np.hypot(*turn[:, 0])), float(np.arctan2(turn[1, 0], turn[0, 0]))
        half = np.pi / 4 - roll / 2
        away = WIDTH / (UNIT_MM / self.mm * SCALE * size)
        x, y = face[NOSE] * SCALE - (HEIGHT / 2, HEIGHT / 2)
        return (
            np.array([-np.sin(half), np.cos(half), 0, 0]),
            np.array([180, 0, 90 - np.degrees(roll)]),
            np.array([y / WIDTH * away, x / WIDTH * away, away]),
        )

    def _solid(self, still: _Floats) -> _Floats:
        """(70, 3): right, down and backwards from the nose's tip; the last two are the eyeballs."""
        flat = (still - still[NOSE]) * self.mm
        points = np.column_stack([-flat[:, 0], flat[:, 1], self.depth])
        balls = np.array([points[eye].mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE)])
        widths = [np.hypot(*(flat[a] - flat[b])) for a, b in ((36, 39), (42, 45))]
        balls[:, 2] += EYEBALL * np.array(widths)
        return np.concatenate([_with_eyes(points), balls]) / UNIT_MM

    def features(self, still: _Floats) -> _Floats:
        """(14,) in -1..1, 0 at rest, of a face whose head keeps still.

        The signs are OpenSeeFace's: eyes wide, brows raised, steep where the inner end is up,
        bent, corners *down* and out, the mouth open and wide are positive.
        """
        sides = [
            _side(self.rest, still, self.mm, *side)
            for side in ((LEFT_EYE, (22, 24, 26), 64, 1), (RIGHT_EYE, (21, 19, 17), 60, -1))
        ]
        (eye_l, *brow_l, down_l, out_l), (eye_r, *brow_r, down_r, out_r) = sides
        opened = (_gap(still) - _gap(self.rest)) * self.mm / OPEN
        wide = (_width(still) - _width(self.rest)) * self.mm / (2 * STRETCH)
        return np.clip(
            [eye_l, eye_r, *brow_l, *brow_r, down_l, out_l, down_r, out_r, opened, wide], -1, 1
        )


def _with_eyes(points: _Floats) -> _Floats:
    """iBUG's points as OpenSeeFace's: without two corners of the lips, with the eyes' centres."""
    centres = [points[eye].mean(axis=0) for eye in (RIGHT_EYE, LEFT_EYE)]
    return np.concatenate([points[IBUG], centres])


def _side(
    rest: _Floats, face: _Floats, mm: float, eye: slice, brow: tuple[int, int, int], corner: int,
    outwards: int,
) -> tuple[float, ...]:  # fmt: skip
    """Of one side: eye, the brow's steepness, height and bend, the mouth's corner down and out."""
    opening = _opening(face[eye]) / max(_opening(rest[eye]), 1e-6) - 1
    inner, middle, outer = ((rest[i, 1] - face[i, 1]) * mm for i in brow)
    height = (inner + outer) / 2
    lip = (face[50:53, 1] - rest[50:53, 1]).mean()
    across, down = (face[corner] - rest[corner]) * mm
    return (
        opening / (SHUT if opening < 0 else WIDE),
        (inner - outer) / BROW_DOWN,
        height / (BROW_UP if height > 0 else BROW_DOWN),
        (middle - height) / BROW_DOWN,
        (down - lip * mm) / CORNER,
        outwards * across / CORNER,
    )


def _opening(eye: _Floats) -> float:
    """Between the lids of an eye (6, 2)."""
    return float(eye[4:6, 1].mean() - eye[1:3, 1].mean())


def _gap(face: _Floats) -> float:
    return float(face[65:68, 1].mean() - face[61:64, 1].mean())


def _width(face: _Floats) -> float:
    return float(face[64, 0] - face[60, 0])
