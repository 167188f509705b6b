"""Pictures through triangles: every pixel of a mesh belongs to one triangle, as on a GPU.

All rows of all triangles are cut into runs of pixels at once, and each run steps through the
texture in a straight line. OpenCV would add 60 MB to ``kfusion[client]``, and does not assign the
pixels on a shared edge to one of the two triangles.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Rgba = NDArray[np.uint8]
"""(H, W, 4), contiguous: red, green, blue, 255."""


@dataclass(frozen=True)
class Runs:
    """Pixels ``first`` .. ``end``-1 of row ``y`` belong to ``triangle``; each (R,)."""

    triangle: NDArray[np.intp]
    y: NDArray[np.intp]
    first: NDArray[np.intp]
    end: NDArray[np.intp]


def runs_of(corners: NDArray[Any], width: int, height: int) -> Runs:
    """The pixels of (T, 3, 2) triangles in a picture of ``width`` x ``height``.

    A pixel belongs to the triangle that holds its centre, (x + 0.5, y + 0.5); one on an edge to
    the triangle right of it or below, so that a mesh leaves no pixel out and shares none.
    """
    order = np.lexsort((corners[..., 0], corners[..., 1]), axis=-1)
    a, b, c = np.moveaxis(np.take_along_axis(corners, order[..., None], axis=1), 1, 0)
    # The first row of which a corner is above the middle: rows a..b and b..c.
    row_a, row_b, row_c = (
        np.clip(np.ceil(p[:, 1] - 0.5), 0, height).astype(np.intp) for p in (a, b, c)
    )
    count = row_c - row_a
    triangle = np.repeat(np.arange(len(corners)), count)
    y = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count) + row_a[triangle]
    upper = y < row_b[triangle]
    long_edge = _cut(a[triangle], c[triangle], y)
    begin = np.where(upper[:, None], a[triangle], b[triangle])
    short_edge = _cut(begin, np.where(upper[:, None], b[triangle], c[triangle]), y)
    first, end = (
        np.clip(np.ceil(x - 0.5), 0, width).astype(np.intp)
        for x in (np.minimum(long_edge, short_edge), np.maximum(long_edge, short_edge))
    )
    kept = end > first
    return Runs(triangle[kept], y[kept], first[kept], end[kept])


def _cut(a: NDArray[Any], b: NDArray[Any], y: NDArray[np.intp]) -> NDArray[np.float64]:
    """Where the edges from ``a`` down to ``b``, (R, 2), cross the middle of their rows, (R,)."""
    height = b[:, 1] - a[:, 1]
    share = (y + 0.5 - a[:, 1]) / np.where(height > 0, height, 1)
    return a[:, 0] + share * (b[:, 0] - a[:, 0])


def affine(corners: NDArray[Any], texture: NDArray[Any]) -> NDArray[np.float64]:
    """(T, 3, 2) corners and their places in the texture -> (T, 2, 3): place = m @ (x, y, 1)."""
    a = corners[:, 0]
    u, v = corners[:, 1] - a, corners[:, 2] - a
    det = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    det = np.where(np.abs(det) > 1e-12, det, np.inf)
    s, t = texture[:, 1] - texture[:, 0], texture[:, 2] - texture[:, 0]
    across = (s * v[:, 1:] - t * u[:, 1:]) / det[:, None]
    down = (t * u[:, :1] - s * v[:, :1]) / det[:, None]
    offset = texture[:, 0] - across * a[:, :1] - down * a[:, 1:]
    return np.stack([across, down, offset], axis=-1)


_LANES: Final = np.array([0, 16, 32, 48], np.uint64)
_HALF: Final = np.uint64(0x0080_0080_0080)
BLOCK: Final = 24_000  # pixels painted at a time, so that their numbers stay in the cache


def packed(pixels: NDArray[np.uint8]) -> Rgba:
    """(H, W, 3) RGB -> the four bytes a pixel that are painted on."""
    return np.ascontiguousarray(np.pad(pixels, ((0, 0), (0, 0), (0, 1)), constant_values=255))


class Texture:
    """A picture that is read between its pixels.

    A texel is one number with three colours in lanes of 16 bits, which are weighted at once.
    """

    def __init__(self, pixels: Rgba) -> None:
        self.height, self.width = pixels.shape[:2]
        edged = np.pad(pixels, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(np.uint64)
        self._texels = (edged << _LANES).sum(axis=-1, dtype=np.uint64).ravel()

    def read(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint32]:
        """The packed pixels at (n,) places, counted in pixels with the first one's centre at 0."""
        # In 1/16 of a pixel: rounded as a whole, so that a place at a pixel is that pixel.
        fx = (np.clip(x, 0, self.width - 1) * np.float32(16) + np.float32(0.5)).astype(np.int32)
        fy = (np.clip(y, 0, self.height - 1) * np.float32(16) + np.float32(0.5)).astype(np.int32)
        row = self.width + 1
        at = ((fy >> 4) * row + (fx >> 4)).astype(np.intp)
        fx &= 15
        fy &= 15
        both = fx * fy
        right, below = 16 * fx - both, 16 * fy - both
        texels = self._texels
        mixed = texels.take(at) * (256 - 16 * fx - below).astype(np.uint64)
        mixed += texels.take(at + 1) * right.astype(np.uint64)
        mixed += texels.take(at + row) * below.astype(np.uint64)
        mixed += texels.take(at + row + 1) * both.astype(np.uint64)
        mixed += _HALF
        return (mixed.astype("<u8", copy=False).view("<u2") >> 8).astype(np.uint8).view(np.uint32)


def paint(picture: Rgba, texture: Texture, corners: NDArray[Any], sources: NDArray[Any]) -> None:
    """Puts what ``texture`` has in (T, 3, 2) ``sources`` on the triangles ``corners``."""
    height, width = picture.shape[:2]
    flat = picture.reshape(-1).view(np.uint32)
    runs = runs_of(corners, width, height)
    m = affine(corners, sources)
    ends = np.cumsum(runs.end - runs.first)
    begin = 0
    while begin < len(ends):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + BLOCK, "right")))
        some = slice(begin, end)
        first, y, count = runs.first[some], runs.y[some], runs.end[some] - runs.first[some]
        step = np.arange(ends[end - 1] - done) - np.repeat(ends[some] - count - done, count)
        pixel = step + np.repeat(y * width + first, count)
        step = step.astype(np.float32)
        matrix = m[runs.triangle[some]]
        place = (matrix[..., 0].T * (first + 0.5) + matrix[..., 1].T * (y + 0.5)) + (
            matrix[..., 2].T - 0.5
        )
        u, v = (
            np.repeat(place[k].astype(np.float32), count)
            + np.repeat(matrix[:, k, 0].astype(np.float32), count) * step
            for k in (0, 1)
        )
        flat[pixel] = texture.read(u, v)
        begin = end
