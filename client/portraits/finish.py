"""The painter's hand: colours drawn along the forms, bristle marks, canvas grain, vignette.

Line integral convolution (Cabral & Leedom 1993) along the picture's own smoothed edges, as in
edge-preserving stylisation (Kang et al. 2009).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from client.portraits.canvas import Canvas, Plane, hill
from client.portraits.looks import Look


def flow(canvas: Canvas, picture: NDArray[Any]) -> tuple[Plane, Plane]:
    """Unit vectors (x, y) along the picture's edges."""
    grey = canvas.blur(np.asarray(picture.mean(axis=-1), np.float32), 0.5)
    gy, gx = (np.asarray(g, np.float32) for g in np.gradient(grey))
    xx, yy, xy = (canvas.blur(g, 3.4) for g in (gx * gx, gy * gy, gx * gy))
    # where nothing shows the way, strokes fall slanting
    faint = 0.35 * float(np.mean(xx + yy))
    slant = 1.05 + 0.35 * np.sin(canvas.x / 60.0) + 0.25 * np.sin(canvas.y / 45.0)
    xx, yy = xx + faint * np.sin(slant) ** 2, yy + faint * np.cos(slant) ** 2
    xy = xy - faint * np.sin(slant) * np.cos(slant)
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) + np.pi / 2
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def drawn_along(planes: NDArray[Any], way: tuple[Plane, Plane], reach: int) -> NDArray[np.float32]:
    """``planes`` (height, width, n) averaged along ``way`` over ``reach`` pixels each side."""
    rows, columns = np.mgrid[: planes.shape[0], : planes.shape[1]].astype(np.float32)
    total, weight = planes.astype(np.float32), 1.0
    for sign in (-1.0, 1.0):
        at_y, at_x = rows.copy(), columns.copy()
        last_x, last_y = way[0] * sign, way[1] * sign
        for k in range(1, reach + 1):
            at_x, at_y = at_x + last_x, at_y + last_y
            iy = np.clip(at_y.round().astype(int), 0, planes.shape[0] - 1)
            ix = np.clip(at_x.round().astype(int), 0, planes.shape[1] - 1)
            step_x, step_y = way[0][iy, ix], way[1][iy, ix]
            # an edge has no sign: keep going the way we came
            turn = np.where(step_x * last_x + step_y * last_y < 0, -1.0, 1.0)
            last_x, last_y = step_x * turn, step_y * turn
            share = float(np.exp(-0.5 * (2 * k / reach) ** 2))
            here = [map_coordinates(planes[..., c], (at_y, at_x), order=1, mode="nearest")
                    for c in range(planes.shape[-1])]  # fmt: skip
            total = total + share * np.stack(here, axis=-1)
            weight += share
    return (total / weight).astype(np.float32)


def painted(canvas: Canvas, look: Look, photo: Image.Image) -> Image.Image:
    """``photo`` as if painted in oil: least so at the eyes and the mouth."""
    picture = np.asarray(photo, np.float32) / 255.0
    way = flow(canvas, picture)
    u = np.abs(canvas.x)
    eyes = hill(u - look.eye.iris[0], 15, canvas.y - 0.5, 9)
    mouth = hill(u, 22, canvas.y - look.lips.seam, 11)
    detail = np.clip(1.3 * eyes + 0.7 * mouth + 0.6 * hill(u, 14, canvas.y - 44, 10), 0, 1)
    reach = max(2, round(2.6 * canvas.scale))
    loose = drawn_along(picture, way, reach)
    share = (0.75 * (1.0 - 0.85 * detail))[..., None]
    out = picture * (1.0 - share) + loose * share
    rng = np.random.default_rng(look.seed + 91)
    marks = drawn_along(rng.normal(0, 1, (*canvas.x.shape, 1)), way, reach * 2)[..., 0]
    marks = gaussian_filter(marks, 0.5) - gaussian_filter(marks, 2.5)
    marks /= max(float(marks.std()), 1e-6)
    grain = gaussian_filter(rng.normal(0, 1, canvas.x.shape), 0.6)
    away = np.hypot(canvas.x / 150, (canvas.y - 30) / 190)
    strength = 0.004 + 0.011 * np.clip(away, 0, 1)
    out *= (1.0 + strength * (1.0 - 0.7 * detail) * marks + 0.008 * grain)[..., None]
    out *= (1.0 - 0.22 * np.clip(away - 0.55, 0, 1) ** 1.5)[..., None]
    return Image.fromarray((np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8))
