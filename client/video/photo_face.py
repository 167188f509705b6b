"""A photographed face that moves: the photo as a mesh over its 68 points, pulled to each frame.

The mesh is Delaunay's over the points, the skull and a still ring around the head, so that the
background stays; the lips and the eyes are edges of it. What lies between the lips is drawn
(mouth.py). Where lids come down they cover the eye, which itself is not squeezed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.errors import PictureError
from client.video.mesh import Triangles, doubled_areas, triangulate
from client.video.photo_mouth import Mouth, draw_lids
from client.video.raster import Pixels, Texture, packed, paint
from kfusion.landmarks import (
    COUNT,
    JAW,
    RIGID,
    Identity,
    Points,
    Similarity,
    chin_direction,
    fit_similarity,
    with_mouth_shut,
)

EYES: Final = (tuple(range(36, 42)), tuple(range(42, 48)))
OUTER: Final = tuple(range(48, 60))
INNER: Final = tuple(range(60, 68))
_PAIRS: Final = {61: 67, 62: 66, 63: 65, 37: 41, 38: 40, 43: 47, 44: 46}  # above: below
_UPPER: Final = np.array(list(_PAIRS))
_LOWER: Final = np.array(list(_PAIRS.values()))
# Between the lips and in the eyes: triangles that have no area once what parts has met.
_STRIPS: Final = (
    (60, 61, 67), (61, 62, 67), (62, 66, 67), (62, 63, 66), (63, 65, 66), (63, 64, 65),
    (36, 37, 41), (37, 38, 41), (38, 40, 41), (38, 39, 40),
    (42, 43, 47), (43, 44, 47), (44, 46, 47), (44, 45, 46),
)  # fmt: skip
_CORNERS: Final = ((48, 60, 49, 59), (54, 64, 53, 55))  # outer, inner, and the lips beside
_LIDS: Final = {37: 19, 38: 20, 43: 23, 44: 24}  # and the brow above; their crease lies between
_CREASE: Final = 0.5
EYE_WIDER: Final = 0.04
EYE_HIGHER: Final = 0.13
_SKULL: Final = ((-0.98, 0.42), (-0.84, 0.92), (-0.46, 1.24), (0, 1.34), (0.46, 1.24), (0.84, 0.92),
                 (0.98, 0.42))  # fmt: skip
_RING: Final = 1.5  # times as far from the middle of the head as its outline
WANTED: Final = "wanted the points of a face seen from the front"
STILL: Final = 1 / 64  # pixels: what moves less does not move


def in_order(points: NDArray[Any], apart: float = 0.0) -> Points:
    """Lips and lids at least ``apart`` from one another; those that had passed meet halfway.

    The inner corners of the mouth come to lie between the outer lips, where they do not.
    """
    p = np.array(points, np.float64)
    down = chin_direction(p)
    short = apart - (p[_LOWER] - p[_UPPER]) @ down
    crossed = short > 0
    upper, lower = _UPPER[crossed], _LOWER[crossed]
    middle = (p[upper] + p[lower]) / 2
    p[upper], p[lower] = middle - down * apart / 2, middle + down * apart / 2
    for corner, inner, above, below in _CORNERS:
        for side, other in ((above, below), (below, above)):
            along = p[side] - p[corner]
            normal = np.array([-along[1], along[0]])
            within = normal @ (p[other] - p[corner])
            off = normal @ (p[inner] - p[corner])
            if within * off < 0:
                p[inner] -= off / (normal @ normal) * normal
    return p


def _eyes_whole(points: Points) -> Points:
    """With lids and corners a little further out, where the eye ends: tracked ones lie inside."""
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
        given = Identity.from_points(points).points
        high, wide = pixels.shape[:2]
        if not ((given.mean(axis=0) > 0) & (given.mean(axis=0) < (wide, high))).all():
            raise PictureError(
                f"the points lie around ({given[:, 0].mean():.0f}, {given[:, 1].mean():.0f}), "
                f"outside the picture of {wide} x {high} pixels; wanted those of the face in it"
            )
        self.identity = with_mouth_shut(in_order(given))
        view, self.corner, self.scale = _framed(pixels, given, side)
        self.size = (view.shape[1], view.shape[0])
        self.photo = packed(view)
        self.texture = Texture(self.photo)
        self.rest = _with_surroundings(_eyes_whole(in_order(self.place(given))), self.size)
        self.triangles = _mesh(self.rest)
        if (doubled_areas(self.rest, self.triangles) < -1e-6).any():
            raise PictureError(f"the points fold over one another; {WANTED}")
        self.down = chin_direction(self.rest)
        self.source = _lips_only(self.rest, self.down)
        self.lids = np.isin(self.triangles, [*EYES[0], *EYES[1]]).all(axis=1)
        self.mouth = Mouth(self.photo, self.rest, self.place(self.identity), self.down)

    def place(self, points: NDArray[Any]) -> Points:
        """Points in the photo's pixels -> in those of the picture."""
        return (np.asarray(points, np.float64) - self.corner) * self.scale

    def draw(self, points: NDArray[Any]) -> Pixels:
        """The picture of (68, 2) points in the photo's pixels: (H, W, 4), opaque RGB."""
        face = _eyes_whole(in_order(self.place(points)))
        head = fit_similarity(self.rest[list(RIGID)], face[list(RIGID)])
        target = self.target(face, head)
        picture = self.photo.copy()
        moved = np.abs(target - self.rest).max(axis=1) > STILL
        moving = moved[self.triangles].any(axis=1)
        corners, sources = target[self.triangles], self.source[self.triangles]
        sources[self.lids] = self._eyes(target, head)[self.triangles[self.lids]]
        if moving.any():
            paint(picture, self.texture, corners[moving], sources[moving])
        draw_lids(picture, self.rest, target, head)
        self.mouth.draw(picture, target[:COUNT], head)
        return picture

    def target(self, face: Points, head: Similarity) -> Points:
        """Where all points of the mesh go for (68, 2) in the picture; no triangle turns over."""
        target = self.rest.copy()
        target[:COUNT] = face
        rigid = head.apply(self.rest)
        for k, (lid, brow) in enumerate(_LIDS.items(), COUNT):
            target[k] = rigid[k] + 0.5 * (face[brow] - rigid[brow]) + 0.1 * (face[lid] - rigid[lid])
        skull = slice(COUNT + len(_LIDS), COUNT + len(_LIDS) + len(_SKULL))
        target[skull] = rigid[skull]
        share = np.ones((len(target), 1))
        for _ in range(24):
            moved = self.rest + share * (target - self.rest)
            over = doubled_areas(moved, self.triangles) < -1e-9
            if not over.any():
                return moved
            share[np.unique(self.triangles[over])] *= 0.7
        return self.rest

    def _eyes(self, target: Points, head: Similarity) -> Points:
        """Where in the photo lies what the lids show: what they cover is not squeezed."""
        shown = self.source.copy()
        back = head.inverse.apply(target[36:48])
        lowered = (back - self.rest[36:48]) @ self.down
        for lids, sign in (((37, 38, 43, 44), 1), ((40, 41, 46, 47), -1)):
            for i in lids:
                if sign * lowered[i - 36] > 0:
                    shown[i] = back[i - 36]
        return shown


