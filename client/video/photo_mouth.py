"""Draws the inside of a photographed mouth: the dark, the upper teeth, a hint of the tongue."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.video.curves import spline
from client.video.raster import Rgba
from kfusion.landmarks import Points, Similarity

THROAT: Final = np.array([52.0, 17.0, 18.0])
TONGUE: Final = np.array([150.0, 66.0, 66.0])
LASH: Final = np.array([52.0, 34.0, 28.0])
SEAM: Final = np.array([96.0, 42.0, 40.0])
TOOTH: Final = np.array([240.0, 231.0, 217.0])
_UPPER: Final = [60, 61, 62, 63, 64]
_LOWER: Final = [60, 67, 66, 65, 64]
_CHEEKS: Final = ((31, 3), (35, 13), (30, 30))  # skin lies between these points
TEETH_BELOW: Final = 0.032  # the closed lips, of the inter-ocular distance
TOOTH_WIDTH: Final = 0.09


class _Patch:
    """The part of ``picture`` around ``points`` (k, 2).

    ``along`` (its direction is ``right``) and ``down``: its pixels from the middle of the points.
    """

    def __init__(self, picture: Rgba, points: Points, right: NDArray[Any], edge: int = 2) -> None:
        height, width = picture.shape[:2]
        low = np.maximum(np.floor(points.min(axis=0)).astype(int) - edge, 0)
        high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + edge, (width, height))
        high = np.maximum(low, high)
        self.part = picture[low[1] : high[1], low[0] : high[0], :3]
        self.middle = points.mean(axis=0)
        right = right / np.linalg.norm(right)
        self.axes = np.stack([right, (-right[1], right[0])], axis=1)
        x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
        places = (np.stack([x, y], axis=-1) - self.middle) @ self.axes
        self.along, self.down = places[..., 0], places[..., 1]

    def curve(self, points: Points) -> NDArray[np.float64]:
        """The ``down`` of a smooth line through (k, 2) points, at every ``along``."""
        line = (spline(points) - self.middle) @ self.axes
        order = np.argsort(line[:, 0], kind="stable")
        return np.interp(self.along, line[order, 0], line[order, 1])

    def blend(self, colour: NDArray[Any], share: NDArray[Any]) -> None:
        mixed = self.part + (colour - self.part) * share[..., None]
        self.part[:] = (np.clip(mixed, 0, 255) + 0.5).astype(np.uint8)


def draw_lids(picture: Rgba, rest: Points, face: Points, head: Similarity) -> None:
    """Draws the line of the lashes where lids are lowered, darker the further they are."""
    right = head.apply_vectors(rest[45] - rest[36])
    for upper, lower in (([36, 37, 38, 39], [41, 40]), ([42, 43, 44, 45], [47, 46])):
        open_, now = (np.linalg.norm(p[lower] - p[upper[1:3]]) for p in (rest, face))
        closed = float(np.clip(1.25 * (1 - now / max(open_, 1e-6)) - 0.25, 0, 1))
        if not closed:
            continue
        width = max(0.6, 0.014 * float(np.linalg.norm(right)))
        patch = _Patch(picture, face[upper], right, edge=round(3 * width) + 1)
        if not patch.part.size:
            continue
        half = np.ptp((face[upper] - patch.middle) @ patch.axes[:, 0]) / 2
        off = patch.down - patch.curve(face[upper])
        share = np.exp(-((off / width) ** 2)) * np.clip(1.15 - (patch.along / half) ** 2, 0, 1)
        patch.blend(LASH, 0.8 * closed * share)


class Mouth:
    """Draws between the inner lips of a picture.

    ``rest`` (68, 2): the points of the ``photo``; ``shut`` (68, 2): the same with the mouth shut,
    where the upper teeth are fixed to the head.
    """

    def __init__(self, photo: Rgba, rest: Points, shut: Points, down: NDArray[np.float64]) -> None:
        self.apart = float(np.linalg.norm(rest[45] - rest[36]))
        self.seam = shut[62]
        gap = float(((rest[[67, 66, 65]] - rest[[61, 62, 63]]) @ down).mean())
        self.open_share = float(np.clip(gap / (0.03 * self.apart), 0, 1))  # of the photo itself
        self.across = (rest[45] - rest[36]) / self.apart
        height, width = photo.shape[:2]
        patches = np.array([(rest[a] + rest[b]) / 2 for a, b in _CHEEKS])
        x, y = np.clip(patches, 0, (width - 1, height - 1)).astype(int).T
        bright = float((photo[y, x, :3] @ (0.299, 0.587, 0.114)).mean())
        self.light = 0.6 + 0.4 * min(1.2, bright / 180)

    def draw(self, picture: Rgba, face: Points, head: Similarity) -> None:
        """Fills the opening of ``face`` (68, 2) in ``picture``; ``head``: how it has moved."""
        patch = _Patch(picture, face[60:68], head.apply_vectors(self.across))
        if not patch.part.size:
            return
        above, below = patch.curve(face[_UPPER]), patch.curve(face[_LOWER])
        if self.open_share:  # lips that have not met in the photo lack the line where they do
            off = (patch.down - (above + below) / 2) / (0.007 * self.apart + 0.5)
            near = np.clip(1 - (below - above) / (0.02 * self.apart), 0, 1)
            patch.blend(SEAM * self.light, 0.6 * self.open_share * near * np.exp(-(off**2)))
        cover = np.clip(patch.down - above + 0.5, 0, 1) * np.clip(below - patch.down + 0.5, 0, 1)
        cover *= np.clip(below - above - 0.25, 0, 1)
        if cover.any():
            seam = (head.apply(self.seam) - patch.middle) @ patch.axes
            patch.blend(self._inside(patch.along, patch.down, above, below, seam), cover)

    def _inside(
        self,
        along: NDArray[Any],
        down: NDArray[Any],
        above: NDArray[Any],
        below: NDArray[Any],
        seam: NDArray[Any],
    ) -> NDArray[np.float64]:
        """The colour (h, w, 3) at places ``along`` and ``down`` the mouth, in pixels."""
        unit = self.apart
        half = 0.30 * unit
        side = np.clip(np.abs(along) / half, 0, 1)
        tongue = 1 - (
            (along / (0.8 * half)) ** 2 + ((down - below - 0.02 * unit) / (0.16 * unit)) ** 2
        )
        colour = THROAT + (TONGUE - THROAT) * (0.6 * np.clip(tongue, 0, 1))[..., None]
        # The row of teeth: an arc, fixed to the head, its edge soft.
        edge = seam[1] + (TEETH_BELOW - 0.03 * side**2) * unit
        teeth = np.clip((edge - down) / 1.5 + 0.5, 0, 1) * np.clip((1 - side) * 5, 0, 1)
        between = 1 - 0.09 * np.abs(np.cos(np.pi * (along - seam[0]) / (TOOTH_WIDTH * unit))) ** 12
        shade = (1 - 0.45 * side**2) * between
        colour += (TOOTH * shade[..., None] - colour) * (0.92 * teeth)[..., None]
        # The lips' own shadow.
        shadow = np.clip((down - above) / (0.035 * unit), 0, 1)
        colour *= (0.72 + 0.28 * shadow)[..., None]
        return colour * self.light
