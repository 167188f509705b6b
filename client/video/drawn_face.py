"""A face drawn from 68 landmarks with Pillow, plainer than that of the viewer page.

Everything is placed in pixels of the canonical 256 x 256 crop; the picture shows
:data:`VIEW` of it, drawn at twice its size and averaged down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from client.video.curves import Line, between, spline, tapered
from kfusion.landmarks import COUNT, JAW, Points, lip_gap, to_canonical

Colour = tuple[int, int, int] | tuple[int, int, int, int]

VIEW: Final = (-44.0, -66.0, 344.0)
"""Left, top and side of the square of the crop's coordinates that is shown."""
SUPERSAMPLING: Final = 2

SKIN_LIGHT, SKIN, SKIN_SHADE = (249, 217, 189), (239, 191, 155), (217, 149, 111)
SHADE: Final = (176, 93, 62)
BLUSH: Final = (226, 108, 84)
NECK, NECK_SHADE = (214, 152, 117), (185, 116, 82)
HAIR, HAIR_DARK, HAIR_LIGHT = (90, 50, 38), (62, 35, 28), (114, 66, 48)
SHIRT, COLLAR = (47, 111, 106), (61, 134, 128)
BACK_TOP, BACK_LOW = (236, 241, 238), (205, 219, 214)
BROW: Final = (66, 36, 28, 215)
WHITE, IRIS, IRIS_RIM, PUPIL = (253, 246, 238), (118, 82, 48), (56, 33, 15), (21, 12, 7)
LASH, LID = (58, 31, 24), (120, 60, 44, 130)
NOSE_LINE, NOSTRIL = (158, 80, 56, 150), (104, 44, 32, 190)
UPPER_LIP, LOWER_LIP, SEAM = (183, 89, 79), (210, 117, 104), (125, 50, 48)
THROAT, TONGUE, TOOTH = (62, 18, 20), (196, 98, 94), (250, 243, 232)

_RIGHT_SKULL: Final = [(1.0, 0.34), (0.96, 0.68), (0.82, 1.02), (0.56, 1.28)]
_RIGHT_HAIR: Final = [
    (0.9, -0.2),
    (1.1, -0.1),
    (1.17, 0.2),
    (1.16, 0.72),
    (1.0, 1.2),
    (0.64, 1.54),
]
_FRINGE: Final = [
    (-1.06, -0.22), (-1.0, 0.12), (-0.93, 0.42), (-0.72, 0.72), (-0.3, 0.9), (0.12, 1.02),
    (0.36, 1.1), (0.56, 0.94), (0.8, 0.66), (0.94, 0.36), (1.0, 0.1), (1.06, -0.22),
]  # fmt: skip
_OVER: Final = [
    (1.22, 0.3), (1.1, 1.1), (0.66, 1.56), (0.04, 1.7), (-0.66, 1.56), (-1.1, 1.1), (-1.22, 0.3),
]  # fmt: skip
_EAR: Final = [(0.95, 0.2), (1.1, 0.22), (1.15, 0.0), (1.09, -0.3), (0.97, -0.5)]
_STRANDS: Final = [
    [(0.38, 1.24), (-0.14, 1.16), (-0.65, 0.9), (-0.97, 0.42)],
    [(0.34, 1.36), (-0.24, 1.28), (-0.74, 1.0), (-1.02, 0.5)],
    [(0.5, 1.26), (0.82, 0.94), (1.0, 0.36)],
]

_NECK: Final = np.array(
    [(84, 150), (85, 190), (84, 214), (78, 232), (128, 258), (178, 232), (172, 214), (171, 190),
     (172, 150)], float,
)  # fmt: skip
_BODY: Final = np.array(
    [(-60, 300), (-36, 274), (8, 252), (58, 236), (83, 222), (104, 240), (128, 243), (152, 240),
     (173, 222), (198, 236), (248, 252), (292, 274), (316, 300)], float,
)  # fmt: skip


def _mirrored(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(-x, y) for x, y in reversed(points)]


class _Head:
    """The head's own frame: (0, 0) between the temples, 1 half its width, v up."""

    def __init__(self, face: Line) -> None:
        left, right = face[0], face[16]
        self.middle = (left + right) / 2
        self.across = (right - left) / 2
        self.up = np.array([self.across[1], -self.across[0]])

    def place(self, uv: list[tuple[float, float]]) -> Line:
        at = np.array(uv, float)
        return self.middle + at[:, :1] * self.across + at[:, 1:] * self.up


