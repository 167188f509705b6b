"""A video with sound: the true landmarks on the left, the predicted ones on the right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.landmarks import to_canonical
from kfusion.mp4 import MP4Error, require_packages, write_mp4
from training.corpus.clips import Clip
from training.scores.overlay import PREDICTION, TRUTH, face_lines

if TYPE_CHECKING:
    from PIL import Image

SIZE: Final = 480
"""Side of each half, pixels, even."""
VIEW: Final = (8.0, 4.0, 240.0)
"""Left, top and side of the square of canonical coordinates that is shown."""
SUPERSAMPLING: Final = 2


def draw_faces(truth: NDArray[Any], predicted: NDArray[Any], names: tuple[str, str]) -> Image.Image:
    """Two faces (68, 2) in canonical coordinates, side by side; (2 SIZE, SIZE) pixels."""
    from PIL import Image, ImageDraw, ImageFont

    scale = SIZE * SUPERSAMPLING / VIEW[2]
    picture = Image.new("RGB", (2 * SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=17 * SUPERSAMPLING)
    faces = (truth, predicted)
    for k, (face, colour, name) in enumerate(zip(faces, (TRUTH, PREDICTION), names, strict=True)):
        left = k * SIZE * SUPERSAMPLING
        at = (face - VIEW[:2]) * scale + (left, 0)
        for line in face_lines(at):
            pixels = [(float(x), float(y)) for x, y in line]
            draw.line(pixels, fill=colour, width=2 * SUPERSAMPLING, joint="curve")
        for x, y in at:
            r = 2.2 * SUPERSAMPLING
            draw.ellipse((float(x) - r, float(y) - r, float(x) + r, float(y) + r), fill=colour)
        draw.text((left + 12 * SUPERSAMPLING, 8 * SUPERSAMPLING), name, fill="#333333", font=font)
    middle = SIZE * SUPERSAMPLING
    draw.line([(middle, 0), (middle, middle)], fill="#dddddd", width=SUPERSAMPLING)
    return picture.reduce(SUPERSAMPLING)


def write_side_by_side(path: Path, clip: Clip, predicted: NDArray[Any], method: str) -> None:
    """The clip's frames and the predicted ones (T, 68, 2), both with their head's motion, as MP4.

    Raises :class:`~kfusion.errors.MissingExtra` and, where it cannot be written, ``DataError``.
    """
    require_packages()
    forward = to_canonical(clip.identity)
    count = min(len(predicted), len(clip.points))
    names = (f"truth: {clip.name}", method)
    pairs = zip(forward.apply(clip.points[:count]), forward.apply(predicted[:count]), strict=True)
    pictures = (np.asarray(draw_faces(*pair, names)) for pair in pairs)
    audio = clip.audio[: count * SAMPLE_RATE // FPS]
    partial = path.with_name(f".{path.name}.part")
    try:
        write_mp4(partial, pictures, (2 * SIZE, SIZE), audio, SAMPLE_RATE)
        partial.replace(path)
    except (MP4Error, OSError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from None
    finally:
        partial.unlink(missing_ok=True)
