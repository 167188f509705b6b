"""Faces kept in files: what the page and ``client identity`` write, or plain points."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from client.errors import PictureError
from kfusion import wire
from kfusion.errors import BadIdentity
from kfusion.faces import Pixels
from kfusion.landmarks import Identity, Points


class Saved(msgspec.Struct, frozen=True):
    """The points of a face; ``photo``: as they lie in its photo, where that shows an open mouth
    and ``points`` have it shut. ``width`` and ``height``: of the upright photo, if known.
    """

    points: wire.Points
    photo: wire.Points | None = None
    width: int = 0
    height: int = 0


def read_saved(path: Path) -> Saved:
    """A JSON file of 68 pairs, or of an object that has them as ``points``.

    Raises :class:`~kfusion.errors.BadIdentity`, naming the file.
    """
    wanted = "wanted JSON: 68 pairs [x, y], or an object with such points"
    try:
        data = msgspec.json.decode(path.read_bytes(), type=Saved | wire.Points)
    except OSError as error:
        raise BadIdentity(f"{path}: cannot be read ({error.strerror}); {wanted}") from None
    except msgspec.DecodeError as error:
        raise BadIdentity(f"{path}: {error}; {wanted}") from None
    return data if isinstance(data, Saved) else Saved(data)


def read_identity(path: Path) -> Points:
    """The face at rest of a file, (68, 2).

    Raises :class:`~kfusion.errors.BadIdentity`, naming the file.
    """
    try:
        return Identity.from_points(read_saved(path).points).points
    except BadIdentity as error:
        raise BadIdentity(f"{path}: {error}") from None


def points_in(photo: Path, pixels: Pixels, path: Path) -> Points:
    """The points (68, 2) in ``photo`` of the face that a file has.

    Raises :class:`~kfusion.errors.BadIdentity`, and :class:`~client.errors.PictureError` where
    they are of another picture.
    """
    known = read_saved(path)
    high, wide = pixels.shape[:2]
    if known.width and known.height and (known.width, known.height) != (wide, high):
        raise PictureError(
            f"{path} has the points of a photo of {known.width} x {known.height} pixels, and "
            f"{photo} has {wide} x {high}; wanted those of this photo"
        )
    return np.array(known.photo or known.points, np.float64)