def _framed(
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


def _lips_only(rest: Points, down: NDArray[np.float64]) -> Points:
    """Where the lips of a mouth that the photo shows open begin: a little within, past teeth."""
    source = rest.copy()
    apart = float(np.linalg.norm(rest[45] - rest[36]))
    for upper, lower, above, below in ((61, 67, 50, 58), (62, 66, 51, 57), (63, 65, 52, 56)):
        if (rest[lower] - rest[upper]) @ down < 0.02 * apart:
            continue
        for inner, outer, sign in ((upper, above, -1), (lower, below, 1)):
            thick = abs(float((rest[outer] - rest[inner]) @ down))
            source[inner] += sign * min(0.02 * apart, 0.35 * thick) * down
    return source


def _with_surroundings(face: Points, size: tuple[int, int]) -> Points:
    """The 68 points, creases of the lids, the skull, a ring around the head, the corners."""
    creases = [face[lid] + _CREASE * (face[brow] - face[lid]) for lid, brow in _LIDS.items()]
    middle, across = (face[0] + face[16]) / 2, (face[16] - face[0]) / 2
    up = np.array([across[1], -across[0]])
    skull = np.array([middle + u * across + v * up for u, v in _SKULL])
    outline = np.concatenate([face[JAW][::2], skull])
    centre = (outline.min(axis=0) + outline.max(axis=0)) / 2
    apart = float(np.linalg.norm(face[45] - face[36]))
    known = np.concatenate([face, creases, skull])
    low, high = known.min(axis=0) - 0.1 * apart, known.max(axis=0) + 0.1 * apart
    low, high = np.minimum(low, 0), np.maximum(high, size)
    ring: list[NDArray[np.float64]] = []
    for p in np.clip(centre + _RING * (outline - centre), low + 1, high - 1):
        others = np.concatenate([known, np.array(ring).reshape(-1, 2)])
        if np.linalg.norm(others - p, axis=1).min() > 0.08 * apart:
            ring.append(p)
    corners = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
    return np.concatenate([known, np.array(ring).reshape(-1, 2), corners])


def _mesh(points: Points) -> Triangles:
    """Triangles with the lips and the lids as edges, and strips between those that meet."""
    apart = 0.03 * float(np.linalg.norm(points[45] - points[36]))
    open_ = points.copy()
    open_[:COUNT] = in_order(points[:COUNT], apart)
    loops = (*EYES, OUTER, INNER)
    edges = [(loop[k - 1], loop[k]) for loop in loops for k in range(len(loop))]
    try:
        found = triangulate(open_, edges)
    except ValueError as error:
        raise PictureError(f"{error}; {WANTED}") from None
    middles = open_[found].mean(axis=1)
    for loop in (*EYES, INNER):
        among = np.isin(found, loop).all(axis=1)
        within = among & np.array([_inside(p, open_[list(loop)]) for p in middles])
        found, middles = found[~within], middles[~within]
    strips = np.array(_STRIPS)
    turned = doubled_areas(open_, strips) < 0
    strips[turned] = strips[turned][:, [0, 2, 1]]
    return np.concatenate([found, strips])


def _inside(p: NDArray[Any], loop: NDArray[Any]) -> bool:
    """Whether ``p`` lies in the closed ``loop`` (k, 2): a line from it crosses that an odd time."""
    a, b = loop, np.roll(loop, -1, axis=0)
    spans = (a[:, 1] > p[1]) != (b[:, 1] > p[1])
    a, b = a[spans], b[spans]
    x = a[:, 0] + (p[1] - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
    return bool((x > p[0]).sum() % 2)
