"""Light on a height field: a warm key from the upper left, a cool fill, a rim, the sky.

Light wanders under skin, red farthest. Each colour therefore sees its own, more or less blurred
shape (blended normals, Ma et al. 2007), and its own softness at the edge of the shade.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, zoom

from client.portraits.canvas import Canvas, Colours, Plane, step


def _unit(x: float, y: float, z: float) -> Plane:
    v = np.array((x, y, z), np.float32)
    return v / np.linalg.norm(v)


KEY: Final = _unit(-0.50, -0.56, 0.74)
FILL: Final = _unit(0.75, -0.05, 0.55)
RIM: Final = _unit(0.93, -0.3, -0.22)
KEY_COLOUR: Final = np.array((1.62, 1.48, 1.30), np.float32)
FILL_COLOUR: Final = np.array((0.13, 0.16, 0.21), np.float32)
RIM_COLOUR: Final = np.array((0.75, 0.72, 0.70), np.float32)
SKY: Final = np.array((0.24, 0.25, 0.28), np.float32)
GROUND: Final = np.array((0.12, 0.08, 0.065), np.float32)


@dataclass(frozen=True)
class Surface:
    """How a surface takes light. ``wander``: millimetres that red, green and blue travel."""

    wander: tuple[float, float, float] = (1.6, 1.0, 0.6)
    wrap: tuple[float, float, float] = (0.45, 0.28, 0.20)
    sheen: float = 0.5
    roughness: float = 0.4


SKIN: Final = Surface()
CLOTH: Final = Surface((0.3, 0.3, 0.3), (0.2, 0.2, 0.2), 0.04, 0.8)


def normals(canvas: Canvas, z: Plane) -> NDArray[np.float32]:
    """Unit normals (height, width, 3) of ``z`` in millimetres."""
    dy, dx = np.gradient(z, 1.0 / canvas.scale)
    n = np.stack((-dx, -dy, np.ones_like(z)), axis=-1)
    return (n / np.linalg.norm(n, axis=-1, keepdims=True)).astype(np.float32)


def occlusion(canvas: Canvas, z: Plane) -> Plane:
    """1 in the open, towards 0 in hollows: how far ``z`` lies below its surroundings."""
    open_ = np.ones_like(z)
    for sigma, weight in ((1.2, 0.55), (3.5, 0.75), (10.0, 0.8)):
        below = np.maximum(canvas.blur(z, sigma) - z, 0.0) / sigma
        open_ *= 1.0 / (1.0 + weight * below * 1.6)
    return open_


def resampled(plane: Plane, rows: float, columns: float) -> Plane:
    """``plane`` with so many times its rows and columns."""
    out = zoom(plane, (rows, columns), order=1, grid_mode=True, mode="nearest")
    return np.asarray(out, np.float32)


def shadow(canvas: Canvas, z: Plane, softness: float = 0.42) -> Plane:
    """1 where the key light arrives, 0 where ``z`` itself stands in its way."""
    small: Plane = resampled(z, 1.0 / canvas.scale, 1.0 / canvas.scale)
    rows, columns = np.mgrid[: small.shape[0], : small.shape[1]].astype(np.float32)
    flat = float(np.hypot(KEY[0], KEY[1]))
    lit = np.ones_like(small)
    for t in np.geomspace(1.5, 130.0, 64):
        at = np.stack((rows + t * KEY[1] / flat, columns + t * KEY[0] / flat))
        there = map_coordinates(small, at, order=1, mode="nearest")
        clear = small + 0.35 + t * KEY[2] / flat - there
        lit = np.minimum(lit, clear / (t * softness) + 0.5)
    factors = (z.shape[0] / small.shape[0], z.shape[1] / small.shape[1])
    big = resampled(np.clip(lit, 0.0, 1.0), *factors)
    return canvas.blur(step(0.0, 1.0, big), 1.3)


def lit(
    canvas: Canvas,
    z: Plane,
    albedo: Colours,
    open_: Plane,
    key: Plane,
    surface: Surface = SKIN,
    grain: Plane | float = 0.0,
    gloss: Plane | float = 1.0,
) -> Colours:
    """The light that ``albedo`` on ``z`` sends to the viewer.

    ``grain``: fine relief that only the shine shows. ``gloss``: where it shines.
    """
    out = np.empty_like(albedo)
    for c in range(3):
        n = normals(canvas, canvas.blur(z, surface.wander[c]))
        w = surface.wrap[c]
        direct = np.clip((n @ KEY + w) / (1.0 + w), 0.0, 1.0) * key ** (0.75 + 0.2 * c)
        filled = np.clip((n @ FILL + 0.3) / 1.3, 0.0, 1.0)
        up = 0.5 - 0.5 * n[..., 1]
        sky = (GROUND[c] + (SKY[c] - GROUND[c]) * up) * (0.55 + 0.45 * n[..., 2])
        # blood shows in the shade of hollows: red loses least
        around = open_ ** (0.88 + 0.08 * c)
        edge = np.clip(n @ RIM, 0.0, 1.0) * (1.0 - n[..., 2]) ** 2
        light = KEY_COLOUR[c] * direct * (0.45 + 0.55 * around)
        light += (FILL_COLOUR[c] * filled + sky) * around + RIM_COLOUR[c] * edge * around
        out[..., c] = albedo[..., c] * light
    return (out + _shine(canvas, z, open_, key, surface, grain, gloss)[..., None]).astype(
        np.float32
    )


def _shine(
    canvas: Canvas,
    z: Plane,
    open_: Plane,
    key: Plane,
    surface: Surface,
    grain: Plane | float,
    gloss: Any,
) -> Plane:
    n = normals(canvas, canvas.blur(z, 0.5) + grain)
    a2 = surface.roughness**4
    shine = np.zeros_like(z)
    for direction, strength in ((KEY, 1.0), (FILL, 0.16)):
        half = _unit(*(direction + np.array((0, 0, 1.0), np.float32)))
        nh = np.clip(n @ half, 0.0, 1.0) ** 2
        lobe = a2 / (np.pi * (nh * (a2 - 1.0) + 1.0) ** 2)
        fresnel = 0.04 + 0.96 * (1.0 - np.clip(n[..., 2], 0, 1)) ** 5 * 0.35
        reach = key if direction is KEY else np.ones_like(key)
        shine += strength * lobe * fresnel * np.clip(n @ direction, 0, 1) * reach
    return (surface.sheen * gloss * shine * open_).astype(np.float32)
