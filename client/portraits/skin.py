"""The colour of skin, lips and stubble, before any light falls on it."""

from __future__ import annotations

import numpy as np

from client.portraits.canvas import Canvas, Colours, Plane, curve, hill, mix, ridge, step
from client.portraits.layout import lip_bottom, lip_top, lower_lid, seam, upper_lid
from client.portraits.looks import Look, linear


def lip_mask(look: Look, u: Plane, y: Plane) -> Plane:
    lips = look.lips
    top, low = lip_top(lips, u), lip_bottom(lips, u)
    soft = 0.9
    mask = step(-soft, soft, y - top) * step(soft, -soft, y - low)
    return mask * step(lips.half + 0.5, lips.half - 1.5, u)


def face_colour(canvas: Canvas, look: Look, u: Plane, y: Plane) -> Colours:
    """Linear albedo (height, width, 3) of the face."""
    skin, blood = look.skin, look.skin.blood
    base = np.empty((*u.shape, 3), np.float32)
    base[:] = linear(skin.colour)
    base *= (1.0 + 0.05 * canvas.noise(look.seed + 1, 17.0) * 0.6)[..., None]
    warm = (
        0.5 * hill(u - 40, 16, y - 36, 13)
        + 0.2 * hill(u, 11, y - 40, 10)
        + 0.1 * hill(u - 12, 7, y - 46, 7)
        + 0.25 * hill(u, 14, y - 112, 8)
        + 0.22 * hill(u, 30, y - 60, 20)
        + 0.25 * hill(u - 70, 8, y - 20, 30)
    )
    warm *= 1.0 + 0.10 * canvas.noise(look.seed + 2, 6.0)
    out = mix(base, linear(skin.flush), np.clip(warm * blood, 0, 1))
    around = 0.30 * hill(u - 30, 15, y - 6, 7) + 0.35 * hill(u - 17, 5, y - 4, 7)
    lid = upper_lid(look.eye, u, look.eye.crease) < y
    around += 0.22 * canvas.blur((lid & (y < 4)).astype(np.float32), 0.8) * hill(u - 31, 13, y, 14)
    around += 0.35 * ridge(y - lower_lid(look.eye, u, 0.8), 1.3) * step(14, 20, u) * step(50, 44, u)
    out = mix(out, linear(skin.dark), np.clip(around * (0.6 + look.eye.tired), 0, 1))
    out = _stubble(canvas, look, u, y, out)
    out = _freckles(canvas, look, out)
    return _lips(canvas, look, u, y, out)


def beard_density(look: Look, u: Plane, y: Plane) -> Plane:
    """Where a beard grows, 0..1."""
    edge = curve(u, ((0, 103), (24, 101), (34, 92), (46, 70), (58, 42), (66, 5), (72, 0)))
    cheeks = step(-5, 7, y - edge + 8)
    low = look.nose.wing[1] + look.nose.wing[2] + 3.5
    lips = look.lips
    lip = lip_top(lips, u) - 1.4
    side = lips.half + 6.5
    moustache = step(low - 1, low + 4, y) * step(0.8, -0.8, y - lip) * step(side, side - 7, u)
    sides = (
        step(side + 3, side - 2, u) * step(lips.half - 1.0, lips.half + 2.5, u) * step(66, 76, y)
    )
    chin = step(0.5, 5.0, y - lip_bottom(lips, u)) * step(34, 24, u) * step(86, 96, y)
    soul = hill(u, 5.0, y - lips.lower - 5.0, 4.0) * 0.8
    return np.clip(np.maximum.reduce([cheeks, moustache, sides, chin, soul]), 0, 1)


def _stubble(canvas: Canvas, look: Look, u: Plane, y: Plane, out: Colours) -> Colours:
    if look.skin.stubble <= 0:
        return out
    share = canvas.blur(beard_density(look, u, y), 2.0) * look.skin.stubble
    share *= 0.8 + 0.2 * canvas.noise(look.seed + 3, 0.9)
    return mix(out, out.mean(axis=(0, 1)) * np.array((0.34, 0.36, 0.42)), np.clip(share, 0, 1))


def _freckles(canvas: Canvas, look: Look, out: Colours) -> Colours:
    rng = np.random.default_rng(look.seed + 4)
    for _ in range(look.skin.freckles):
        x, y = rng.normal(0, 32), rng.normal(32, 9)
        size, share = rng.uniform(0.35, 0.75), rng.uniform(0.1, 0.35)
        px, py = canvas.pixels((x, y))
        r = int(4 * size * canvas.scale) + 2
        box = np.s_[max(int(py) - r, 0) : int(py) + r, max(int(px) - r, 0) : int(px) + r]
        spot = hill(canvas.x[box] - x, size, canvas.y[box] - y, size * 0.85) * share
        out[box] = mix(out[box], linear(look.skin.dark), spot)
    return out


def _lips(canvas: Canvas, look: Look, u: Plane, y: Plane, out: Colours) -> Colours:
    lips = look.lips
    mask = canvas.blur(lip_mask(look, u, y), 0.35)
    line = seam(lips, u)
    folds = canvas.noise(look.seed + 5, 0.9, 7.0) * hill(u, 22, y - line, 9)
    colour = np.empty((*u.shape, 3), np.float32)
    colour[:] = linear(lips.colour)
    colour *= (1.0 + 0.07 * folds)[..., None]
    colour *= np.where(y < line, 0.80, 1.0)[..., None]
    out = mix(out, colour, mask * 0.88)
    inner = ridge(y - line, 0.55) * step(lips.half + 1.5, lips.half - 3.0, u)
    inner += 0.35 * ridge(y - line, 1.6) * step(lips.half, lips.half - 5.0, u)
    return mix(
        out, np.array(linear(lips.colour)) * np.array((0.22, 0.12, 0.12)), np.clip(inner, 0, 0.9)
    )
