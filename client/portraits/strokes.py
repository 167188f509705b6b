"""Single hairs: lashes, brows, strands, curls, drawn with a fine brush."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from client.portraits.canvas import Canvas, Plane
from client.portraits.layout import brow_line, lower_lid, upper_lid, warped
from client.portraits.light import KEY
from client.portraits.looks import Look, linear


def encoded(linear: NDArray[Any]) -> NDArray[np.uint8]:
    """Linear light -> sRGB bytes, the brightest softly held back."""
    c = np.maximum(linear, 0.0)
    c = c * (1.0 + c / 5.0) / (1.0 + c * 0.42)
    c = np.clip(c, 0.0, 1.0)
    c = np.where(c < 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)
    return (c * 255.0 + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Brush:
    """Draws on ``picture``, whose pixels ``canvas`` lays over the face of ``look``.

    ``fine``: below 1, that share of the hairs is drawn, each so much wider, for small pictures.
    """

    picture: Image.Image
    canvas: Canvas
    look: Look
    fine: float = 1.0

    def hair(
        self, line: NDArray[Any], widths: NDArray[Any], colours: NDArray[Any], alpha: float
    ) -> None:
        """A stroke along ``line`` (n, 2) millimetres of the picture.

        ``widths``: (n,) millimetres. ``colours``: (n, 3) bytes, or one for all.
        """
        draw = ImageDraw.Draw(self.picture, "RGBA")
        at = self.canvas.pixels(line)
        along = np.gradient(at, axis=0)
        side = np.stack((-along[:, 1], along[:, 0]), axis=1)
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
        half = side * (widths / self.fine * self.canvas.scale / 2)[:, None]
        a, b = at + half, at - half
        opacity = round(255 * alpha)
        if colours.ndim == 1:
            shape = [*map(tuple, a), *map(tuple, b[::-1])]
            draw.polygon(shape, fill=(*map(int, colours), opacity))
            return
        for i in range(len(at) - 1):
            quad = [tuple(a[i]), tuple(a[i + 1]), tuple(b[i + 1]), tuple(b[i])]
            draw.polygon(quad, fill=(*map(int, colours[i]), opacity))

    def brows(self) -> None:
        rng = np.random.default_rng(self.look.seed + 21)
        for side in (-1.0, 1.0):
            for _ in range(round(self.look.brow.hairs * self.fine)):
                self._brow_hair(side, rng)

    def _brow_hair(self, side: float, rng: np.random.Generator) -> None:
        """One hair: ``t`` along the brow from the nose, ``v`` across it, both by chance."""
        brow = self.look.brow
        first, last = brow.line[0][0], brow.line[-1][0]
        t, v = rng.beta(1.05, 1.25), rng.normal(0, 0.30)
        if abs(v) > 0.62:
            return
        u = first + (last - first) * t
        thick = brow.thickness * min(1.0, 0.62 + 1.6 * t) * (1.0 - 0.72 * t**2.2)
        y = float(brow_line(brow, u)) + v * thick
        slope = float(brow_line(brow, u + 1) - brow_line(brow, u - 1)) / 2
        # hairs stand up at the nose, lie along towards the temple, and meet in between
        rise = -1.35 * max(0.0, 1 - 3.2 * t) + slope + (-0.75 + 0.2 * t) * (v + 0.25)
        rise += rng.normal(0, 0.13)
        length = rng.uniform(4.0, 7.5) * (1.0 - 0.25 * t)
        way = np.array((1.0, rise)) / np.hypot(1.0, rise)
        s = np.linspace(0, 1, 7)[:, None]
        bend = np.array((0.0, 0.14 * length)) * s**2
        line = np.array((u, y)) + way * length * (s - 0.3) + bend
        line[:, 0] *= side
        widths = 0.42 * np.sin(np.pi * (0.12 + 0.86 * s[:, 0])) ** 0.8
        base = encoded(np.array(linear(brow.colour))).astype(float)
        shade = np.clip(base * rng.uniform(0.75, 1.35), 0, 255)
        alpha = (0.62 if t > 0.07 else 0.4) * rng.uniform(0.6, 1)
        self.hair(warped(self.look, line), widths, shade, alpha)

    def lashes(self) -> None:
        eye, look = self.look.eye, self.look
        rng = np.random.default_rng(look.seed + 22)
        dark = encoded(np.array(linear(look.brow.colour)) * 0.25)
        u = np.linspace(eye.inner[0] + 1.2, eye.outer[0] + 0.4, 60)
        t = np.linspace(0, 1, 60)
        for side in (-1.0, 1.0):
            for shift, alpha, weight in ((-0.35, 0.55, 1.0), (0.05, 0.45, 0.7)):
                line = np.stack((u * side, upper_lid(eye, u) + shift), axis=1)
                self.hair(
                    warped(look, line), weight * (0.35 + 1.0 * t**0.7) * eye.lashes / 5, dark, alpha
                )
            low = np.stack((u * side, lower_lid(eye, u) + 0.35), axis=1)
            self.hair(warped(look, low), 0.25 + 0.4 * t, dark, 0.22)
            for _ in range(round(95 * self.fine)):
                t0 = rng.uniform(0.1, 1.0)
                self._lash(
                    side, t0, -1.0, eye.lashes * (0.45 + 0.6 * t0) * rng.uniform(0.7, 1.1), dark
                )
            for _ in range(round(45 * self.fine)):
                t0 = rng.uniform(0.3, 0.98)
                self._lash(side, t0, 1.0, eye.lashes * 0.42 * rng.uniform(0.6, 1.0), dark)

    def _lash(self, side: float, t: float, down: float, length: float, dark: NDArray[Any]) -> None:
        eye = self.look.eye
        u = eye.inner[0] + (eye.outer[0] - eye.inner[0]) * t
        y = float((upper_lid if down < 0 else lower_lid)(eye, u)) + 0.2 * down
        s = np.linspace(0, 1, 8)
        fan = (t - 0.42) * 1.5
        # seen from the front an upper lash comes forward first, then curls up
        line = np.stack((u + fan * length * s**0.9, y + down * length * 0.5 * s**1.8), axis=1)
        line[:, 0] *= side
        widths = 0.34 * (1 - s) ** 0.7 + 0.05
        self.hair(warped(self.look, line), widths, dark, 0.42 if down < 0 else 0.2)


def strand_light(lines: NDArray[Any], normal: NDArray[Any]) -> tuple[Plane, Plane]:
    """Diffuse light and shine (Kajiya & Kay 1989) along hairs (n, k, 3), each (n, k)."""
    along = np.gradient(lines, axis=1)
    along /= np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    along[..., 2] += np.random.default_rng(len(lines)).normal(0, 0.14, (len(lines), 1))
    half = KEY + np.array((0, 0, 1.0))
    half = half / np.linalg.norm(half)
    facing = np.clip(0.35 + 0.65 * (normal @ KEY), 0.0, 1.0)
    diffuse = np.sqrt(np.maximum(1.0 - (along @ KEY) ** 2, 0.0)) * facing
    shine = np.maximum(1.0 - (along @ half) ** 2, 0.0) ** 14 * facing
    return diffuse.astype(np.float32), shine.astype(np.float32)


def hair_colour(
    look: Look, diffuse: NDArray[Any], shine: NDArray[Any], tint: NDArray[Any]
) -> NDArray[np.uint8]:
    """Bytes (..., 3) of hairs in that light. ``tint``: 0 dark, 1 light hairs."""
    dark, light = np.array(linear(look.hair_dark)), np.array(linear(look.hair_light))
    base = dark + (light - dark) * tint[..., None]
    gloss = (light * 1.5 + 0.10) * shine[..., None]
    return encoded(base * (0.22 + 1.35 * diffuse[..., None]) + gloss)
