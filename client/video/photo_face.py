"""A photographed face that moves: the photo as a mesh (mesh.py) over its 68 points.

What lies between the lips is drawn (photo_mouth.py). Lids that come down cover the eye.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.errors import PictureError
from client.video.mesh import FaceMesh
from client.video.photo_mouth import Mouth, draw_lids
from client.video.raster import Rgba, Texture, packed, paint
from kfusion.landmarks import (
    COUNT,
    RIGID,
    Identity,
    Points,
    Similarity,
    chin_direction,
    fit_similarity,
    with_mouth_shut,
)

EYES: Final = (tuple(range(36, 42)), tuple(range(42, 48)))
_PAIRS: Final = {61: 67, 62: 66, 63: 65, 37: 41, 38: 40, 43: 47, 44: 46}  # above: below
_UPPER: Final = np.array(list(_PAIRS))
_LOWER: Final = np.array(list(_PAIRS.values()))
_CORNERS: Final = ((48, 60, 49, 59), (54, 64, 53, 55))  # outer, inner, and the lips beside
EYE_WIDER: Final = 0.04
EYE_HIGHER: Final = 0.13
MAX_FOLDED: Final = 0.02  # of the squared distance between the eyes, at most
MIN_MOVE: Final = 1 / 64  # pixels; triangles that move less are not painted


def uncrossed(points: NDArray[Any]) -> Points:
    """The points with lips and lids that had passed one another moved halfway, where they meet.

    Inner corners of the mouth outside the outer lips are moved onto them.
    """
    p = np.array(points, np.float64)
    down = chin_direction(p)
    crossed = (p[_LOWER] - p[_UPPER]) @ down < 0
    upper, lower = _UPPER[crossed], _LOWER[crossed]
    p[upper] = p[lower] = (p[upper] + p[lower]) / 2
    for corner, inner, above, below in _CORNERS:
        for side, other in ((above, below), (below, above)):
            along = p[side] - p[corner]
            normal = np.array([-along[1], along[0]])
            within = normal @ (p[other] - p[corner])
            off = normal @ (p[inner] - p[corner])
            if within * off < 0:
                p[inner] -= off / (normal @ normal) * normal
    return p


def _with_wider_eyes(points: Points) -> Points:
    """The points with eyes a little wider: tracked lids and corners lie inside the eye."""
    p = points.copy()
    for eye in EYES:
        a, b, c, d, e, f = eye
        p[[a, d]] += EYE_WIDER * (p[[a, d]] - p[[d, a]])
        for upper, lower in ((b, f), (c, e)):
            gap = EYE_HIGHER * (p[lower] - p[upper])
            p[upper] -= 1.2 * gap
            p[lower] += 0.8 * gap
    return p


class PhotoFace:
    """Draws frames as a photo that speaks.

    ``pixels`` (H, W, 3) RGB; ``points`` (68, 2) of the face in it, in its pixels. ``identity``
    (68, 2): what to animate, the same points with the mouth shut. ``size``: width and height of
    the pictures, at most ``side``: the head with what is around it.

    Raises :class:`~client.errors.PictureError` for points that are no face of this picture.
    """

    def __init__(self, pixels: NDArray[np.uint8], points: NDArray[Any], *, side: int = 640) -> None:
        landmarks = Identity.from_points(points).points
        (x, y), (high, wide) = landmarks.mean(axis=0), pixels.shape[:2]
        if not (0 < x < wide and 0 < y < high):
            raise PictureError(
                f"the points lie around ({x:.0f}, {y:.0f}), outside the picture of "
                f"{wide} x {high} pixels; wanted those of the face in it"
            )
        self.identity = with_mouth_shut(uncrossed(landmarks))
        view, self.corner, self.scale = _cropped(pixels, landmarks, side)
        self.size = (view.shape[1], view.shape[0])
        self.photo = packed(view)
        self.texture = Texture(self.photo)
        self.mesh = FaceMesh(_with_wider_eyes(uncrossed(self.to_picture(landmarks))))
        self.rest, self.triangles = self.mesh.rest, self.mesh.triangles
        apart = float(np.linalg.norm(self.rest[45] - self.rest[36]))
        if self.mesh.folded_area > MAX_FOLDED * apart**2:
            raise PictureError(
                "the points fold over one another; wanted the points of a face seen from the front"
            )
        self.down = self.mesh.down
        self.source = self.rest + self.mesh.spread(_lip_offsets(self.rest, self.down))
        rims = self.mesh.table.rims
        lids = [np.concatenate(rims[eye]) for eye in ("right", "left")]
        self.lids = np.any([np.isin(self.triangles, rim).all(axis=1) for rim in lids], axis=0)
        self.mouth = Mouth(self.photo, self.rest, self.to_picture(self.identity), self.down)

    def to_picture(self, points: NDArray[Any]) -> Points:
        """Points in the photo's pixels -> in those of the picture."""
        return (np.asarray(points, np.float64) - self.corner) * self.scale

    def draw(self, points: NDArray[Any]) -> Rgba:
        """The picture of (68, 2) points in the photo's pixels: (H, W, 4), opaque RGB."""
        face = _with_wider_eyes(uncrossed(self.to_picture(points)))
        head = fit_similarity(self.rest[list(RIGID)], face[list(RIGID)])
        target = self.mesh.target(face, head)
        picture = self.photo.copy()
        moved = np.abs(target - self.rest).max(axis=1) > MIN_MOVE
        moving = moved[self.triangles].any(axis=1)
        corners, sources = target[self.triangles], self.source[self.triangles]
        sources[self.lids] = self._eye_source(target, head)[self.triangles[self.lids]]
        if moving.any():
            paint(picture, self.texture, corners[moving], sources[moving])
        draw_lids(picture, self.rest, target, head)
        self.mouth.draw(picture, target[:COUNT], head)
        return picture

    def _eye_source(self, target: Points, head: Similarity) -> Points:
        """Where in the photo lies what the lids show: what they cover is not squeezed."""
        shown = self.source.copy()
        for k, sign in ((0, 1), (1, -1)):
            lids = np.concatenate([self.mesh.table.rims[eye][k][1:-1] for eye in ("right", "left")])
            back = head.inverse.apply(target[lids])
            lowered = sign * ((back - self.rest[lids]) @ self.down) > 0
            shown[lids[lowered]] = back[lowered]
        return shown


