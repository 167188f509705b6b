"""Where a face's features lie: the curves that relief, colour and landmarks all share.

The curves are functions of u = abs(x), the same on both sides. A face is then made
asymmetric by :func:`unwarped`, a smooth displacement of a millimetre or so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.portraits.canvas import Canvas, Plane, curve
from client.portraits.looks import Brow, Eye, Lips, Look
from kfusion.landmarks import COUNT, MIRROR, Points


@lru_cache
def _leanings(seed: int) -> tuple[float, ...]:
    return tuple(map(float, np.random.default_rng(seed).uniform(0, 6.28, 4)))


def unwarped(look: Look, x: NDArray[Any], y: NDArray[Any]) -> tuple[Plane, Plane]:
    """The symmetric face's coordinates of places (x, y) in the picture, in millimetres."""
    a, b, c, d = _leanings(look.seed)
    dx = 0.55 * np.sin(y / 38 + a) + 0.3 * np.sin(x / 31 + b)
    dy = 0.6 * np.sin(x / 44 + c) + 0.25 * np.sin(x / 23 + d)
    return (x + dx).astype(np.float32), (y + dy).astype(np.float32)


def warped(look: Look, points: NDArray[Any]) -> NDArray[np.float64]:
    """The places in the picture of points (..., 2) of the symmetric face: its inverse."""
    at = np.asarray(points, np.float64)
    for _ in range(8):
        x, y = at[..., 0], at[..., 1]
        u, v = unwarped(look, x, y)
        at = at + points - np.stack((u, v), axis=-1)
    return at


def _across(eye: Eye, u: ArrayLike) -> NDArray[Any]:
    """0 at the inner corner of the eye, 1 at the outer."""
    return np.clip((np.asarray(u) - eye.inner[0]) / (eye.outer[0] - eye.inner[0]), 0.0, 1.0)


def upper_lid(eye: Eye, u: ArrayLike, lift: float = 0.0) -> NDArray[Any]:
    """y of the upper lid's edge, ``lift`` above it at the middle."""
    t = _across(eye, u)
    chord = eye.inner[1] + (eye.outer[1] - eye.inner[1]) * t
    return chord - (eye.upper + lift) * np.maximum(np.sin(np.pi * t**0.9), 0.0) ** 0.78


def lower_lid(eye: Eye, u: ArrayLike, drop: float = 0.0) -> NDArray[Any]:
    t = _across(eye, u)
    chord = eye.inner[1] + (eye.outer[1] - eye.inner[1]) * t
    return chord + (eye.lower + drop) * np.maximum(np.sin(np.pi * t**1.15), 0.0) ** 0.85


def seam(lips: Lips, u: ArrayLike) -> NDArray[Any]:
    """y of the line between the lips."""
    k, h = lips.half, lips.seam
    knots = (
        (0.0, h + 0.3), (k * 0.12, h), (k * 0.3, h - 1.1), (k * 0.6, h - 0.9),
        (k, lips.corner), (k + 4, lips.corner - 0.6),
    )  # fmt: skip
    return curve(u, knots)


def lip_top(lips: Lips, u: ArrayLike) -> NDArray[Any]:
    k, b = lips.half, lips.bow
    rise = lips.corner - b
    knots = (
        (0.0, lips.dip), (lips.bow_x * 0.5, (lips.dip + b) / 2 - 0.2), (lips.bow_x, b),
        (k * 0.5, b + rise * 0.2), (k * 0.78, b + rise * 0.58), (k, lips.corner),
    )  # fmt: skip
    return curve(u, knots)


def lip_bottom(lips: Lips, u: ArrayLike) -> NDArray[Any]:
    k, fall = lips.half, lips.lower - lips.corner
    knots = (
        (0.0, lips.lower), (k * 0.25, lips.lower - 0.3), (k * 0.5, lips.lower - fall * 0.25),
        (k * 0.77, lips.corner + fall * 0.37), (k, lips.corner),
    )  # fmt: skip
    return curve(u, knots)


def brow_line(brow: Brow, u: ArrayLike) -> NDArray[Any]:
    return curve(u, brow.line)


def silhouette(look: Look, y: ArrayLike) -> Plane:
    """The face's half-width at ``y``."""
    return curve(y, look.silhouette)


def _jaw(look: Look) -> dict[int, tuple[float, float]]:
    """Points 0 to 8: down the left silhouette, evenly along its length."""
    y = np.linspace(-4.0, look.silhouette[-1][0], 4000)
    x = silhouette(look, y).astype(np.float64)
    length = np.concatenate(([0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))))
    at = np.interp(np.linspace(0.0, length[-1], 9), length, np.arange(y.size)).round().astype(int)
    return {i: (-float(x[k]), float(y[k])) for i, k in enumerate(at)}


def symmetric_points(look: Look) -> Points:
    """The 68 landmarks before :func:`warped`, (68, 2), millimetres."""
    eye, lips, nose, brow = look.eye, look.lips, look.nose, look.brow
    left = _jaw(look)
    first, last = brow.line[0][0], brow.line[-1][0]
    for i, t in zip(range(17, 22), (0.98, 0.8, 0.56, 0.32, 0.09), strict=True):
        u = first + (last - first) * t
        left[i] = -u, float(brow_line(brow, u)) - brow.thickness * 0.42
    for i, y in zip(range(27, 31), (1.5, 16.5, 31.0, 45.0), strict=True):
        left[i] = 0.0, y * nose.tip[0] / 42.0
    wing, low = nose.wing[0] + nose.wing[2] * 0.1, nose.wing[1] + nose.wing[2]
    left[31] = -wing, low - 0.8
    left[32] = -wing * 0.5, low + 1.0
    left[33] = 0.0, low + 1.8
    left[36], left[39] = (-eye.outer[0], eye.outer[1]), (-eye.inner[0], eye.inner[1])
    span = eye.outer[0] - eye.inner[0]
    for i, t in ((37, 0.68), (38, 0.32), (40, 0.34), (41, 0.7)):
        u = eye.inner[0] + span * t
        left[i] = -u, float((upper_lid if i < 39 else lower_lid)(eye, u))
    k = lips.half
    left[48], left[60] = (-k, lips.corner), (-k * 0.9, float(seam(lips, k * 0.9)))
    for i, u in ((49, k * 0.6), (50, lips.bow_x), (51, 0.0)):
        left[i] = -u, float(lip_top(lips, u))
    for i, u in ((57, 0.0), (58, k * 0.33), (59, k * 0.64)):
        left[i] = -u, float(lip_bottom(lips, u))
    for i, u in ((61, k * 0.32), (62, 0.0), (66, 0.0), (67, k * 0.32)):
        left[i] = -u, float(seam(lips, u))
    face = np.empty((COUNT, 2))
    for i, (x, y) in left.items():
        face[i] = x, y
        face[MIRROR[i]] = -x, y
    return face


def landmarks(look: Look, canvas: Canvas) -> Points:
    """The 68 landmarks of the portrait in the pixels of ``canvas``, (68, 2)."""
    return canvas.pixels(warped(look, symmetric_points(look)))
