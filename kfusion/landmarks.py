"""The 68-point layout (iBUG/300-W order), the canonical neutral face, and similarities.

Coordinates are ``(x right, y down)``. *Canonical*: pixels of a 256 x 256 crop in which the rigid
points lie where those of :data:`NEUTRAL` lie. *Own*: those in which an identity was given. The
inter-ocular distance is that of the outer eye corners, 36 and 45 (300-W, Sagonas et al. 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion.errors import BadIdentity

Points = NDArray[np.float64]
"""Landmarks, shape (..., 68, 2)."""

COUNT: Final = 68
CROP: Final = 256

JAW: Final = slice(0, 17)
BROWS: Final = slice(17, 27)
EYES: Final = slice(36, 48)
MOUTH: Final = slice(48, 68)

RIGID: Final = (27, 28, 29, 30, 36, 39, 42, 45)
"""Points that speech and expression hardly move: nose bridge and eye corners."""

INNER_UPPER: Final = (61, 62, 63)
INNER_LOWER: Final = (67, 66, 65)

# fmt: off
MIRROR: Final = (
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17,
    27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
    64, 63, 62, 61, 60, 67, 66, 65,
)
"""``MIRROR[i]`` is the point on the other side of the face from point i."""

# The left half and the midline of a symmetric face at rest, lips closed; the right half is
# its mirror image about x = 128. Proportions: a median of tracked resting faces of GRID's
# speaker 1 (CC BY 4.0), made symmetric and rounded.
_LEFT_HALF: Final[dict[int, tuple[float, float]]] = {
    0: (56.8, 65.0), 1: (56.3, 99.0), 2: (57.4, 116.0), 3: (63.6, 153.0), 4: (70.8, 168.2),
    5: (79.1, 179.1), 6: (97.0, 194.4), 7: (115.2, 202.8), 8: (128.0, 204.0),
    17: (64.0, 57.2), 18: (74.2, 56.6), 19: (85.4, 53.2), 20: (99.8, 53.6), 21: (114.6, 55.6),
    27: (128.0, 75.4), 28: (128.0, 93.0), 29: (128.0, 109.6), 30: (128.0, 119.8),
    31: (113.4, 129.8), 32: (119.4, 133.6), 33: (128.0, 134.0),
    36: (82.1, 78.0), 37: (89.0, 73.8), 38: (100.0, 73.8), 39: (111.3, 80.8),
    40: (101.2, 82.0), 41: (90.6, 81.8),
    48: (101.2, 158.6), 49: (112.6, 152.8), 50: (120.6, 150.8), 51: (128.0, 152.4),
    57: (128.0, 171.4), 58: (119.4, 170.8), 59: (111.6, 168.2),
    60: (103.6, 158.6), 61: (121.4, 159.3), 62: (128.0, 159.8), 66: (128.0, 159.8),
    67: (121.4, 159.3),
}
# fmt: on


def _symmetric(half: dict[int, tuple[float, float]]) -> Points:
    face = np.empty((COUNT, 2))
    for i, (x, y) in half.items():
        face[i] = x, y
        face[MIRROR[i]] = CROP - x, y
    face.setflags(write=False)
    return face


NEUTRAL: Final[Points] = _symmetric(_LEFT_HALF)
"""The canonical neutral face, (68, 2), pixels of the 256 x 256 crop; left-right symmetric."""


def inter_ocular(points: NDArray[Any]) -> Any:
    """Distance between the outer eye corners of (..., 68, 2) points, shape (...)."""
    return np.linalg.norm(points[..., 36, :] - points[..., 45, :], axis=-1)


NEUTRAL_INTER_OCULAR: Final = float(inter_ocular(NEUTRAL))


def lip_gap(points: NDArray[Any]) -> Any:
    """Mean inner-lip gap along y of (..., 68, 2) points, (...); positive for an open mouth."""
    lower, upper = points[..., INNER_LOWER, 1], points[..., INNER_UPPER, 1]
    return (lower - upper).mean(axis=-1)


# How far a point follows the jaw when the mouth is shut: the share of the lip gap that it rises.
_FOLLOWS: Final = {
    67: 1.0, 66: 1.0, 65: 1.0, 59: 0.8, 58: 0.95, 57: 1.0, 56: 0.95, 55: 0.8, 4: 0.2, 5: 0.45,
    6: 0.8, 7: 1.0, 8: 1.0, 9: 1.0, 10: 0.8, 11: 0.45, 12: 0.2,
}  # fmt: skip


def chin_direction(points: NDArray[Any]) -> NDArray[np.float64]:
    """The unit vector from the brow to the chin of an upright or rolled face (68, 2)."""
    x, y = points[45] - points[36]
    return np.array([-y, x]) / np.hypot(x, y)


def with_mouth_shut(points: NDArray[Any]) -> Points:
    """The same face (68, 2) with its inner lips closed and the jaw raised with the lower lip."""
    shut = np.array(points, np.float64)
    down = chin_direction(shut)
    lower, upper = list(INNER_LOWER), list(INNER_UPPER)
    gap = max(0.0, float(((shut[lower] - shut[upper]) @ down).mean()))
    for i, share in _FOLLOWS.items():
        shut[i] -= share * gap * down
    shut[lower] = shut[upper]
    return shut


def mirrored(points: NDArray[Any], width: float = CROP) -> NDArray[Any]:
    """The index-swapped mirror image of (..., 68, 2) points about x = width / 2."""
    swapped = points[..., MIRROR, :].copy()
    swapped[..., 0] = width - swapped[..., 0]
    return swapped


@dataclass(frozen=True)
class Similarity:
    """x -> ``linear @ x + offset``, a rotation with a scale and a translation."""

    linear: NDArray[np.float64]  # (2, 2)
    offset: NDArray[np.float64]  # (2,)

    def apply(self, points: NDArray[Any]) -> NDArray[Any]:
        """Maps points (..., 2)."""
        return points @ self.linear.T + self.offset

    def apply_vectors(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Maps displacements (..., 2): the linear part only."""
        return vectors @ self.linear.T

    @property
    def inverse(self) -> Similarity:
        back: NDArray[np.float64] = np.linalg.inv(self.linear).astype(np.float64)
        return Similarity(back, -back @ self.offset)


