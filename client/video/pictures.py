"""Pictures of faces: opened within limits, and the portraits that come with the page."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from client.errors import PictureError
from kfusion import wire
from kfusion.errors import BadIdentity, WireError
from kfusion.faces import Pixels
from kfusion.faces.pictures import in_rgb, opened, turned
from kfusion.landmarks import Identity, Points

PORTRAITS: Final = Path(__file__).parents[1] / "viewer" / "portraits" / "portraits.json"
FORMATS: Final = ("JPEG", "PNG", "WEBP")
MOST_PIXELS: Final = 64_000_000
WANTED: Final = f"wanted a JPEG, PNG or WebP of at most {MOST_PIXELS // 1_000_000} megapixels"


def open_picture(path: str | Path) -> Pixels:
    """A picture as it is looked at, (H, W, 3): upright by its EXIF, on white, the first of several.

    Its size is read before anything is decoded. Raises :class:`~client.errors.PictureError`, and
    :class:`~kfusion.errors.MissingExtra` without Pillow.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); {WANTED}") from None
    try:
        with opened(data, FORMATS, most=MOST_PIXELS) as image:
            return np.array(in_rgb(turned(image)))
    except WireError as error:
        raise PictureError(f"{path}: {error}") from None


class Portrait(msgspec.Struct, frozen=True):
    """A picture that comes with the page; ``points``: 68 pairs in its pixels."""

    name: str
    label: str
    image: str
    points: wire.Points


def portrait(name: str, listed: Path = PORTRAITS) -> tuple[Pixels, Points]:
    """The portrait of that name, and the points (68, 2) of its face in its pixels.

    Raises :class:`~client.errors.PictureError` where there is none.
    """
    try:
        known = msgspec.json.decode(listed.read_bytes(), type=list[Portrait])
    except OSError:
        raise PictureError(
            f"no portrait {name!r}: this copy of KFusion comes without portraits ({listed} is not "
            "there); wanted --photo and --identity"
        ) from None
    except msgspec.DecodeError as error:
        raise PictureError(f"{listed}: {error}; wanted a list of portraits") from None
    for one in known:
        if one.name == name:
            try:
                points = Identity.from_points(one.points).points
            except BadIdentity as error:
                raise PictureError(f"{listed}: {name}: {error}") from None
            return open_picture(listed.parent / one.image), points
    names = ", ".join(one.name for one in known)
    raise PictureError(f"no portrait {name!r}; wanted one of {names}")
