"""Pictures that nothing can be found in, each with the code and the words of its refusal."""

import io
import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image

from tests.drawn_photo import bytes_of, photo, two_faces


def png_chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG of this size by its header, RGB, with these chunks and no pixels of its own."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def noise(side: int) -> bytes:
    """A JPEG that cannot be made small."""
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    return bytes_of(Image.fromarray(pixels), "JPEG", quality=95)


def gif() -> bytes:
    out = io.BytesIO()
    photo(64).save(out, "GIF", save_all=True, append_images=[photo(64)])
    return out.getvalue()


BAD: Final[dict[str, tuple[bytes, str, str]]] = {
    "nothing": (b"", "bad_message", "0 bytes"),
    "text named jpg": (b"This is my photo, honestly.", "bad_message", "not a picture (text)"),
    "an animated GIF": (gif(), "bad_message", "not a picture (a GIF)"),
    "half a JPEG": (bytes_of(photo(), "JPEG")[:3000], "bad_message", "broken picture"),
    "half a PNG": (bytes_of(photo())[:9000], "bad_message", "broken picture"),
    "a PNG without pixels": (png(64, 64), "bad_message", "broken picture"),
    "a JPEG's first bytes": (b"\xff\xd8\xff\xe0", "bad_message", "header is broken"),
    "20 megapixels": (
        bytes_of(Image.new("RGB", (5000, 4000)), "JPEG"), "too_big", "5000 x 4000 pixels",
    ),
    "a PNG bomb": (
        png(100_000, 100_000, png_chunk(b"IDAT", zlib.compress(bytes(1 << 24)))),
        "too_big", "at most 16 megapixels",
    ),
    "a bomb of text": (
        png(64, 64, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))),
        "bad_message", "broken picture",
    ),
    "too many bytes": (noise(800), "too_big", "at most 700 KB"),
    "no face": (bytes_of(Image.new("RGB", (300, 300), "gray")), "no_face", "no face in a picture"),
    "two faces": (bytes_of(two_faces()), "no_face", "2 faces"),
    "a face too small": (bytes_of(photo(84)), "bad_identity", "too small"),
}  # fmt: skip
