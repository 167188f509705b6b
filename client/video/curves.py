"""Smooth curves through landmarks, as polygons."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Line = NDArray[np.float64]
"""(k, 2)"""


def spline(points: NDArray[Any], *, closed: bool = False, steps: int = 6) -> Line:
    """A Catmull-Rom spline (Catmull & Rom 1974) through (k, 2) points.

    The tangent at each point is parallel to the line between its neighbours. Every piece is
    ``steps`` straight lines.
    """
    p = np.asarray(points, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]] if closed else [p[:1], p, p[-1:]])
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    u = (np.arange(steps) / steps)[None, :, None]
    curve = 0.5 * (
        2 * b + (c - a) * u + (2 * a - 5 * b + 4 * c - d) * u**2 + (3 * b - a - 3 * c + d) * u**3
    )
    flat = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, p[-2:-1]])


def between(there: NDArray[Any], back: NDArray[Any]) -> Line:
    """The shape between two open curves: along ``there``, then along ``back``."""
    return np.concatenate([spline(there), spline(back)])


def tapered(points: NDArray[Any], thickness: NDArray[Any] | list[float]) -> Line:
    """A stroke whose thickness changes along its way, given at each of its (k, 2) points."""
    p = np.asarray(points, np.float64)
    way = np.gradient(p, axis=0)
    length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    normal = np.stack([-way[:, 1], way[:, 0]], axis=1) / length
    half = np.asarray(thickness, np.float64)[:, None] / 2
    return between(p + normal * half, (p - normal * half)[::-1])
