"""Faces in files: 68 points in JSON, photos, and the portraits that come with the page."""

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from client.errors import PictureError
from kfusion import wire
from kfusion.errors import BadIdentity, WireError
from kfusion.faces import Pixels
from kfusion.faces.decode import exif_transposed, open_image, to_rgb
from kfusion.landmarks import Identity, Points

PORTRAITS: Final = Path(__file__).parent / "viewer" / "portraits" / "portraits.json"
FORMATS: Final = ("JPEG", "PNG", "WEBP")
MAX_PIXELS: Final = 64_000_000


class FaceFile(msgspec.Struct, frozen=True):
    """The points of a face, as the page and ``client identity`` write them.

    ``photo``: the points as they lie in the photo, where its mouth is open and ``points`` have it
    shut. ``width`` and ``height``: of the upright photo, 0 if unknown.
    """

    points: wire.Points
    photo: wire.Points | None = None
    width: int = 0
    height: int = 0


class Portrait(msgspec.Struct, frozen=True):
    """A picture that comes with the page; ``points``: 68 pairs in its pixels."""

    name: str
    label: str
    image: str
    points: wire.Points


def read_face_file(path: Path) -> FaceFile:
    """Reads a JSON file of 68 pairs, or of an object with them. Raises BadIdentity."""
    wanted = "wanted JSON: 68 pairs [x, y], or an object with such points"
    try:
        data = msgspec.json.decode(path.read_bytes(), type=FaceFile | wire.Points)
    except OSError as error:
        raise BadIdentity(f"{path}: cannot be read ({error.strerror}); {wanted}") from None
    except msgspec.DecodeError as error:
        raise BadIdentity(f"{path}: {error}; {wanted}") from None
    return data if isinstance(data, FaceFile) else FaceFile(data)


def read_identity(path: Path) -> Points:
    """The face at rest (68, 2) in a file. Raises BadIdentity, naming the file."""
    try:
        return Identity.from_points(read_face_file(path).points).points
    except BadIdentity as error:
        raise BadIdentity(f"{path}: {error}") from None


def read_photo(photo: Path, path: Path) -> tuple[Pixels, Points]:
    """A photo (H, W, 3), and the points (68, 2) in it that the face file ``path`` has.

    Raises :class:`~kfusion.errors.BadIdentity`, and :class:`~client.errors.PictureError` if the
    points belong to a photo of another size.
    """
    pixels, face = read_picture(photo), read_face_file(path)
    height, width = pixels.shape[:2]
    if face.width and face.height and (face.width, face.height) != (width, height):
        raise PictureError(
            f"{path} has the points of a photo of {face.width} x {face.height} pixels, and "
            f"{photo} has {width} x {height}; wanted those of this photo"
        )
    return pixels, np.array(face.photo or face.points, np.float64)


def read_picture(path: Path) -> Pixels:
    """A picture (H, W, 3) upright by its EXIF, on white; of several in a file, the first.

    Its size is read before anything is decoded. Raises :class:`~client.errors.PictureError`, and
    :class:`~kfusion.errors.MissingExtra` without Pillow.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(
            f"{path}: cannot be read ({error.strerror}); wanted a JPEG, PNG or WebP of at most "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        ) from None
    try:
        with open_image(data, FORMATS, most=MAX_PIXELS) as image:
            return np.array(to_rgb(exif_transposed(image)))
    except WireError as error:
        raise PictureError(f"{path}: {error}") from None


def read_portrait(name: str, index: Path = PORTRAITS) -> tuple[Pixels, Points]:
    """The portrait of that name (H, W, 3), and its points (68, 2). Raises PictureError."""
    try:
        portraits = msgspec.json.decode(index.read_bytes(), type=list[Portrait])
    except OSError:
        raise PictureError(
            f"no portrait {name!r}: this copy of KFusion comes without portraits ({index} is not "
            "there); wanted --photo and --identity"
        ) from None
    except msgspec.DecodeError as error:
        raise PictureError(f"{index}: {error}; wanted a list of portraits") from None
    for portrait in portraits:
        if portrait.name == name:
            try:
                points = Identity.from_points(portrait.points).points
            except BadIdentity as error:
                raise PictureError(f"{index}: {name}: {error}") from None
            return read_picture(index.parent / portrait.image), points
    names = ", ".join(portrait.name for portrait in portraits)
    raise PictureError(f"no portrait {name!r}; wanted one of {names}")