def _cropped(
    pixels: NDArray[np.uint8], points: Points, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
    """The head and what is around it, its corner in the photo and its scale."""
    from PIL import Image

    high, wide = pixels.shape[:2]
    apart = float(np.linalg.norm(points[45] - points[36]))
    x, y = points[[36, 45]].mean(axis=0)
    left, right = max(0, int(x - 2.6 * apart)), min(wide, int(x + 2.6 * apart))
    top, low = max(0, int(y - 2.6 * apart)), min(high, int(y + 3.6 * apart))
    if right - left < 16 or low - top < 16:
        raise PictureError(f"a face in {right - left} x {low - top} pixels; wanted 16 at least")
    scale = min(1.0, side / max(right - left, low - top))
    # Video wants even numbers; an odd line of a picture that is not scaled is left out.
    width, height = (2 * int((n * scale + 1e-9) / 2) for n in (right - left, low - top))
    if scale == 1:
        right, low = left + width, top + height
    view = Image.fromarray(pixels[top:low, left:right])
    if view.size != (width, height):
        view = view.resize((width, height), Image.Resampling.LANCZOS)
    sizes = np.array([width / (right - left), height / (low - top)])
    return np.asarray(view, np.uint8), np.array([left, top], np.float64), sizes


def _lip_offsets(rest: Points, down: NDArray[np.float64]) -> Points:
    """Offsets (68, 2) that move the inner lips of an open mouth into the lips, off the teeth."""
    inwards = np.zeros((COUNT, 2))
    apart = float(np.linalg.norm(rest[45] - rest[36]))
    for upper, lower, above, below in ((61, 67, 50, 58), (62, 66, 51, 57), (63, 65, 52, 56)):
        if (rest[lower] - rest[upper]) @ down < 0.02 * apart:
            continue
        for inner, outer, sign in ((upper, above, -1), (lower, below, 1)):
            thick = abs(float((rest[outer] - rest[inner]) @ down))
            inwards[inner] += sign * min(0.02 * apart, 0.35 * thick) * down
    return inwards
