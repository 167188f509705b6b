"""The command ``identity``: the 68 points of a photo's face, found by a server or locally."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.atomic_file import AtomicFile
from client.cli.status import print_note
from client.errors import named_error
from client.sdk import connect
from kfusion import wire
from kfusion.errors import BadMessage, ConnectionLost, KFusionError, WireError
from kfusion.faces.decode import MAX_BYTES, MAX_PIXELS, exif_transposed, open_image, to_rgb
from kfusion.faces.resting_face import RestingFace, find_resting_face
from kfusion.landmarks import Points

if TYPE_CHECKING:
    from PIL import Image

ANSWER_S: Final = 180.0  # a server may have to fetch its networks first
MAX_FILE_BYTES: Final = 200_000_000
JPEG_QUALITY: Final = 92
RESIZES: Final = 12  # attempts to come under the server's limit


@dataclass(frozen=True)
class Upload:
    """A photo as it is sent: a JPEG or PNG of ``sent`` (width, height) pixels, ``size`` before."""

    data: bytes
    size: tuple[int, int]
    sent: tuple[int, int]
    changes: str = ""

    def in_photo(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (68, 2) of the picture that was sent, in pixels of the photo."""
        return np.asarray(points, np.float64) * np.divide(self.size, self.sent)


def run(a: argparse.Namespace) -> None:
    """Runs the command. Raises :class:`~kfusion.errors.KFusionError`."""
    out = None if a.out in (None, "-") else AtomicFile(a.out)
    try:
        photo = prepare_upload(a.photo)
        _note(a.photo, photo.changes and f"looked at {photo.changes}")
        face = _find_locally(a.photo, photo) if a.local else asyncio.run(_ask_server(a, photo))
        _note(a.photo, face.note)
        text = face_json(face, photo)
        if out is None:
            print(text)
        else:
            out.temporary.write_text(text + "\n")
            out.commit()
            _note(a.photo, f"its face is in {a.out}, for --identity {a.out}")
    finally:
        if out is not None:
            out.discard()


def face_json(face: RestingFace, photo: Upload) -> str:
    """The face file: see :class:`client.face_files.FaceFile`."""

    def pairs(points: Points) -> list[list[float]]:
        return [[round(float(x), 2), round(float(y), 2)] for x, y in photo.in_photo(points)]

    data: dict[str, Any] = {"points": pairs(face.points)}
    if face.seen is not None:
        data["photo"] = pairs(face.seen)
    return json.dumps(data | {"width": photo.size[0], "height": photo.size[1]})


def _note(path: Path, text: str) -> None:
    if text:
        print_note(f"{path}: {text}")


def _find_locally(path: Path, photo: Upload) -> RestingFace:
    from kfusion.faces import FaceNetworks
    from kfusion.faces.decode import decode_picture

    try:
        return find_resting_face(decode_picture(photo.data), FaceNetworks())
    except WireError as error:
        raise type(error)(f"{path}: {error}") from None


async def _ask_server(a: argparse.Namespace, photo: Upload) -> RestingFace:
    name = a.id or f"picture-{hashlib.sha256(photo.data).hexdigest()[:16]}"
    # A stream in file mode takes no place of a live one, and ends with the answer.
    async with connect(a.url, mode="file", token=a.token, reconnect=False) as face:
        await face.set_identity(name, image=photo.data)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await _answer(face.events())
        except TimeoutError:
            raise ConnectionLost(f"no answer to the photo within {ANSWER_S:g} s") from None
    if isinstance(answer, wire.Error):
        error = named_error(answer)
        raise type(error)(f"{a.photo}: {str(error).removeprefix('identity.image: ')}")
    if a.id and photo.sent != photo.size:
        width, height = photo.sent
        _note(a.photo, f"frames of identity {a.id!r} are in its {width} x {height} pixels")
    note = "" if answer.note is wire.UNSET else answer.note
    seen = None if answer.seen is wire.UNSET else np.array(answer.seen)
    return RestingFace(np.array(answer.points), note, seen)


async def _answer(events: AsyncIterator[object]) -> wire.IdentitySet | wire.Error:
    async for event in events:
        if isinstance(event, (wire.IdentitySet, wire.Error)):
            return event
    raise KFusionError("the server ended the stream without an answer to the photo")


def prepare_upload(path: Path) -> Upload:
    """The photo in a file, as the server takes it.

    A JPEG or PNG within the limits and without EXIF data is sent unchanged. Any other is turned
    upright, made smaller if it must be, and encoded again without its EXIF data. Raises
    :class:`~kfusion.errors.BadMessage` and ``TooBig``, naming the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BadMessage(f"{path}: cannot be read ({error.strerror}); wanted a photo") from None
    try:
        if len(data) > MAX_FILE_BYTES:
            raise BadMessage(f"over {MAX_FILE_BYTES // 1_000_000} MB; wanted a photo")
        with open_image(data) as image:
            return _upload(data, image)
    except WireError as error:
        raise type(error)(f"{path}: {error}") from None


def _upload(data: bytes, image: Image.Image) -> Upload:
    upright = exif_transposed(image)
    size, exif = upright.size, _has_exif(image)
    small = len(data) <= MAX_BYTES and size[0] * size[1] <= MAX_PIXELS
    if small and not exif and image.format in ("JPEG", "PNG"):
        return Upload(data, size, size)
    encoded, sent = _jpeg_within_limits(to_rgb(upright))
    changes: list[str] = []
    if sent != size:
        changes.append(f"as {sent[0]} x {sent[1]} pixels instead of {size[0]} x {size[1]}")
    if exif:
        changes.append("upright, without its EXIF data")
    if not changes:
        changes.append(f"as a JPEG of {len(encoded) // 1000} KB")
    return Upload(encoded, size, sent, ", ".join(changes))


def _has_exif(image: Image.Image) -> bool:
    try:
        return bool(image.getexif()) or "xmp" in image.info
    except Exception:  # data that cannot be parsed may still tell something
        return True


def _jpeg_within_limits(picture: Image.Image) -> tuple[bytes, tuple[int, int]]:
    """A JPEG within the server's limits, and its size in pixels."""
    from PIL import Image

    width, height = picture.size
    scale = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5)
    for _ in range(RESIZES):
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        small: Any = picture if size == picture.size else picture.resize(size, Image.Resampling.BOX)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=JPEG_QUALITY)
        data = out.getvalue()
        if len(data) <= MAX_BYTES:
            return data, size
        scale *= min(0.9, (MAX_BYTES / len(data)) ** 0.5)
    raise BadMessage(f"it stays over {MAX_BYTES // 1000} KB; wanted a photo")
