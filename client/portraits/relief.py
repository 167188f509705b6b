"""The shape of a head and shoulders as height fields, z towards the viewer, millimetres.

The face is lofted: at each height y a superellipse from the silhouette, which lies deep, to the
profile of the midline. Brows, eye sockets, nose, cheeks and lips are added on top.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from client.portraits.canvas import Plane, curve, higher, hill, ridge, step
from client.portraits.layout import (
    brow_line,
    lip_bottom,
    lip_top,
    lower_lid,
    seam,
    silhouette,
    upper_lid,
)
from client.portraits.looks import Look

# Made for a chin at y = CHIN; other faces stretch below the eyes.
CHIN: Final = 124.0
_PROFILE: Final = (
    (-118.0, -70.0), (-110.0, -46.0), (-95.0, -22.0), (-75.0, -7.0), (-52.0, 0.0), (-30.0, 3.0),
    (-10.0, -1.0), (5.0, -4.0), (30.0, 0.0), (56.0, 3.0), (75.0, 4.0), (97.0, 2.0), (108.0, 3.5),
    (115.0, 0.0), (120.0, -8.0), (124.0, -20.0),
)  # fmt: skip
_BACK: Final = (
    (-118.0, -74.0), (-80.0, -62.0), (-40.0, -56.0), (0.0, -58.0), (40.0, -62.0), (75.0, -56.0),
    (95.0, -42.0), (110.0, -30.0), (124.0, -21.0),
)  # fmt: skip
_NOSE: Final = (
    (-24.0, 0.0), (-14.0, 0.07), (-6.0, 0.18), (2.0, 0.28), (12.0, 0.46), (24.0, 0.7),
    (34.0, 0.9), (41.0, 1.0), (46.0, 0.94), (50.0, 0.7), (53.5, 0.34), (56.5, 0.09), (60.0, 0.0),
)  # fmt: skip
_NOSE_WIDTH: Final = (
    (-14.0, 1.25),
    (0.0, 1.0),
    (20.0, 0.98),
    (34.0, 1.22),
    (42.0, 1.45),
    (50.0, 1.5),
)
EYEBALL: Final = 12.2
"""The eyeball's radius."""
EYE_DEPTH: Final = -21.0
"""z of the eyeball's centre."""


def face(look: Look, u: Plane, y: Plane) -> Plane:
    """The face's surface at (u, y), its eyes closed by lids that follow the eyeballs."""
    inside = np.clip(u / np.maximum(silhouette(look, y), 0.5), 0.0, 0.9995)
    v = np.where(y > 0, y * (CHIN / look.silhouette[-1][0]), y)
    back = curve(v, _BACK)
    z = back + (curve(v, _PROFILE) - back) * (1.0 - inside**2.2) ** 0.5
    z -= 5.0 * np.maximum(u - 0.99 * silhouette(look, y), 0.0)  # and on, around the edge
    free = step(1.0, 0.5, inside)
    z = z + _planes(look, u, y) * free
    z = _lids(look, u, y, z)
    z = _nose(look, u, y, z)
    return (z + _lips(look, u, y) + _lines(look, u, y) * free).astype(np.float32)


def _planes(look: Look, u: Plane, y: Plane) -> Plane:
    """Brow ridge, eye sockets, cheeks, the round of the mouth, chin."""
    brow = brow_line(look.brow, u) + 3.0
    z = 3.2 * ridge(y - brow, 6.5) * step(64, 40, u) * step(2, 14, u)
    z += 0.8 * hill(u, 11, y + 24, 10)  # between the brows
    z -= 8.5 * hill(u - 29, 14, y - 1, 10)  # sockets
    z -= 3.2 * hill(u - 14, 5.5, y + 4, 9)
    z -= 3.0 * hill(u - 66, 12, y + 28, 22)  # temples
    z += 5.0 * hill(u - 43, 15, y - 30, 12)  # cheekbones
    z += 3.0 * hill(u - 30, 12, y - 44, 13)  # the apple of the cheek
    z -= 3.5 * hill(u - 47, 11, y - 72, 17)  # below the cheekbone
    z += 5.0 * hill(u, 23, y - look.lips.seam, 15)  # teeth behind the lips
    z -= 1.3 * hill(u - look.lips.half - 8, 5, y - look.lips.corner - 4, 8)  # corners of the mouth
    z += 4.0 * hill(u, 14, y - look.silhouette[-1][0] + 14, 9)  # chin
    z -= 2.6 * hill(u, 15, y - look.lips.lower - 5.0, 4.5)
    return z.astype(np.float32)


