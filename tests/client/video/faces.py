"""Faces that tests draw, and the reading of videos."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.video.drawn_face import VIEW, draw_face
from kfusion.landmarks import NEUTRAL

SIDE = 384


def mouth(opening: float) -> NDArray[np.float64]:
    """The neutral face (68, 2) with the inner lips that many pixels apart."""
    face = NEUTRAL.copy()
    face[[65, 66, 67, 55, 56, 57, 58, 59], 1] += opening
    return face


def photo(face: NDArray[Any] = NEUTRAL, side: int = SIDE) -> tuple[NDArray[np.uint8], Any]:
    """A picture (side, side, 3) and the points of the face in it."""
    return np.asarray(draw_face(face, side)), (face - VIEW[:2]) * side / VIEW[2]


def decode(path: Path) -> tuple[list[Any], NDArray[np.float32], int]:
    """A video's frames, its mono sound (n,) and the sound's rate."""
    import av

    with av.open(str(path)) as file:
        pictures = list(file.decode(video=0))
    with av.open(str(path)) as file:
        sound = [f.to_ndarray()[0] for f in file.decode(audio=0)]
        rate = file.streams.audio[0].rate
    return pictures, np.concatenate(sound), rate
