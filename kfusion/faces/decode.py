"""A client's JPEG or PNG file -> upright pixels, within limits. Pillow is imported when needed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kfusion.errors import BadMessage, MissingExtra, TooBig
from kfusion.faces import Pixels

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES: Final = 700_000  # of the file
MAX_PIXELS: Final = 16_000_000
MAX_SIDE: Final = 30_000  # of a picture one pixel high
ORIENTATION: Final = 0x0112  # the EXIF tag
WANTED: Final = "wanted a whole JPEG or PNG file"


def decode_picture(data: bytes) -> Pixels:
    """The pixels (H, W, 3) of a picture as it is to be seen: EXIF's rotation carried out.

    Raises :class:`~kfusion.errors.TooBig` for one over 700 KB, which is 700 000 bytes, or over 16
    megapixels, told by its header before anything is decoded; and
    :class:`~kfusion.errors.BadMessage` for what is no picture or a broken one.
    """
    check_file_size(data)
    with open_image(data, ("JPEG", "PNG"), most=MAX_PIXELS) as image:
        return np.array(to_rgb(exif_transposed(image)))


def check_file_size(data: bytes) -> None:
    """Raises :class:`~kfusion.errors.TooBig`, and ``BadMessage`` for nothing at all."""
    if not data:
        raise BadMessage(f"a picture of 0 bytes; {WANTED}")
    if len(data) > MAX_BYTES:
        raise TooBig(
            f"a picture of {len(data)} bytes; wanted at most {MAX_BYTES // 1000} KB "
            f"({MAX_BYTES} bytes)"
        )


@contextmanager
def open_image(
    data: bytes, formats: tuple[str, ...] | None = None, most: int | None = None
) -> Generator[Image.Image]:
    """A picture by its header, for whoever decodes it in the block; no warnings of Pillow.

    ``formats``: Pillow's names, or all; ``most``: pixels, beside Pillow's own limit. Raises
    :class:`~kfusion.errors.TooBig` and, for any other fault, :class:`~kfusion.errors.BadMessage`.
    """
    wanted = WANTED if formats is None else f"wanted a whole {' or '.join(formats)} file"
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtra(
            "pillow is not installed; pip install 'kfusion[face]' (or 'kfusion[client]')"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which are checked here, and of odd metadata
        try:
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _check_size(*image.size, most)
                yield image
        except UnidentifiedImageError:
            raise BadMessage(f"not a picture ({_looks_like(data)}); {wanted}") from None
        except Image.DecompressionBombError:
            at_most = (MAX_PIXELS if most is None else most) // 1_000_000
            raise TooBig(
                f"a picture of far too many pixels; wanted at most {at_most} megapixels"
            ) from None
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError) as error:
            raise BadMessage(f"a broken picture ({str(error)[:200]}); {wanted}") from None


def _check_size(width: int, height: int, most: int | None) -> None:
    if most is not None and (width * height > most or max(width, height) > MAX_SIDE):
        raise TooBig(
            f"a picture of {width} x {height} pixels; wanted at most {most // 1_000_000} megapixels"
        )


def _looks_like(data: bytes) -> str:
    if not data:
        return "0 bytes"
    head = data[:16]
    known = {
        b"GIF8": "a GIF", b"RIFF": "WebP, perhaps", b"BM": "a BMP", b"%PDF": "a PDF",
        b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"<svg": "an SVG", b"<!DO": "HTML",
    }  # fmt: skip
    for begins, name in known.items():
        if head.startswith(begins):
            return name
    if head[4:8] == b"ftyp":
        return "HEIC, perhaps"
    if head.startswith((b"\xff\xd8", b"\x89PNG")):
        return "its header is broken"
    return "text" if head.isascii() and head.decode().isprintable() else f"it begins {head[:8]!r}"


def exif_transposed(image: Image.Image) -> Image.Image:
    """The picture as EXIF says that it is to be held; EXIF that cannot be read says nothing."""
    from PIL.Image import Transpose

    ways: dict[Any, Transpose] = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }  # fmt: skip
    image.load()  # before EXIF, which a PNG may have after its pixels
    try:
        way = ways.get(image.getexif().get(ORIENTATION))
    except Exception:  # whatever Pillow comes across in parsing
        way = None
    return image if way is None else image.transpose(way)


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue; what is transparent lies on white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits of grey
        grey = np.asarray(image).astype(np.float64)
        return Image.fromarray(np.clip(grey / 257, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")