class _Canvas:
    """Draws in the crop's coordinates on a picture of ``side`` pixels."""

    def __init__(self, picture: Image.Image, scale: float, corner: tuple[float, float]) -> None:
        self.picture, self.scale, self.corner = picture, scale, np.array(corner)
        self.draw = ImageDraw.Draw(picture, "RGBA")

    def pixels(self, points: NDArray[Any]) -> list[tuple[float, float]]:
        return [(x, y) for x, y in ((points - self.corner) * self.scale).tolist()]

    def fill(self, shape: NDArray[Any], colour: Colour) -> None:
        self.draw.polygon(self.pixels(shape), fill=colour)

    def line(self, points: NDArray[Any], colour: Colour, width: float) -> None:
        pixels = self.pixels(points)
        self.draw.line(pixels, fill=colour, width=max(1, round(width * self.scale)), joint="curve")

    def disc(self, x: float, y: float, rx: float, colour: Colour, ry: float | None = None) -> None:
        rx, ry = abs(rx), abs(rx if ry is None else ry)
        corners = np.array([(x - rx, y - ry), (x + rx, y + ry)])
        (x0, y0), (x1, y1) = self.pixels(corners)
        self.draw.ellipse((x0, y0, x1, y1), fill=colour)

    def glow(self, x: float, y: float, rx: float, ry: float, colour: Colour, most: float) -> None:
        """A soft spot: ``colour`` at ``most`` in the middle, nothing at its edge."""
        (x0, y0), (x1, y1) = self.pixels(np.array([(x - rx, y - ry), (x + rx, y + ry)]))
        if max(x1 - x0, y1 - y0) > 4 * max(self.picture.size):
            return  # of a face out of all proportion
        spot = _spot(max(2, round(x1 - x0)), max(2, round(y1 - y0)), round(most * 255))
        self.picture.paste(colour, (round(x0), round(y0)), spot)

    def clipped(self, shape: NDArray[Any], paint: Callable[[_Canvas], None]) -> None:
        """What ``paint`` draws shows only within ``shape``."""
        pixels = np.array(self.pixels(shape))
        low = np.maximum(np.floor(pixels.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 1, self.picture.size)
        if (high <= low).any():
            return
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        patch = self.picture.crop(box)
        corner = self.corner + low / self.scale
        inner = _Canvas(patch, self.scale, (float(corner[0]), float(corner[1])))
        paint(inner)
        mask = Image.new("L", patch.size)
        ImageDraw.Draw(mask).polygon(inner.pixels(shape), fill=255)
        self.picture.paste(patch, box[:2], mask)


@lru_cache(maxsize=64)
def _spot(width: int, height: int, most: int) -> Image.Image:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    share = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray((share * share * (3 - 2 * share) * most).astype(np.uint8))


@lru_cache(maxsize=4)
def _shades(side: int) -> tuple[Image.Image, Image.Image]:
    """The background, and skin lit from the upper left, both ``side`` x ``side``."""
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    back = _blend(y[..., None], BACK_TOP, BACK_LOW)
    left, top, width = VIEW
    distance = np.hypot((x * width + left) - 108, (y * width + top) - 88) / 150
    low = _blend(np.clip(distance * 2, 0, 1)[..., None], SKIN_LIGHT, SKIN)
    skin = low + (np.array(SKIN_SHADE) - low) * np.clip(distance * 2 - 1, 0, 1)[..., None]
    return Image.fromarray(back.astype(np.uint8)), Image.fromarray(skin.astype(np.uint8))


def _blend(share: NDArray[Any], first: Colour, second: Colour) -> NDArray[Any]:
    return np.array(first) + (np.array(second) - np.array(first)) * share


@dataclass(frozen=True)
class DrawnFace:
    """Draws faces in the coordinates of ``identity`` (68, 2), the face at rest; None: canonical.

    ``side``: of the pictures, pixels, even.
    """

    identity: Points | None = None
    side: int = 512

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def draw(self, points: NDArray[Any]) -> NDArray[np.uint8]:
        """The picture (side, side, 3) of a face (68, 2)."""
        if self.identity is not None:
            points = to_canonical(self.identity).apply(points)
        return np.asarray(draw_face(points, self.side))


def draw_face(points: NDArray[Any], size: int = 512) -> Image.Image:
    """The face of (68, 2) canonical landmarks as an RGB picture, ``size`` x ``size``.

    Points in an identity's own coordinates go through ``kfusion.landmarks.to_canonical`` first.
    Raises ``ValueError`` for another shape.
    """
    face = np.asarray(points, np.float64)
    if face.shape != (COUNT, 2):
        raise ValueError(f"points have shape {face.shape}; wanted (68, 2)")
    side = size * SUPERSAMPLING
    background, skin = _shades(side)
    canvas = _Canvas(background.copy(), side / VIEW[2], VIEW[:2])
    head = _Head(face)
    _draw_back(canvas, head)
    _draw_head(canvas, face, head, skin)
    _draw_nose(canvas, face)
    for corners in (range(36, 42), range(42, 48)):
        _draw_eye(canvas, face[list(corners)], outer=corners[0] == 36)
    _draw_mouth(canvas, face)
    thickness = [1, 3.9, 5.3, 5.8, 4.6]
    canvas.fill(tapered(face[17:22], thickness), BROW)
    canvas.fill(tapered(face[22:27], thickness[::-1]), BROW)
    _draw_fringe(canvas, head)
    return canvas.picture.reduce(SUPERSAMPLING)


def _draw_back(canvas: _Canvas, head: _Head) -> None:
    hair = head.place([*_RIGHT_HAIR, (0.04, 1.68), *_mirrored(_RIGHT_HAIR)])
    canvas.fill(spline(hair, closed=True), HAIR_DARK)
    canvas.fill(spline(_NECK), NECK)
    canvas.clipped(spline(_NECK), lambda inside: inside.glow(128, 196, 60, 34, NECK_SHADE, 0.9))
    canvas.fill(spline(_BODY), SHIRT)
    canvas.line(spline(_BODY[4:9]), COLLAR, 3)
    for side in (-1, 1):
        ear = head.place([(side * x, y) for x, y in _EAR])
        canvas.fill(spline(ear, closed=True), (230, 171, 133) if side < 0 else (207, 139, 102))


def _draw_head(canvas: _Canvas, face: Line, head: _Head, skin: Image.Image) -> None:
    skull = head.place([*_RIGHT_SKULL, (0, 1.4), *_mirrored(_RIGHT_SKULL)])
    outline = spline(np.concatenate([face[JAW], skull]), closed=True)
    mask = Image.new("L", canvas.picture.size)
    ImageDraw.Draw(mask).polygon(canvas.pixels(outline), fill=255)
    canvas.picture.paste(skin, (0, 0), mask)

    def paint(inside: _Canvas) -> None:
        x, y = head.place([(1.05, -0.35)])[0]
        inside.glow(x, y, 46, 130, SHADE, 0.4)
        smile = float(np.clip((face[54, 0] - face[48, 0] - 53) / 14, 0, 1))
        for corner, jaw in ((48, 2), (54, 14)):
            at = face[corner] * (0.52, 0.4) + face[jaw] * (0.48, 0.6)
            inside.glow(at[0], at[1] - 3 * smile, 26, 26, BLUSH, 0.22 + 0.16 * smile)
        shadow = head.place([(x, y - 0.07) for x, y in _FRINGE])
        over = head.place(_OVER)
        inside.fill(np.concatenate([spline(shadow), spline(over)]), (140, 66, 42, 60))

    canvas.clipped(outline, paint)


def _draw_nose(canvas: _Canvas, face: Line) -> None:
    bridge, tip, wings = face[27], face[30], face[31:36]
    plane = np.stack([bridge, (bridge + tip) / 2, wings[4], tip, tip])
    plane += [(2, -4), (4, 0), (3, -2), (0, 9), (0, 0)]
    canvas.fill(spline(plane, closed=True), (*SHADE, 30))
    canvas.glow(wings[2, 0], wings[2, 1] + 3, 16, 8, (165, 80, 56), 0.4)
    canvas.glow(tip[0] - 2, tip[1] - 2, 10, 10, (255, 240, 224), 0.55)
    for wing, side in ((wings[0], -1), (wings[4], 1)):
        curl = [(0.5 * side, -8), (3.6 * side, -3.5), (2.4 * side, 1), (-side, 1.2)]
        canvas.line(spline(wing + np.array(curl)), NOSE_LINE, 1.2)
    for wing, side in ((wings[1], -1), (wings[3], 1)):
        canvas.disc(wing[0] + 0.6 * side, wing[1] - 0.6, 3.3, NOSTRIL, 1.4)


def _draw_eye(canvas: _Canvas, eye: Line, *, outer: bool) -> None:
    middle = eye.mean(axis=0)
    eye = middle + (eye - middle) * (1.08, 1.3)  # tracked lids lie inside the lashes
    upper, lower = eye[:4], eye[[3, 4, 5, 0]]
    width = float(np.linalg.norm(eye[3] - eye[0]))
    canvas.glow(middle[0], middle[1] - 0.12 * width, 0.95 * width, 0.6 * width, SHADE, 0.3)
    opening = between(upper, lower)
    canvas.fill(opening, WHITE)
    x, y, radius = middle[0], middle[1] - 0.5, 0.21 * width

    def paint(inside: _Canvas) -> None:
        inside.disc(x, y, radius, IRIS_RIM)
        inside.disc(x, y, 0.86 * radius, IRIS)
        inside.disc(x, y, 0.43 * radius, PUPIL)
        inside.disc(x - 0.34 * radius, y - 0.36 * radius, 0.22 * radius, (255, 255, 255))
        inside.line(spline(upper), (90, 50, 38, 76), 3)

    canvas.clipped(opening, paint)
    lash = [1.5, 2.1, 1.9, 0.7] if outer else [0.7, 1.9, 2.1, 1.5]
    canvas.fill(tapered(upper, lash), LASH)
    canvas.line(spline(lower), LID, 0.8)
    canvas.line(spline(upper - np.array([(0, 2.4), (0, 4.2), (0, 4.2), (0, 2.6)])), LID, 1)


def _draw_mouth(canvas: _Canvas, face: Line) -> None:
    gap = max(0.0, float(lip_gap(face)))
    top, low = face[60:65], face[[64, 65, 66, 67, 60]]
    centre = (face[48] + face[54]) / 2
    canvas.glow(centre[0], face[57, 1] + 5, 19, 6, (160, 78, 54), 0.4)
    if gap > 0.4:
        canvas.fill(between(top, low), THROAT)

        def paint(inside: _Canvas) -> None:
            width = float(top[4, 0] - top[0, 0])
            if gap > 2:
                inside.disc(centre[0], low[2, 1] + 1, 0.31 * width, TONGUE, 0.4 * gap + 1)
            edge = top[2, 1] + min(7.0, 0.5 * gap + 0.4)
            teeth = [top[0] + (0.1 * width, -10), top[4] + (-0.1 * width, -10)]
            bow = [(top[4, 0] - 0.1 * width, edge - 2), (centre[0], edge),
                   (top[0, 0] + 0.1 * width, edge - 2)]  # fmt: skip
            inside.fill(np.concatenate([teeth, spline(np.array(bow))]), TOOTH)

        canvas.clipped(between(top, low), paint)
    canvas.fill(between(face[48:55], top[::-1]), UPPER_LIP)
    lower = face[[54, 55, 56, 57, 58, 59, 48]]
    canvas.fill(between(lower, low[::-1]), LOWER_LIP)
    shine = (low[2, 1] + face[57, 1]) / 2
    canvas.glow(centre[0] - 2, shine, 8, 2.2, (255, 226, 212), 0.5)
    if gap < 2.5:
        seam = np.concatenate([face[48:49], (top + low[::-1]) / 2, face[54:55]])
        strength = round(255 * (1 - gap / 2.5))
        canvas.fill(tapered(seam, [0.7, 1.2, 1.1, 0.9, 1.1, 1.2, 0.7]), (*SEAM, strength))


def _draw_fringe(canvas: _Canvas, head: _Head) -> None:
    shape = np.concatenate([spline(head.place(_FRINGE)), spline(head.place(_OVER))])
    canvas.fill(shape, HAIR)

    def paint(inside: _Canvas) -> None:
        for strand in _STRANDS:
            inside.line(spline(head.place(strand)), HAIR_LIGHT, 1.6)

    canvas.clipped(shape, paint)
