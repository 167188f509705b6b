"""From a picture of one person to a face at rest: which picture can be an identity, and why not."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from kfusion.errors import BadIdentity, NoFace
from kfusion.faces import Boxes, FaceFinder, Pixels
from kfusion.landmarks import (
    NEUTRAL,
    Identity,
    Points,
    inter_ocular,
    lip_gap,
    with_mouth_shut,
)

DETECT_SIDE: Final = 640  # the longer side of what the detector sees, as in corpus/track.py
SECOND_FACE: Final = 0.5  # of the largest face's side from which another face counts
MIN_EYE_DISTANCE: Final = 24.0  # pixels between the outer eye corners
MAX_TURN: Final = 0.35
"""Of half the distance between the outer eye corners, by which the tip of the nose may be off
their middle. Speakers who look at the camera stay under 0.27 (tracks of GRID, MEAD and talks, 99.9
of 100 frames); a head turned by 25 degrees has about 0.4.
"""
MAX_OFFSET: Final = 40.0
"""Root mean square distance of the points from the neutral face, canonical pixels; of the same
tracks, mouths wide open among them, at most 18.
"""
SHUT: Final = 1.5  # canonical pixels between the inner lips up to which a mouth counts as shut

MOUTH_WAS_SHUT: Final = "the mouth was open in the picture and is shut in these points"


@dataclass(frozen=True)
class RestingFace:
    """``points`` (68, 2) at rest, in pixels of the picture; ``note``: what was changed, or nothing.

    ``seen``: the points as they lie in the picture, where they were changed."""

    points: Points
    note: str = ""
    seen: Points | None = None


def find_resting_face(picture: Pixels, finder: FaceFinder) -> RestingFace:
    """The one face of an upright picture (H, W, 3).

    Raises :class:`~kfusion.errors.NoFace` for none, or for more than one, and
    :class:`~kfusion.errors.BadIdentity` for one that is too small or looks to the side.
    """
    box = only_face(_detected(picture, finder), picture)
    return resting_face(finder.points(picture[None], box[None])[0])


def _detected(picture: Pixels, finder: FaceFinder) -> Boxes:
    from PIL import Image

    height, width = picture.shape[:2]
    shrink = min(1.0, DETECT_SIDE / max(width, height))
    if shrink == 1.0:
        return finder.faces(picture)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    return finder.faces(small) / np.tile(np.divide(size, (width, height)), 2)


def only_face(boxes: Boxes, picture: Pixels) -> Boxes:
    """The box (4,) of the only face, others in the background left aside. Raises ``NoFace``."""
    height, width = picture.shape[:2]
    if not len(boxes):
        raise NoFace(
            f"no face in a picture of {width} x {height} pixels; wanted one face, upright, large, "
            "looking into the camera"
        )
    sides = np.sqrt(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1))
    count = int((sides >= SECOND_FACE * sides.max()).sum())
    if count > 1:
        raise NoFace(
            f"{count} faces in the picture, and it is not said whose is wanted; wanted it cropped "
            "to one of them"
        )
    return boxes[sides.argmax()]


def resting_face(points: Points) -> RestingFace:
    """Points (68, 2) as they were found -> the face that can be animated.

    Raises :class:`~kfusion.errors.BadIdentity`, and ``NoFace`` for what cannot be a face.
    """
    eyes = float(inter_ocular(points))
    if eyes < MIN_EYE_DISTANCE:
        raise BadIdentity(
            f"the face is too small: {eyes:.0f} pixels between the outer eye corners; wanted "
            f"{MIN_EYE_DISTANCE:.0f} or more, a closer or larger picture"
        )
    turn = head_turn(points)
    if abs(turn) > MAX_TURN:
        side = "right" if turn > 0 else "left"
        raise BadIdentity(
            f"the head is turned to the {side} of the picture; wanted a face that looks into the "
            "camera"
        )
    own = Identity.from_points(points)
    off = float(np.sqrt(((own.canonical - NEUTRAL) ** 2).sum(axis=1).mean()))
    if off > MAX_OFFSET:
        raise NoFace("what looks like a face is none; wanted one face, looking into the camera")
    if float(lip_gap(own.canonical)) <= SHUT:
        return RestingFace(own.points)
    return RestingFace(with_mouth_shut(own.points), MOUTH_WAS_SHUT, own.points)


def head_turn(points: Points) -> float:
    """Offset of the nose tip from the middle of the outer eye corners, in halves of their distance.

    0 looks into the camera, 1 to the right of the picture."""
    line = points[45] - points[36]
    return float(2 * (points[30] - points[36]) @ line / (line @ line) - 1)
