"""Hair: long strands combed along guide curves, or short curls set close."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

from client.portraits.canvas import Canvas, Plane
from client.portraits.looks import Look, linear
from client.portraits.strokes import Brush, encoded, hair_colour, strand_light

Guide = Sequence[tuple[float, float, float]]
STEPS: Final = 44
"""Points of a long hair."""
LOCKS: Final = 46

LEFT: Final[tuple[Guide, ...]] = (
    ((20, -87, 9), (0, -86, 12), (-30, -70, 9), (-52, -40, -6), (-64, -6, -20), (-67, 30, -26),
     (-66, 70, -24), (-62, 108, -16), (-66, 150, -6), (-70, 196, 2), (-66, 240, 4)),
    ((19, -100, 0), (-14, -106, 3), (-52, -90, -3), (-74, -50, -20), (-84, -4, -32), (-87, 46, -36),
     (-84, 92, -30), (-84, 132, -20), (-92, 168, -12), (-96, 205, -8), (-92, 240, -8)),
    ((17, -113, -18), (-20, -122, -22), (-62, -107, -32), (-89, -62, -46), (-100, -8, -54),
     (-104, 48, -56), (-101, 98, -50), (-104, 140, -40), (-113, 172, -36), (-114, 202, -32),
     (-108, 240, -30)),
)  # fmt: skip
RIGHT: Final[tuple[Guide, ...]] = (
    ((22, -87, 9), (31, -83, 10), (46, -66, 6), (58, -41, -7), (65, -8, -20), (68, 30, -26),
     (68, 72, -24), (66, 108, -16), (72, 150, -6), (76, 196, 2), (72, 240, 2)),
    ((21, -100, 0), (37, -100, 2), (59, -83, -4), (75, -48, -20), (85, -4, -32), (88, 46, -36),
     (86, 92, -30), (88, 134, -20), (97, 168, -12), (99, 200, -8), (94, 240, -8)),
    ((19, -113, -18), (42, -117, -22), (69, -101, -32), (90, -60, -46), (100, -8, -54),
     (104, 48, -56), (102, 98, -50), (107, 140, -40), (114, 170, -36), (114, 200, -32),
     (108, 240, -30)),
)  # fmt: skip


def combed(guides: Sequence[Guide]) -> NDArray[np.float64]:
    """The guides, each a smooth curve of STEPS points, (guides, STEPS, 3)."""
    t = np.linspace(0, 1, STEPS)
    return np.array([CubicSpline(np.linspace(0, 1, len(g)), np.array(g, float))(t) for g in guides])


def between(curves: NDArray[Any], s: NDArray[Any]) -> NDArray[np.float64]:
    """Curves at places ``s`` (n, STEPS) across the guides, 0 the first, 1 the last."""
    spline = CubicSpline(np.linspace(0, 1, len(curves)), curves, axis=0)
    at = np.clip(s, -0.04, 1.06)
    return np.stack([spline(at[:, k])[:, k] for k in range(s.shape[1])], axis=1)


def outline(guides: Sequence[Guide]) -> NDArray[np.float64]:
    """The area that a curtain of hair covers, (n, 2)."""
    curves = combed(guides)[..., :2]
    return np.concatenate((curves[0], curves[-1][::-1]))


def mask(canvas: Canvas, shapes: Sequence[NDArray[Any]]) -> Plane:
    """1 inside any of the polygons."""
    picture = Image.new("L", (canvas.width, canvas.height))
    for shape in shapes:
        ImageDraw.Draw(picture).polygon([tuple(p) for p in canvas.pixels(shape)], fill=255)
    return np.asarray(picture, np.float32) / 255.0


@dataclass(frozen=True)
class Strands:
    """Long hairs of one side. ``across``: 0 at the face, 1 at the outside, (n, STEPS).

    ``lines``: (n, STEPS, 3) millimetres. ``phase``: of each hair's wave, (n, 1). ``core``: 1 in the
    middle of a lock, less at its edge, (n, 1). ``tone``: of each hair's lock, (n,).
    """

    across: NDArray[np.float64]
    lines: NDArray[np.float64]
    phase: NDArray[np.float64]
    core: NDArray[np.float64]
    tone: NDArray[np.float64]


def _grown(guides: Sequence[Guide], count: int, rng: np.random.Generator) -> Strands:
    """``count`` hairs in locks that follow the guides in waves."""
    t = np.linspace(0, 1, STEPS)
    middle = (np.arange(LOCKS) + rng.uniform(0.1, 0.9, LOCKS)) / LOCKS
    tone, start = rng.normal(0, 1, LOCKS), rng.uniform(0, 6.28, LOCKS)
    # neighbouring locks wave almost together
    phases = np.cumsum(rng.normal(0, 0.35, LOCKS)) + start * 0.12
    of = rng.integers(0, LOCKS, count)
    spread = rng.normal(0, 0.022, count)
    phase = phases[of][:, None]
    across = middle[of][:, None] + spread[:, None] * (1.0 - 0.45 * t**2)
    lines = between(combed(guides), across)
    wave = 6.5 * t**1.3 * np.sin(17.0 * t + phase + rng.normal(0, 0.12, (count, 1)))
    lines[..., 0] += wave + rng.normal(0, 0.5, (count, 1)) * t
    lines[..., 1] += 1.5 * t * np.cos(17.0 * t + phase)
    core = 1.0 - 0.55 * np.clip(np.abs(spread) / 0.05, 0, 1)[:, None]
    return Strands(across, lines, phase, core, tone[of])


def _coloured(
    look: Look, hair: Strands, side: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Bytes (n, STEPS, 3): the light on a curtain that is round from the face to the outside."""
    t, s = np.linspace(0, 1, STEPS), hair.across
    angle = (s - 0.42) * 2.3 * side
    down, sideways = (np.gradient(hair.lines[..., k], axis=1) for k in (1, 0))
    top = np.abs(sideways) / np.hypot(sideways, down)
    normal = np.stack(
        (np.sin(angle) * (1 - 0.6 * top), -top * (0.35 + 0.65 * s), np.cos(angle)), axis=-1
    )
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    diffuse, shine = strand_light(hair.lines, normal)
    ripple = 0.80 + 0.32 * np.cos(17.0 * t + hair.phase + 0.9)
    inner = 1.0 - 0.35 * np.clip((t - 0.35) * 2, 0, 1) * (s < 0.3)
    diffuse = diffuse * ripple * hair.core * inner
    shine = shine * ripple**2 * hair.core * (1.0 - 0.7 * t) * rng.uniform(0.3, 1.3, (len(s), 1))
    tint = np.clip(0.45 + 0.22 * hair.tone + rng.normal(0, 0.18, len(s)), 0, 1)
    return hair_colour(look, diffuse, shine, tint[:, None] * np.ones_like(s))


