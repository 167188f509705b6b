"""Who is painted: everything that tells one portrait from another. Lengths in millimetres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from client.portraits.canvas import Table

Colour = str
"""``rrggbb``, as in CSS."""


def linear(code: Colour) -> tuple[float, float, float]:
    """Linear red, green and blue of a colour, each 0..1."""
    r, g, b = (((int(code[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (0, 2, 4))
    return r, g, b


@dataclass(frozen=True)
class Eye:
    inner: tuple[float, float] = (16.3, 2.4)
    outer: tuple[float, float] = (46.0, -0.9)
    upper: float = 7.7
    lower: float = 4.2
    iris: tuple[float, float] = (31.0, -1.6)
    radius: float = 6.8
    colour: Colour = "4c6258"
    inner_colour: Colour = "7a6238"
    crease: float = 4.2
    lashes: float = 5.2
    tired: float = 0.12


@dataclass(frozen=True)
class Brow:
    line: Table = ((12.5, -19.8), (22.0, -22.8), (34.0, -25.2), (44.0, -25.6), (60.0, -20.0))
    thickness: float = 5.6
    hairs: int = 520
    colour: Colour = "533626"


@dataclass(frozen=True)
class Nose:
    height: float = 18.0
    bridge: float = 7.2
    tip: tuple[float, float] = (38.5, 9.8)
    wing: tuple[float, float, float] = (10.6, 44.0, 5.5)


@dataclass(frozen=True)
class Lips:
    half: float = 25.2
    corner: float = 73.9
    seam: float = 77.8
    bow: float = 69.6
    bow_x: float = 6.0
    dip: float = 71.4
    lower: float = 90.0
    fullness: float = 3.9
    colour: Colour = "b5605a"


@dataclass(frozen=True)
class Skin:
    colour: Colour = "e3b394"
    flush: Colour = "cf7a62"
    dark: Colour = "8f655c"
    blood: float = 1.0
    sheen: float = 0.42
    roughness: float = 0.43
    freckles: int = 0
    stubble: float = 0.0
    lines: float = 0.0


@dataclass(frozen=True)
class Look:
    """One portrait. ``silhouette``: the face's half-width by y, down to the chin."""

    name: str
    label: str
    seed: int
    scale: float = 1.75
    silhouette: Table = (
        (-116.0, 0.0), (-112.0, 28.0), (-100.0, 48.0), (-80.0, 61.0), (-55.0, 68.0),
        (-25.0, 70.0), (0.0, 69.2), (20.0, 67.6), (38.0, 64.8), (57.0, 59.4), (71.0, 52.8),
        (84.0, 44.4), (96.0, 34.8), (106.0, 25.2), (113.0, 17.2), (117.0, 10.6), (119.5, 0.0),
    )  # fmt: skip
    eye: Eye = Eye()
    brow: Brow = Brow()
    nose: Nose = Nose()
    lips: Lips = Lips()
    skin: Skin = Skin()
    neck: float = 45.0
    shoulders: float = 168.0
    rise: float = 10.0
    collar: float = 1.0
    hair: Literal["long", "short"] = "long"
    hair_dark: Colour = "2b130c"
    hair_light: Colour = "96522c"
    cloth: Colour = "2f5a58"
    back: tuple[Colour, Colour] = ("a9b3ab", "5e6b68")


MIRA: Final = Look("mira", "Mira", seed=7, skin=Skin(freckles=170))
JOEL: Final = Look(
    "joel",
    "Joel",
    seed=19,
    scale=1.74,
    silhouette=(
        (-116.0, 0.0), (-112.0, 29.0), (-100.0, 50.0), (-80.0, 63.5), (-55.0, 70.5),
        (-25.0, 72.5), (0.0, 72.0), (20.0, 71.2), (40.0, 69.8), (60.0, 67.0), (75.0, 62.5),
        (88.0, 55.5), (100.0, 46.0), (110.0, 35.0), (117.0, 24.5), (122.0, 14.0), (125.0, 0.0),
    ),
    eye=Eye(
        inner=(17.0, 2.2), outer=(45.6, -0.2), upper=6.9, lower=3.5, iris=(31.2, -1.3),
        radius=6.6, colour="4a2a17", inner_colour="6d4424", crease=3.6, lashes=3.2,
        tired=0.6,
    ),
    brow=Brow(
        line=((11.5, -17.5), (22.0, -20.6), (34.0, -23.0), (46.0, -22.8), (61.0, -17.0)),
        thickness=7.4, hairs=560, colour="2c2523",
    ),
    nose=Nose(height=18.5, bridge=9.0, tip=(42.0, 12.5), wing=(14.2, 47.5, 7.4)),
    lips=Lips(
        half=27.0, corner=79.6, seam=81.2, bow=72.2, bow_x=6.6, dip=73.8, lower=94.6,
        fullness=4.2, colour="8b4f4b",
    ),
    skin=Skin(
        colour="80523a", flush="8f4d38", dark="3c2219", blood=0.7,
        sheen=0.62, roughness=0.44, stubble=0.5, lines=0.6,
    ),
    neck=57.0,
    shoulders=190.0,
    rise=16.0,
    collar=0.86,
    hair="short",
    hair_dark="1c1918",
    hair_light="a9a39c",
    cloth="36465c",
    back=("a59a8c", "4d4a4c"),
)  # fmt: skip
LOOKS: Final = (MIRA, JOEL)
