"""The 68 points of the face in a clip: where to crop, the tracker, and its track at 30 fps.

The crop is fixed for a clip and does not follow the head. A :class:`Tracker` finds faces in whole
pictures and points in crops; :class:`FaceAlignmentTracker` is the one of the paper (Bulat and
Tzimiropoulos, *How far are we from solving the 2D & 3D face alignment problem?*, ICCV 2017).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kfusion.errors import DataError
from kfusion.faces import SIZE, Boxes, FaceNetworks, Pixels, main_face
from training.corpus.clips import Points, at_30fps, face_at_rest
from training.corpus.video import crops, sample_pictures

PROBES: Final = 5  # pictures (to twice as many) that say where a clip's face is
PROBE_SIZE: Final = 640  # their longer side, for the detector
CROP_SIDE: Final = 1.6  # of the face box's mean side: brows and chin with a quarter to spare
LEAST_FOUND: Final = 0.8  # of a clip's frames
DETECT_EVERY: Final = 8  # frames; between them a face's box is interpolated
T = TypeVar("T")


class Tracker(Protocol):
    """What :func:`track_video` needs of a tracker."""

    batch: int
    """How many crops it is given at once."""

    def faces(self, picture: Pixels) -> Boxes:
        """Every face in a whole picture, (n, 4); none: (0, 4)."""
        ...

    def track(self, frames: Pixels) -> tuple[Points, NDArray[np.bool_]]:
        """(K, 256, 256, 3) consecutive crops -> (K, 68, 2) points in their pixels, and (K,) in
        which frames there is a face; the points of the others mean nothing."""
        ...


@dataclass(frozen=True)
class FaceTrack:
    """``points`` (T, 68, 2) at 30 fps; ``rest`` (68, 2), the face at rest in the source's frames;
    ``fps`` of the source; ``tracked``: share of its frames in which a face was found."""

    points: Points
    rest: Points
    fps: float
    tracked: float


def square_around(boxes: Boxes) -> tuple[int, int, int]:
    """(left, top, side) in whole pixels of the crop for a clip whose face was at ``boxes``."""
    left, top, right, bottom = np.median(boxes, axis=0)
    side = max(2, round(CROP_SIDE * (right - left + bottom - top) / 2))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def track_video(path: Path, tracker: Tracker) -> FaceTrack:
    """Tracks one clip. Raises :class:`~kfusion.errors.DataError` saying why it cannot be used."""
    probes, times = sample_pictures(path, PROBES, PROBE_SIZE)
    if len(times) < 2:
        raise DataError(f"it has {len(times)} pictures; wanted two or more")
    boxes: list[Boxes] = []
    for pixels, shrink in probes:
        face = main_face(tracker.faces(pixels), pixels.shape[1], pixels.shape[0])
        if face is not None:
            boxes.append(face / shrink)
    if not boxes:
        raise DataError(f"no face in any of {len(probes)} pictures spread over it")
    square = square_around(np.stack(boxes))
    parts = [
        tracker.track(np.stack(frames))
        for frames in batched(crops(path, square, SIZE), tracker.batch)
    ]
    points = np.concatenate([p for p, _ in parts])
    found = np.concatenate([f for _, f in parts])
    filled = fill_gaps(points, found, np.array(times))
    fps = round((len(times) - 1) / times[-1], 3)
    rest = face_at_rest(filled)
    return FaceTrack(at_30fps(filled, np.array(times)), rest, fps, float(found.mean()))


def batched(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Lists of ``count`` items, the last one shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, count)):
        yield batch


def fill_gaps(points: Points, found: NDArray[np.bool_], times: NDArray[Any]) -> Points:
    """Frames without a face from those beside them, linearly in time; DataError for too many."""
    share = float(found.mean())
    if share < LEAST_FOUND:
        raise DataError(f"a face in {share:.0%} of its pictures; wanted {LEAST_FOUND:.0%}")
    return interpolate(points[found], times[found], times)


def interpolate(values: NDArray[Any], times: NDArray[Any], new_times: NDArray[Any]) -> NDArray[Any]:
    """(K, ...) values at rising ``times`` -> at ``new_times``, linear, held at the ends."""
    flat = values.reshape(len(values), -1)
    out = np.stack([np.interp(new_times, times, column) for column in flat.T], axis=1)
    return out.reshape(len(new_times), *values.shape[1:])


class FaceAlignmentTracker(FaceNetworks):
    """face_alignment's networks (kfusion/faces) for the crops of a clip."""

    def __init__(self, device: str = "cpu", batch: int = 8, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.batch = batch
        super().__init__(device)

    def track(self, frames: Pixels) -> tuple[Points, NDArray[np.bool_]]:
        probed = np.unique(np.append(np.arange(0, len(frames), DETECT_EVERY), len(frames) - 1))
        faces = [main_face(b, SIZE, SIZE) for b in self.detect(frames[probed])]
        boxes = [f for f in faces if f is not None]
        found = np.zeros(len(frames), np.bool_)
        points = np.zeros((len(frames), 68, 2))
        if not boxes:
            return points, found
        detected = np.array([f is not None for f in faces])
        every = np.arange(len(frames))
        found = detected[np.abs(every[:, None] - probed).argmin(axis=1)]
        smooth = interpolate(np.stack(boxes), probed[detected], every)
        points[found] = self.points(frames[found], smooth[found])
        return points, found