def curtain(brush: Brush, guides: Sequence[Guide], seed: int, count: int, side: float) -> None:
    """Long hair from the parting down one side. ``side``: -1 left, 1 right in the picture."""
    rng = np.random.default_rng(seed)
    under = encoded(np.array(linear(brush.look.hair_dark)) * 0.45)
    area = brush.canvas.pixels(outline(guides))
    ImageDraw.Draw(brush.picture).polygon(
        [tuple(p) for p in area], fill=tuple(int(c) for c in under)
    )
    t = np.linspace(0, 1, STEPS)
    hair = _grown(guides, round(count * brush.fine), rng)
    colours = _coloured(brush.look, hair, side, rng)
    # the outer hairs lie behind, those nearest the face in front
    order = np.argsort(-(hair.across[:, 0] + rng.normal(0, 0.10, len(colours))))
    ends = rng.uniform(0.86, 1.0, len(colours))
    for i in order:
        keep = t <= ends[i]
        width = 0.62 * np.clip((ends[i] - t[keep]) * 12, 0.25, 1)
        brush.hair(hair.lines[i, keep, :2], width, colours[i, keep], 0.85)
    _strays(brush, hair.lines, colours, rng)
    _wisps(brush, hair, colours, side, rng)


def _wisps(
    brush: Brush, hair: Strands, colours: NDArray[Any], side: float, rng: np.random.Generator
) -> None:
    """Fine hairs that stray from the inner edge onto the face."""
    t = np.linspace(0, 1, STEPS)
    starts = rng.uniform(0.1, 0.3, 26)
    chosen = rng.choice(np.flatnonzero(hair.across[:, 0] < 0.16), 26)
    for i, start in zip(chosen, starts, strict=True):
        off = np.clip((t - start) / 0.25, 0, 1) ** 1.5 * rng.uniform(1.0, 6.0)
        part = (t >= start) & (t <= start + rng.uniform(0.2, 0.45))
        line = hair.lines[i, :, :2] - np.stack((off * side, 0 * off), axis=1)
        brush.hair(line[part], np.linspace(0.34, 0.12, int(part.sum())), colours[i, part], 0.5)