def _lids(look: Look, u: Plane, y: Plane, z: Plane) -> Plane:
    eye = look.eye
    r = np.hypot(u - eye.iris[0], y - eye.iris[1] - 0.4)
    lid = EYEBALL + 1.3
    ball = EYE_DEPTH + np.sqrt(np.maximum(lid**2 - r**2, 0.0)) - 4.0 * np.maximum(r - lid, 0.0)
    z = higher(z, ball, 3.5)
    over = step(14.0, 20.0, u) * step(49.0, 42.0, u)
    crease = upper_lid(eye, u, eye.crease) - 0.6
    z -= 1.5 * ridge(y - crease, 0.9) * over
    z += 1.6 * ridge(y - crease + 3.2, 2.6) * over * step(20, 34, u)
    pouch = lower_lid(eye, u, 4.5)
    z -= look.eye.tired * 1.6 * ridge(y - pouch - 1.5, 1.4) * over * step(46, 30, u)
    return (z + look.eye.tired * 1.2 * ridge(y - pouch + 2.0, 2.2) * over).astype(np.float32)


def _nose(look: Look, u: Plane, y: Plane, z: Plane) -> Plane:
    nose = look.nose
    v = y * 42.0 / nose.tip[0]
    width = nose.bridge * curve(v, _NOSE_WIDTH)
    bridge = nose.height * curve(v, _NOSE) * np.exp(-((u / width) ** 2.3) * 0.62)
    out = z + bridge
    tip_y, radius = nose.tip
    out += 2.3 * hill(u, radius * 0.55, y - tip_y, radius * 0.55)
    wx, wy, wr = nose.wing
    r = np.hypot(u - wx, (y - wy) / 1.12) / (wr * 1.08)
    out += wr * 0.72 * np.exp(-(r**3.2))
    # the crease behind the wing, and the hollow of the upper lip
    round_wing = np.hypot((u - wx) / 1.0, y - wy) - wr - 0.6
    out -= 0.9 * ridge(round_wing, 1.2) * step(wx - 2, wx + 3, u) * step(wy + 6, wy, y)
    low = wy + wr
    groove = step(low, low + 9, y) * step(look.lips.bow + 1, look.lips.bow - 3, y)
    out += groove * (0.5 * ridge(u - look.lips.bow_x, 2.4) - 0.8 * ridge(u, 2.6))
    return out.astype(np.float32)


def _lips(look: Look, u: Plane, y: Plane) -> Plane:
    lips = look.lips
    top, line, low = lip_top(lips, u), seam(lips, u), lip_bottom(lips, u)
    across = np.clip(1.0 - (u / lips.half) ** 2, 0.0, 1.0) ** 0.6
    t = np.clip((y - top) / np.maximum(line - top, 0.3), 0.0, 1.0)
    z = lips.fullness * 0.75 * across * np.sin(np.pi * t**1.25 * 0.94)
    z += 0.9 * hill(u, 3.4, y - line + 2.2, 1.8)  # the bead of the upper lip
    t = np.clip((y - line) / np.maximum(low - line, 0.3), 0.0, 1.0)
    z += lips.fullness * across * np.sin(np.pi * t**0.8)
    z -= 2.0 * ridge(y - line, 0.75) * step(lips.half + 2.0, lips.half - 3.0, u)
    z -= 1.0 * hill(u - lips.half - 1.0, 2.0, y - lips.corner, 2.4)
    return (z + 0.5 * ridge(y - top, 0.8) * across).astype(np.float32)


