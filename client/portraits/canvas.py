"""The plane a portrait is painted on: millimetres of a face against pixels of a picture.

A face's own coordinates are millimetres: the origin lies between the eyes, x grows to the
right of the picture, y down, z towards the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter, map_coordinates

Plane = NDArray[np.floating[Any]]
"""One number for each pixel, (height, width)."""
Colours = NDArray[np.floating[Any]]
"""Linear red, green and blue, (height, width, 3)."""
Table = tuple[tuple[float, float], ...]
"""A smooth function: pairs (y or x, value), the first growing."""

WIDTH: Final = 512
HEIGHT: Final = 640
EYE_LINE: Final = (256.0, 262.0)
"""Where the origin lies, in pixels of the finished picture."""


@dataclass(frozen=True)
class Canvas:
    """``width`` x ``height`` pixels, ``scale`` of them to the millimetre, origin at ``origin``."""

    width: int
    height: int
    scale: float
    origin: tuple[float, float]

    @classmethod
    def of(cls, scale: float, size: float = 1.0) -> Canvas:
        """The picture at ``scale`` pixels to the millimetre, ``size`` times as large."""
        x, y = EYE_LINE
        return cls(round(WIDTH * size), round(HEIGHT * size), scale * size, (x * size, y * size))

    @cached_property
    def x(self) -> Plane:
        column = (np.arange(self.width) + 0.5 - self.origin[0]) / self.scale
        return np.tile(column.astype(np.float32), (self.height, 1))

    @cached_property
    def y(self) -> Plane:
        row = (np.arange(self.height) + 0.5 - self.origin[1]) / self.scale
        return np.tile(row.astype(np.float32)[:, None], (1, self.width))

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) of the face in pixels."""
        return np.asarray(points, np.float64) * self.scale + np.array(self.origin)

    def blur(self, plane: NDArray[Any], sigma: float) -> Plane:
        """A Gaussian blur of ``sigma`` millimetres."""
        s = sigma * self.scale
        return gaussian_filter(plane, (s, s) + (0,) * (plane.ndim - 2), truncate=3.0)

    def noise(self, seed: int, cell: float, stretch: float = 1.0) -> Plane:
        """Smooth noise about 0, mostly within -1..1, in cells of ``cell`` millimetres.

        The same at every size of picture. ``stretch`` makes the cells longer along y.
        """
        table = np.random.default_rng(seed).uniform(-1.6, 1.6, (64, 64)).astype(np.float32)
        at = np.stack((self.y / (cell * stretch), self.x / cell)) + 32.0
        return map_coordinates(table, at, order=3, mode="grid-wrap").astype(np.float32)


@lru_cache(maxsize=512)
def _dense(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    knots = np.array(table, np.float64)
    at = np.linspace(knots[0, 0], knots[-1, 0], 1500)
    return at, np.asarray(PchipInterpolator(knots[:, 0], knots[:, 1])(at))


def curve(y: ArrayLike, table: Table) -> Plane:
    """The smooth function through ``table``, pairs (y, value) with y growing, at ``y``.

    Shape-preserving cubic (PCHIP); constant beyond the ends.
    """
    at, values = _dense(table)
    return np.interp(np.asarray(y), at, values).astype(np.float32)


def step(low: float, high: float, value: NDArray[Any]) -> Plane:
    """0 below ``low``, 1 above ``high``, smooth between; falls instead where high < low."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def hill(dx: NDArray[Any], sx: float, dy: NDArray[Any], sy: float) -> Plane:
    """A Gaussian hill of height 1, ``sx`` and ``sy`` wide."""
    return np.exp(-0.5 * ((dx / sx) ** 2 + (dy / sy) ** 2)).astype(np.float32)


def ridge(distance: NDArray[Any], width: float) -> Plane:
    """A Gaussian ridge of height 1 about distance 0."""
    return np.exp(-0.5 * (distance / width) ** 2).astype(np.float32)


def higher(a: NDArray[Any], b: NDArray[Any], k: float) -> Plane:
    """The higher of two surfaces, their meeting rounded over ``k`` millimetres."""
    h = np.maximum(k - np.abs(a - b), 0.0) / k
    return (np.maximum(a, b) + h * h * k * 0.25).astype(np.float32)


def mix(a: NDArray[Any], b: ArrayLike, share: NDArray[Any]) -> Colours:
    """``share`` (height, width) of ``b`` over ``a``, colours."""
    s = share[..., None]
    return (a * (1.0 - s) + np.asarray(b, np.float32) * s).astype(np.float32)