def _strays(brush: Brush, lines: NDArray[Any], colours: NDArray[Any], rng: Any) -> None:
    """A few hairs that left their lock."""
    t = np.linspace(0, 1, STEPS)
    for i in rng.choice(len(lines), 70, replace=False):
        away = rng.normal(0, 3.2) * np.sin(np.pi * t * rng.uniform(0.7, 1.6)) * t**0.5
        line = lines[i, :, :2] + np.stack((away, 0.4 * away), axis=1)
        brush.hair(line[2:38], np.full(36, 0.3), colours[i, 2:38], 0.5)


def behind(brush: Brush, seed: int) -> None:
    """The hair seen behind the neck."""
    rng = np.random.default_rng(seed)
    count = round(900 * brush.fine)
    guides = (
        ((-96, -10, -60), (-97, 60, -60), (-98, 120, -60), (-102, 170, -60), (-98, 240, -60)),
        ((0, -10, -60), (0, 60, -60), (0, 120, -60), (0, 170, -60), (0, 240, -60)),
        ((96, -10, -60), (97, 60, -60), (98, 120, -60), (102, 170, -60), (98, 240, -60)),
    )
    under = encoded(np.array(linear(brush.look.hair_dark)) * 0.35)
    shape = brush.canvas.pixels(outline(guides))
    ImageDraw.Draw(brush.picture).polygon(
        [tuple(p) for p in shape], fill=tuple(int(c) for c in under)
    )
    s = rng.uniform(0, 1, (count, 1)) * np.ones(STEPS)
    lines = between(combed(guides), s)
    t = np.linspace(0, 1, STEPS)
    lines[..., 0] += 3.0 * np.sin(13 * t + 9 * s)
    shade = np.full_like(s, 0.10) * rng.uniform(0.3, 1.6, (count, 1))
    colours = hair_colour(
        brush.look, shade, shade * 0, rng.uniform(0, 0.8, (count, 1)) * np.ones_like(s)
    )
    for line, colour in zip(lines, colours, strict=True):
        brush.hair(line[..., :2], np.full(STEPS, 0.7), colour, 0.8)


def _curl(rng: Any, at: NDArray[Any], size: float) -> NDArray[np.float64]:
    """A curl of short hair about ``at``, (7, 2)."""
    start, turn = rng.uniform(0, 6.28), rng.choice((-1, 1)) * rng.uniform(2.0, 4.0)
    angle = start + turn * np.linspace(0, 1, 7)
    r = size * rng.uniform(0.6, 1.2) * np.linspace(1.0, 0.65, 7)
    return at + np.stack((np.cos(angle) * r, np.sin(angle) * r), axis=1)


def _bristle(rng: Any, at: NDArray[Any], size: float) -> NDArray[np.float64]:
    """A hair of a short beard, rooted at ``at`` and combed down and outwards, (5, 2)."""
    out = np.clip(at[0] / 60.0, -1.0, 1.0) * np.clip((at[1] - 60) / 60.0, 0.1, 1.0)
    angle = np.arctan2(1.0, 0.7 * out) + rng.normal(0, 0.35)
    bend = angle + rng.normal(0, 0.5) * np.linspace(0, 1, 5)
    steps = np.stack((np.cos(bend), np.sin(bend)), axis=1) * size * rng.uniform(0.6, 1.3) / 4
    return at + np.cumsum(steps, axis=0)


def short(
    brush: Brush, density: Plane, light: Plane, grey: Plane, seed: int, count: int, size: float,
    curly: bool,
) -> None:  # fmt: skip
    """Short hairs where ``density`` (0..1) has them, as bright as ``light`` at their roots.

    ``grey``: 0 for dark hairs, 1 for light ones. ``count`` hairs would fill the whole picture.
    """
    rng = np.random.default_rng(seed)
    canvas, look = brush.canvas, brush.look
    roots = rng.uniform((-100, -135), (100, 135), (round(count * brush.fine), 2))
    px = canvas.pixels(roots).astype(int)
    inside = ((px >= 0) & (px < (canvas.width, canvas.height))).all(axis=1)
    roots, px = roots[inside], px[inside]
    keep = rng.uniform(0, 1, len(px)) < density[px[:, 1], px[:, 0]]
    roots, px = roots[keep], px[keep]
    at = px[:, 1], px[:, 0]
    shade = light[at] * rng.uniform(0.55, 1.2, len(px))
    # dark hairs first, so that lit ones lie on top
    order = np.argsort(shade + rng.normal(0, 0.2, len(px)))
    tint = np.clip(rng.normal(grey[at], 0.2), 0, 1)
    colours = hair_colour(look, shade * 0.8, np.maximum(shade - 0.75, 0) * 0.3, tint)
    form, width = (_curl, 0.38) if curly else (_bristle, 0.27)
    for i in order:
        line = form(rng, roots[i], size)
        brush.hair(line, np.full(len(line), width), colours[i], 0.75)