def _lines(look: Look, u: Plane, y: Plane) -> Plane:
    """The fold from nose to mouth, and the lines that years draw."""
    age = look.skin.lines
    wx, wy, _ = look.nose.wing
    fold = curve(
        y, ((wy - 6, wx + 6.0), (wy + 8, wx + 12.5), (wy + 32, wx + 18.5), (wy + 48, wx + 20))
    )
    along = step(wy - 6, wy + 6, y) * step(wy + 44, wy + 26, y)
    z = -(0.5 + 1.5 * age) * ridge(u - fold, 1.5) * along
    z += (0.7 + 1.5 * age) * ridge(u - fold - 5.0, 4.0) * along
    if age <= 0:
        return z.astype(np.float32)
    for k, (y0, depth) in enumerate(((-42.0, 0.8), (-53.0, 1.0), (-64.0, 0.7))):
        line = y0 - 2.5 * np.cos(u / 13.0 + 0.4 * k) + 1.2 * np.sin(u / 7.0 + k)
        z -= age * depth * ridge(y - line, 0.9) * step(52, 26, u + 4 * k)
    for slope, y0 in ((-0.42, -4.0), (-0.02, 1.0), (0.42, 6.0)):
        line = y0 + slope * (u - 48.0)
        z -= age * 0.7 * ridge(y - line, 0.7) * step(47, 51, u) * step(64, 56, u)
    z -= age * 0.9 * ridge(u - 5.0 - 0.05 * y, 0.9) * step(-38, -30, y) * step(-12, -20, y)
    return z.astype(np.float32)


def body_width(look: Look, y: Plane) -> Plane:
    n, s = look.neck, look.shoulders
    return curve(
        y,
        (
            (60.0, n + 2), (100.0, n), (124.0, n), (138.0, n + 2.5), (149.0, n + 10),
            (158.0, n + 26), (168.0, n + 56), (180.0, s * 0.83), (196.0, s * 0.95), (222.0, s),
        ),
    )  # fmt: skip


def body(look: Look, u: Plane, y: Plane) -> Plane:
    """Neck and shoulders."""
    width = body_width(look, y)
    inside = np.clip(u / width, 0.0, 0.9995)
    front = curve(y, ((80, -46), (115, -42), (150, -36), (185, -26), (222, -10)))
    back = curve(y, ((80, -90), (140, -92), (165, -78), (222, -70)))
    power = curve(y, ((130, 2.1), (165, 1.7), (222, 2.4)))
    z = back + (front - back) * (1.0 - inside**power) ** 0.5
    z -= 2.0 * np.maximum(u - 0.99 * width, 0.0)
    cord = curve(y, ((95, look.neck * 0.86), (140, 25), (176, 12), (186, 10)))
    z += 3.2 * ridge(u - cord, 5.0) * step(185, 170, y) * step(96, 120, y)
    z += 1.8 * hill(u, 7, y - 138, 12)  # the larynx
    z -= 4.5 * hill(u, 8, y - 184, 9)
    bone = 188.0 - 0.08 * np.maximum(u - 12, 0) - 3.0 * np.sin(u / 26.0)
    z += 3.0 * ridge(y - bone, 3.6) * step(8, 20, u) * step(125, 90, u)
    return (z - 3.0 * ridge(y - bone + 12, 7.0) * step(24, 45, u)).astype(np.float32)


def ear(look: Look, u: Plane, y: Plane) -> tuple[Plane, Plane]:
    """The ear's surface, and where it is (0..1)."""
    middle, half_x, half_y = float(silhouette(look, 18.0)) + 4.0, 11.0, 31.0
    a = (u - middle - (20.0 - y) * 0.10) / (half_x * curve(y, ((-15, 1.1), (20, 1), (50, 0.7))))
    b = (y - 20.0) / half_y
    r = np.hypot(a, b)
    z = -64.0 - 8.0 * np.clip(r, 0, 1) ** 2 + 5.0 * ridge(r - 0.82, 0.12)
    z -= 8.0 * hill(a + 0.2, 0.3, b - 0.02, 0.36)
    z += 2.0 * hill(a + 0.1, 0.5, b - 0.72, 0.2)
    return z.astype(np.float32), step(1.02, 0.97, r)
