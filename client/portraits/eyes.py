"""The eyes: white, iris, pupil, the window's light in them."""

from __future__ import annotations

import numpy as np

from client.portraits.canvas import Colours, Plane, hill, mix, step
from client.portraits.layout import lower_lid, upper_lid
from client.portraits.light import FILL_COLOUR, KEY, KEY_COLOUR, SKY
from client.portraits.looks import Look, linear
from client.portraits.relief import EYEBALL

_WHITE = linear("d2c8c1")
_FLESH = linear("b8756a")


def aperture(look: Look, u: Plane, y: Plane) -> Plane:
    """1 between the lids, 0 outside."""
    eye = look.eye
    soft = 0.35
    inside = step(-soft, soft, y - upper_lid(eye, u)) * step(soft, -soft, y - lower_lid(eye, u))
    return (
        inside
        * step(eye.inner[0], eye.inner[0] + 0.5, u)
        * step(eye.outer[0], eye.outer[0] - 0.5, u)
    )


def eyes_lit(look: Look, x: Plane, u: Plane, y: Plane, key: Plane) -> Colours:
    """Both eyes as if there were no lids, in the light that ``key`` lets through."""
    eye = look.eye
    out_x = u - eye.iris[0]
    ex, ey = np.sign(x) * out_x, y - eye.iris[1]
    r = np.hypot(ex, ey)
    colour = np.empty((*u.shape, 3), np.float32)
    colour[:] = _WHITE
    tired = 0.25 + 0.3 * look.eye.tired
    pink = tired * step(5.0, 15.0, np.abs(out_x)) + 0.95 * hill(
        u - eye.inner[0] - 1.6, 1.5, y - 2.6, 1.6
    )
    colour = mix(colour, _FLESH, np.clip(pink, 0, 1))
    iris = _iris(look, ex, ey, r / eye.radius)
    colour = mix(colour, iris, step(eye.radius + 0.35, eye.radius - 0.35, r))

    depth = np.sqrt(np.maximum(EYEBALL**2 - np.minimum(r, EYEBALL * 0.98) ** 2, 0.0))
    normal = np.stack((ex, ey, depth), axis=-1) / EYEBALL
    direct = np.clip((normal @ KEY + 0.35) / 1.35, 0, 1) * (0.25 + 0.75 * key)
    lid_shade = 0.40 + 0.60 * step(-0.2, 3.6, y - upper_lid(eye, u))
    lid_shade *= 0.75 + 0.25 * step(-0.2, 1.6, lower_lid(eye, u) - y)
    corners = step(0.0, 6.0, u - eye.inner[0]) * step(0.0, 7.0, eye.outer[0] - u)
    lid_shade *= 0.62 + 0.38 * corners
    light = KEY_COLOUR * direct[..., None] * 0.75 + (SKY * 0.85 + FILL_COLOUR * 0.5)
    out = colour * light * lid_shade[..., None]

    spark = 2.6 * np.clip(1.25 * hill(ex + 2.1, 0.85, ey + 2.3, 1.0) ** 1.0 - 0.15, 0, 1)
    spark += 0.20 * hill(ex - 2.3, 1.3, ey - 2.4, 0.8)
    wet = 0.14 * hill(y - lower_lid(eye, u) + 0.5, 0.35, ex + 1.0, 5.0)
    return (out + (spark + wet)[..., None] * np.array((1.0, 0.98, 0.94))).astype(np.float32)


def _iris(look: Look, ex: Plane, ey: Plane, r: Plane) -> Colours:
    eye = look.eye
    angle = np.arctan2(ey, ex)
    rng = np.random.default_rng(look.seed + 11)
    fibres = np.zeros_like(r)
    for k in (7, 13, 19, 29, 41, 57):
        fibres += np.sin(k * angle + rng.uniform(0, 6.28) + 1.5 * np.sin(4 * r + k)) / 6 * 1.5
    colour = np.empty((*r.shape, 3), np.float32)
    colour[:] = linear(eye.colour)
    centre = step(0.78, 0.36, r + 0.08 * fibres)
    colour = mix(colour, linear(eye.inner_colour), centre * 0.85)
    glow = 1.0 + 0.75 * np.clip((ex * 0.5 + ey * 0.75) / eye.radius, -0.5, 1.0)
    colour *= ((1.0 + 0.32 * fibres * step(0.3, 0.6, r)) * glow)[..., None]
    colour *= (1.0 - 0.8 * step(0.74, 1.0, r))[..., None]
    return mix(colour, (0.006, 0.005, 0.005), step(0.40, 0.32, r))
