"""The whole portrait: background, shoulders, face, eyes, hair, and the last touches."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from client.portraits import hair, light, relief, skin
from client.portraits.canvas import Canvas, Colours, Plane, curve, hill, mix, step
from client.portraits.eyes import aperture, eyes_lit
from client.portraits.finish import painted
from client.portraits.layout import silhouette, unwarped
from client.portraits.light import CLOTH, Surface
from client.portraits.looks import Look, linear
from client.portraits.strokes import Brush, encoded

SUPERSAMPLING: Final = 3


def portrait(look: Look, size: float = 1.0) -> Image.Image:
    """The portrait, ``size`` times WIDTH x HEIGHT pixels."""
    canvas = Canvas.of(look.scale, size * SUPERSAMPLING)
    x, y = unwarped(look, canvas.x, canvas.y)
    u = np.abs(x)
    picture = Image.fromarray(encoded(_background(canvas, look)))
    brush = Brush(picture, canvas, look, min(1.0, size))
    _wall(brush)
    if look.hair == "long":
        hair.behind(brush, look.seed + 30)
    _flesh(canvas, look, picture, x, u, y)
    if look.hair == "short":
        _crop(brush, u, y)
        _beard(brush, u, y)
    brush.brows()
    brush.lashes()
    if look.hair == "long":
        hair.curtain(brush, hair.RIGHT, look.seed + 31, 4200, 1.0)
        hair.curtain(brush, hair.LEFT, look.seed + 32, 4800, -1.0)
    final = Canvas.of(look.scale, size)
    return painted(final, look, picture.resize((final.width, final.height), Image.Resampling.BOX))


def _background(canvas: Canvas, look: Look) -> Colours:
    """A wall, lighter on the shaded side of the face, with the marks of a broad brush."""
    x, y = canvas.x, canvas.y
    near, far = np.array(linear(look.back[0])), np.array(linear(look.back[1]))
    glow = hill(x - 60, 120, y + 10, 150)
    strokes = canvas.noise(look.seed + 41, 26.0) + 0.6 * canvas.noise(look.seed + 42, 9.0, 1.6)
    share = np.clip(0.08 + 0.85 * glow + 0.07 * strokes, 0, 1)
    return mix(np.broadcast_to(far, (*x.shape, 3)), near, share)


def _wall(brush: Brush) -> None:
    """Broad strokes of a dry brush on the background, each of many bristles."""
    rng = np.random.default_rng(brush.look.seed + 43)
    canvas = brush.canvas
    ground = np.asarray(brush.picture)
    t = np.linspace(-0.5, 0.5, 9)
    for _ in range(round(420 * brush.fine)):
        at = rng.uniform((-150, -155), (150, 220))
        angle = np.arctan2(at[1] - 20, at[0]) + np.pi / 2 + rng.normal(0, 0.5)
        way = np.array((np.cos(angle), np.sin(angle)))
        side = np.array((-way[1], way[0]))
        length, width, bow = rng.uniform(25, 60), rng.uniform(5, 12), rng.normal(0, 6)
        px = np.clip(canvas.pixels(at).astype(int), 0, (canvas.width - 1, canvas.height - 1))
        colour = ground[px[1], px[0]] * rng.normal(1.0, 0.035)
        for b in np.linspace(-0.5, 0.5, 14):
            ends = t * length * rng.uniform(0.8, 1.0)
            line = at + ends[:, None] * way + (b * width + bow * 4 * t**2)[:, None] * side
            tone = np.clip(colour * rng.normal(1.0, 0.025), 0, 255)
            brush.hair(line, np.full(9, width / 12), tone, 0.22)


def _over(picture: Image.Image, colours: Colours, alpha: Plane) -> None:
    layer = Image.fromarray(encoded(colours))
    picture.paste(layer, mask=Image.fromarray((alpha * 255 + 0.5).astype(np.uint8)))


def _hair_shade(canvas: Canvas, look: Look) -> Plane:
    """How much of the light the hair leaves, 0..1."""
    if look.hair != "long":
        return np.ones_like(canvas.x)
    covered = hair.mask(canvas, [hair.outline(hair.LEFT), hair.outline(hair.RIGHT)])
    reach = round(5.0 * canvas.scale)
    cast = np.roll(covered, (reach, round(reach * 0.7)), axis=(0, 1))
    return 1.0 - 0.7 * np.clip(canvas.blur(cast, 3.0) + 0.5 * canvas.blur(covered, 6.0), 0, 1)


def _flesh(canvas: Canvas, look: Look, picture: Image.Image, x: Plane, u: Plane, y: Plane) -> None:
    face_z, body_z = relief.face(look, u, y), relief.body(look, u, y + look.rise)
    on_face = canvas.blur((u < silhouette(look, y)).astype(np.float32), 0.3)
    on_body = canvas.blur(
        ((u < relief.body_width(look, y + look.rise)) & (y > 20)).astype(np.float32), 0.3
    )
    whole = np.where(on_face > 0.5, face_z, np.where(on_body > 0.5, body_z, -95.0))
    key = light.shadow(canvas, whole) * _hair_shade(canvas, look)
    open_ = light.occlusion(canvas, whole)
    if look.hair == "short":
        _ears(canvas, look, picture, u, y)

    _bust(canvas, look, picture, on_body, u, y, body_z, key, open_)
    seen = _face(canvas, look, u, y, face_z, key)
    eyes = eyes_lit(look, x, u, y, canvas.blur(key * _nostrils(look, u, y, 0.65), 2.0))
    _over(picture, mix(seen, eyes, aperture(look, u, y)), on_face)


def _skin(canvas: Canvas, look: Look) -> tuple[Surface, Plane]:
    """How skin shines, and its fine relief."""
    pores = 0.028 * canvas.noise(look.seed + 51, 0.55) + 0.035 * canvas.noise(look.seed + 52, 1.3)
    return Surface(sheen=look.skin.sheen, roughness=look.skin.roughness), pores


def _bust(
    canvas: Canvas, look: Look, picture: Image.Image, on: Plane, u: Plane, y: Plane, z: Plane,
    key: Plane, open_: Plane,
) -> None:  # fmt: skip
    """Neck, shoulders and what they wear."""
    surface, pores = _skin(canvas, look)
    neck = np.empty((*u.shape, 3), np.float32)
    neck[:] = linear(look.skin.colour)
    neck = mix(neck, linear(look.skin.flush), 0.12 + 0.1 * canvas.noise(look.seed + 6, 14.0))
    under_chin = 0.8 + 0.2 * step(100, 165, y + look.rise)
    body = light.lit(canvas, z, neck, open_ * under_chin, 0.1 + 0.9 * key, surface, pores, 0.5)
    _over(picture, body, on)
    _clothes(canvas, look, picture, u, y, z, key, open_)


def _nostrils(look: Look, u: Plane, y: Plane, depth: float) -> Plane:
    """1, less by ``depth`` in the nostrils."""
    wx, wy, wr = look.nose.wing
    hole = hill(u - wx * 0.52, 2.3, y - wy - wr + 0.4, 1.25)
    return 1.0 - depth * np.clip(hole * 1.25, 0, 1)


def _face(canvas: Canvas, look: Look, u: Plane, y: Plane, z: Plane, key: Plane) -> Colours:
    """The face in its light, eyes closed."""
    surface, pores = _skin(canvas, look)
    colour = skin.face_colour(canvas, look, u, y)
    closed = light.occlusion(canvas, z) * _nostrils(look, u, y, 0.7)
    gloss = 0.75 + 0.7 * hill(u, 9, y - 40, 9) + 0.5 * hill(u, 30, y + 55, 18)
    gloss += 0.5 * hill(u - 40, 12, y - 24, 9) + 0.9 * skin.lip_mask(look, u, y)
    key = key * _nostrils(look, u, y, 0.65)
    return light.lit(canvas, z, colour, closed, key, surface, pores, gloss)


def _ears(canvas: Canvas, look: Look, picture: Image.Image, u: Plane, y: Plane) -> None:
    z, on = relief.ear(look, u, y)
    colour = np.empty((*u.shape, 3), np.float32)
    colour[:] = linear(look.skin.colour)
    colour = mix(colour, linear(look.skin.flush), np.full_like(u, 0.5 * look.skin.blood))
    open_ = light.occlusion(canvas, z)
    surface = Surface(sheen=look.skin.sheen, roughness=look.skin.roughness)
    key = np.full_like(u, 0.75) * step(-0.3, 0.6, -canvas.x / 60)
    _over(
        picture, light.lit(canvas, z, colour, open_, key, surface, 0.0, 0.6), canvas.blur(on, 0.3)
    )


def _crop(brush: Brush, u: Plane, y: Plane) -> None:
    """Hair cut close, greying from the temples."""
    canvas, look = brush.canvas, brush.look
    edge = curve(u, ((0, -80), (22, -81), (40, -76), (52, -62), (60, -44), (66, -26), (71, -4)))
    edge = edge + 1.2 * canvas.noise(look.seed + 71, 5.0)
    width = silhouette(look, np.maximum(y, -60)) + 5.0 + 1.2 * canvas.noise(look.seed + 75, 8.0)
    out = (u / width) ** 2 + (np.minimum(y + 60, 0) / 63.0) ** 2
    head = step(1.04, 0.95, out) * step(3.0, -7.0, y - edge)
    dome = 62.0 * np.sqrt(np.clip(1.04 - out, 0.0, None)) + 1.6 * canvas.noise(look.seed + 72, 3.5)
    n = light.normals(canvas, canvas.blur(dome, 1.2))
    shine = np.clip(0.22 + 0.7 * (n @ light.KEY), 0.05, None)
    under = np.empty((*u.shape, 3), np.float32)
    under[:] = np.array(linear(look.hair_dark)) * 1.2
    _over(brush.picture, under * shine[..., None], canvas.blur(head, 1.5) * 0.88)
    temples = 0.22 + 0.35 * step(-80, -20, y) + 0.08 * canvas.noise(look.seed + 76, 9.0)
    hair.short(brush, head, shine, temples, look.seed + 73, 90000, 1.15, True)


def _beard(brush: Brush, u: Plane, y: Plane) -> None:
    """A short beard, greyest at the chin."""
    canvas, look = brush.canvas, brush.look
    chin = look.silhouette[-1][0]
    beard = skin.beard_density(look, u, y) * ((u < silhouette(look, y) + 1.5) & (y < chin + 0.5))
    z = canvas.blur(relief.face(look, u, y), 2.0)
    shade = np.clip(0.2 + 0.7 * (light.normals(canvas, z) @ light.KEY), 0.05, 1)
    pepper = 0.42 + 0.4 * hill(u, 20, y - chin, 16) + 0.1 * canvas.noise(look.seed + 77, 7.0)
    hair.short(brush, canvas.blur(beard, 1.2), shade, pepper, look.seed + 74, 110000, 2.6, False)


def _clothes(
    canvas: Canvas, look: Look, picture: Image.Image, u: Plane, y: Plane, z: Plane, key: Plane,
    open_: Plane,
) -> None:  # fmt: skip
    """A plain jumper with a round neck."""
    neckline = -look.rise + curve(
        u / look.collar, ((0, 204), (20, 201.5), (40, 193), (56, 178), (66, 160), (74, 150))
    )
    over = canvas.blur(
        ((y > neckline) & (u < relief.body_width(look, y + look.rise) + 1.5)).astype(np.float32),
        0.3,
    )
    rib = y - neckline
    cloth = z + 2.5 * step(-0.5, 2.0, rib) - 1.0 * hill(rib - 9, 0.8, u * 0, 1)
    cloth = (
        cloth + 1.6 * canvas.noise(look.seed + 61, 16.0) + 0.10 * canvas.noise(look.seed + 62, 0.8)
    )
    colour = np.empty((*u.shape, 3), np.float32)
    colour[:] = linear(look.cloth)
    colour *= (1.0 + 0.07 * canvas.noise(look.seed + 63, 2.0))[..., None]
    _over(picture, light.lit(canvas, cloth, colour, open_, key, CLOTH), over)
