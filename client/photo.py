"""A photo as a server takes it: small enough, and upright without what else its file tells."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kfusion.errors import BadMessage, WireError
from kfusion.faces.pictures import MOST_BYTES, MOST_PIXELS, in_rgb, opened, turned

if TYPE_CHECKING:
    from PIL import Image

MOST_FILE: Final = 200_000_000  # bytes
QUALITY: Final = 92  # of JPEG
TRIES: Final = 12


@dataclass(frozen=True)
class Photo:
    """``data``: a JPEG or PNG of ``sent`` (width, height) pixels; ``size``: that of the photo
    itself, held upright. ``changed``: what was done to it, in words, or nothing.
    """

    data: bytes
    size: tuple[int, int]
    sent: tuple[int, int]
    changed: str = ""

    def own(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (68, 2) of what was sent -> in pixels of the photo."""
        return np.asarray(points, np.float64) * np.divide(self.size, self.sent)


def prepared(path: Path) -> Photo:
    """The photo in a file of any kind that Pillow reads.

    One that the server takes and that tells nothing else goes as it is; any other is turned
    upright, made smaller where it must be, and written anew without its EXIF data, which may say
    when and where it was taken.

    Raises :class:`~kfusion.errors.BadMessage` and ``TooBig``, naming the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_FILE + 1)
    except OSError as error:
        raise BadMessage(f"{path}: cannot be read ({error.strerror}); wanted a photo") from None
    try:
        if len(data) > MOST_FILE:
            raise BadMessage(f"over {MOST_FILE // 1_000_000} MB; wanted a photo")
        with opened(data) as image:
            return _prepared(data, image)
    except WireError as error:
        raise type(error)(f"{path}: {error}") from None


def _prepared(data: bytes, image: Image.Image) -> Photo:
    upright = turned(image)
    size, exif = upright.size, _has_exif(image)
    small = len(data) <= MOST_BYTES and size[0] * size[1] <= MOST_PIXELS
    if small and not exif and image.format in ("JPEG", "PNG"):
        return Photo(data, size, size)
    encoded, sent = _encoded(in_rgb(upright))
    changes: list[str] = []
    if sent != size:
        changes.append(f"as {sent[0]} x {sent[1]} pixels instead of {size[0]} x {size[1]}")
    if exif:
        changes.append("upright, without its EXIF data")
    if not changes:
        changes.append(f"as a JPEG of {len(encoded) // 1000} KB")
    return Photo(encoded, size, sent, ", ".join(changes))


def _has_exif(image: Image.Image) -> bool:
    try:
        return bool(image.getexif()) or "xmp" in image.info
    except Exception:  # what cannot be read may tell something all the same
        return True


def _encoded(picture: Image.Image) -> tuple[bytes, tuple[int, int]]:
    """A JPEG within the limits, and its size."""
    from PIL import Image

    width, height = picture.size
    scale = min(1.0, (MOST_PIXELS / (width * height)) ** 0.5)
    for _ in range(TRIES):
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        small: Any = picture if size == picture.size else picture.resize(size, Image.Resampling.BOX)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=QUALITY)
        data = out.getvalue()
        if len(data) <= MOST_BYTES:
            return data, size
        scale *= min(0.9, (MOST_BYTES / len(data)) ** 0.5)
    raise BadMessage(f"it stays over {MOST_BYTES // 1000} KB; wanted a photo")