def fit_similarity(source: NDArray[Any], target: NDArray[Any]) -> Similarity:
    """The least-squares similarity (no reflection) from ``source`` to ``target``, both (K, 2).

    Closed form with complex numbers, in the plane equivalent to Umeyama 1991.
    """
    s = source[:, 0] + 1j * source[:, 1]
    t = target[:, 0] + 1j * target[:, 1]
    s_mean, t_mean = s.mean(), t.mean()
    a = np.vdot(s - s_mean, t - t_mean) / np.vdot(s - s_mean, s - s_mean).real
    b = t_mean - a * s_mean
    linear = np.array([[a.real, -a.imag], [a.imag, a.real]])
    return Similarity(linear, np.array([b.real, b.imag]))


def to_canonical(identity: NDArray[Any]) -> Similarity:
    """The similarity that brings a face (68, 2) to the canonical crop, fitted on :data:`RIGID`."""
    return fit_similarity(identity[list(RIGID)], NEUTRAL[list(RIGID)])


def align(frames: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """Brings each of (T, 68, 2) frames to ``reference`` (68, 2) by a similarity on RIGID."""
    rigid = list(RIGID)
    z = np.ascontiguousarray(frames, np.float64).view(np.complex128)[..., 0]  # (T, 68)
    t = np.asarray(reference, np.float64)[rigid] @ np.array([1, 1j])
    z_mean = z[:, rigid].mean(axis=1, keepdims=True)
    s = z[:, rigid] - z_mean
    a = (s.conj() @ (t - t.mean())) / (s * s.conj()).real.sum(axis=1)
    moved = a[:, None] * (z - z_mean) + t.mean()
    return moved.view(np.float64).reshape(*moved.shape, 2)


MIN_INTER_OCULAR: Final = 8.0
MAX_INTER_OCULAR: Final = 10_000.0


@dataclass(frozen=True)
class Identity:
    """A face that a session animates: ``points`` (68, 2) at rest in its own coordinates.

    ``canonical``: brought to the canonical crop. ``back``: canonical -> own coordinates.
    """

    points: Points
    canonical: Points
    back: Similarity

    @classmethod
    def from_points(cls, points: ArrayLike) -> Identity:
        """Checks and normalises 68 (x, y) pairs.

        Raises :class:`~kfusion.errors.BadIdentity` when they are not 68 finite pairs, lie on
        a line, or have an inter-ocular distance outside 8..10 000.
        """
        try:
            own = np.array(points, dtype=np.float64)
        except (TypeError, ValueError):
            raise BadIdentity("identity.points: not numbers; wanted 68 pairs [x, y]") from None
        if own.shape != (COUNT, 2):
            raise BadIdentity(f"identity.points: shape {list(own.shape)}; wanted 68 pairs [x, y]")
        if not np.isfinite(own).all() or np.abs(own).max() > 1e9:
            raise BadIdentity("identity.points: not finite; wanted numbers within 1e9")
        distance = float(inter_ocular(own))
        if not MIN_INTER_OCULAR <= distance <= MAX_INTER_OCULAR:
            raise BadIdentity(
                f"identity.points: inter-ocular distance (points 36 to 45) is {distance:.3g}; "
                f"wanted {MIN_INTER_OCULAR:.0f} to {MAX_INTER_OCULAR:.0f}"
            )
        for what, part in (("the points", own), ("the eye corners and nose", own[list(RIGID)])):
            spread = np.linalg.svd(part - part.mean(axis=0), compute_uv=False)
            if spread[1] < 1e-3 * spread[0]:
                raise BadIdentity(f"identity.points: {what} lie on one line; wanted a face")
        forward = to_canonical(own)
        # A fit that collapsed: the points of another layout.
        if abs(np.linalg.det(forward.linear)) < 1e-12:
            raise BadIdentity("identity.points: not a face in the 68-point iBUG layout")
        return cls(own, forward.apply(own), forward.inverse)

    @cached_property
    def pairs(self) -> list[tuple[float, float]]:
        """The 68 points (x, y) in own coordinates, as the wire carries them."""
        return [(float(x), float(y)) for x, y in self.points]

    def place(self, displacement: NDArray[Any]) -> NDArray[np.float32]:
        """Canonical displacements (T, 68, 2) -> landmarks in own coordinates, float32."""
        return (self.points + self.back.apply_vectors(displacement)).astype(np.float32)


NEUTRAL_IDENTITY: Final = Identity.from_points(NEUTRAL)
