"""The 68 points of the face in a clip: where to crop, the tracker, and its track at 30 fps.

The crop is fixed for a clip and does not follow the head. A :class:`Tracker` finds faces in whole
pictures and points in crops; :class:`FaceAlignmentTracker` is the one of the paper (Bulat and
Tzimiropoulos, *How far are we from solving the 2D & 3D face alignment problem?*, ICCV 2017).
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from kfusion.errors import DataError, KFusionError, MissingExtra
from training.clips import Points, at_30fps, face_at_rest
from training.video import Pixels, crops, spread

if TYPE_CHECKING:
    import torch

Boxes = NDArray[np.float64]
"""Faces as (n, 4): left, top, right, bottom in pixels; point (x, y) is x to the right of the
picture's left edge, so that the first pixel's middle is at 0.5."""

SIZE: Final = 256
PROBES: Final = 5  # pictures (to twice as many) that say where a clip's face is
PROBE_SIZE: Final = 640  # their longer side, for the detector
CROP_SIDE: Final = 1.6  # of the face box's mean side: brows and chin with a quarter to spare
LEAST_FOUND: Final = 0.8  # of a clip's frames
DETECT_EVERY: Final = 8  # frames; between them a face's box is interpolated
T = TypeVar("T")


class TrackerError(KFusionError):
    """The face tracker cannot be loaded or cannot work on this machine: no clip's fault."""


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
class Track:
    """``points`` (T, 68, 2) at 30 fps; ``rest`` (68, 2), the face at rest in the source's frames;
    ``fps`` of the source; ``tracked``: share of its frames in which a face was found."""

    points: Points
    rest: Points
    fps: float
    tracked: float


def main_face(boxes: Boxes, width: float, height: float) -> Boxes | None:
    """The largest face, one in the middle counted as larger, (4,); None where there is none."""
    if not len(boxes):
        return None
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    off = np.linalg.norm(middle / (width, height) - 0.5, axis=1)
    return boxes[np.argmax(sides.prod(axis=1) * np.maximum(0.1, 1 - off))]


def square_around(boxes: Boxes) -> tuple[int, int, int]:
    """(left, top, side) in whole pixels of the crop for a clip whose face was at ``boxes``."""
    left, top, right, bottom = np.median(boxes, axis=0)
    side = max(2, round(CROP_SIDE * (right - left + bottom - top) / 2))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def track_video(path: Path, tracker: Tracker) -> Track:
    """Tracks one clip. Raises :class:`~kfusion.errors.DataError` saying why it cannot be used."""
    probes, stamps = spread(path, PROBES, PROBE_SIZE)
    if len(stamps) < 2:
        raise DataError(f"it has {len(stamps)} pictures; wanted two or more")
    boxes: list[Boxes] = []
    for pixels, shrink in probes:
        face = main_face(tracker.faces(pixels), pixels.shape[1], pixels.shape[0])
        if face is not None:
            boxes.append(face / shrink)
    if not boxes:
        raise DataError(f"no face in any of {len(probes)} pictures spread over it")
    square = square_around(np.stack(boxes))
    parts = [
        tracker.track(np.stack(some)) for some in batched(crops(path, square, SIZE), tracker.batch)
    ]
    points = np.concatenate([p for p, _ in parts])
    found = np.concatenate([f for _, f in parts])
    times = np.array(stamps)
    filled = fill(points, found, times)
    fps = float((len(times) - 1) / times[-1])
    rest = face_at_rest(filled)
    return Track(at_30fps(filled, times), rest, round(fps, 3), float(found.mean()))


def batched(items: Iterable[T], count: int) -> Iterator[list[T]]:
    """Lists of ``count`` items, the last one shorter."""
    iterator = iter(items)
    while some := list(islice(iterator, count)):
        yield some


def fill(points: Points, found: NDArray[np.bool_], times: NDArray[Any]) -> Points:
    """Frames without a face from those beside them, linearly in time; DataError for too many."""
    share = float(found.mean())
    if share < LEAST_FOUND:
        raise DataError(f"a face in {share:.0%} of its pictures; wanted {LEAST_FOUND:.0%}")
    return between(points[found], times[found], times)


def between(values: NDArray[Any], times: NDArray[Any], wanted: NDArray[Any]) -> NDArray[Any]:
    """(K, ...) values at rising ``times`` -> at ``wanted``, linear, held at the ends."""
    flat = values.reshape(len(values), -1)
    out = np.stack([np.interp(wanted, times, column) for column in flat.T], axis=1)
    return out.reshape(len(wanted), *values.shape[1:])


class FaceAlignmentTracker:
    """``face_alignment.FaceAlignment``: its S3FD detector, its 2DFAN-4 network, its flip test.

    Its own ``get_landmarks_from_batch`` sends frames through the network one at a time and rounds
    points to half a cell of a 64 x 64 heat map, 2 pixels and more here. So its parts are called:
    the window of the image that it would cut, cut by bilinear sampling and for a whole batch at
    once, and the peak of the heat map placed by a parabola instead of by the sign of its slope.

    Raises :class:`TrackerError` where its weights cannot be had or the device fails, and
    :class:`~kfusion.errors.MissingExtra` where the package is missing.
    """

    def __init__(self, device: str = "cpu", batch: int = 8, threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.batch, self.device = batch, device
        self.alignment = _load(device)

    def faces(self, picture: Pixels) -> Boxes:
        return self._detect(picture[None])[0]

    def track(self, frames: Pixels) -> tuple[Points, NDArray[np.bool_]]:
        probed = np.unique(np.append(np.arange(0, len(frames), DETECT_EVERY), len(frames) - 1))
        faces = [main_face(b, SIZE, SIZE) for b in self._detect(frames[probed])]
        seen = [f for f in faces if f is not None]
        found = np.zeros(len(frames), np.bool_)
        points = np.zeros((len(frames), 68, 2))
        if not seen:
            return points, found
        there = np.array([f is not None for f in faces])
        every = np.arange(len(frames))
        found = there[np.abs(every[:, None] - probed).argmin(axis=1)]
        boxes = between(np.stack(seen), probed[there], every)
        points[found] = self.points(frames[found], boxes[found])
        return points, found

    def points(self, frames: Pixels, boxes: Boxes) -> Points:
        """(K, H, W, 3) pictures and the face's box in each, (K, 4) -> points (K, 68, 2)."""
        import torch
        from face_alignment.utils import flip

        corner, side = _windows(boxes, self.alignment.face_detector.reference_scale)
        with torch.inference_mode(), _device_errors(self.device):
            pictures = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2).float() / 255
            cut = _sample(pictures, corner, side)
            network = self.alignment.face_alignment_net
            maps = network(cut)[-1] + flip(network(flip(cut))[-1], is_label=True)
            peaks = heat_peaks(maps.float().cpu().numpy())
        return peaks * side[:, None, None] + corner[:, None]

    def _detect(self, pictures: Pixels) -> list[Boxes]:
        """Faces of pictures (K, H, W, 3) of one size, K times (n, 4)."""
        import torch

        with torch.inference_mode(), _device_errors(self.device):
            batch = torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
            found = self.alignment.face_detector.detect_from_batch(batch)
        return [np.array(boxes, np.float64).reshape(-1, 5)[:, :4] for boxes in found]


def _load(device: str) -> Any:
    """A ``face_alignment.FaceAlignment`` on a device."""
    import torch

    try:
        from face_alignment import FaceAlignment, LandmarksType
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the face-alignment package is not installed ({error}); "
            "pip install 'kfusion[training]'"
        ) from None
    except ImportError as error:  # OpenCV wants system libraries
        raise TrackerError(f"face_alignment cannot be loaded ({error})") from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TrackerError(f"device {device}: torch sees no CUDA GPU here; wanted --device cpu")
    try:
        # Not compiled: batches vary in size, and each process would compile its own.
        return FaceAlignment(LandmarksType.TWO_D, device=device, compile=False)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise TrackerError(
            f"face_alignment's weights cannot be loaded ({str(error).splitlines()[0]}); wanted its "
            f"two files, or a network to fetch them over, in {torch.hub.get_dir()}/checkpoints"
        ) from None


@contextmanager
def _device_errors(device: str) -> Generator[None, None, None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise TrackerError(
            f"device {device}: out of memory; wanted a smaller --batch, or fewer --processes"
        ) from None


def _windows(boxes: Boxes, reference: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """The square that FaceAlignment looks at for each box: corners (K, 2) and sides (K,)."""
    from face_alignment.utils import CENTER_Y_OFFSET, SCALE_FACTOR

    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    side = SCALE_FACTOR * (width + height) / reference
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    middle[:, 1] -= CENTER_Y_OFFSET * height
    return middle - side[:, None] / 2, side


def _sample(pictures: torch.Tensor, corner: NDArray[Any], side: NDArray[Any]) -> torch.Tensor:
    """Squares of pictures (K, 3, H, W), bilinear, as (K, 3, 256, 256); black outside."""
    import torch
    from torch.nn.functional import affine_grid, grid_sample

    size = np.array([pictures.shape[3], pictures.shape[2]])
    theta = np.zeros((len(pictures), 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = (side[:, None] / size).T
    theta[:, :, 2] = (2 * corner + side[:, None]) / size - 1
    grid = affine_grid(
        torch.from_numpy(theta).to(pictures.device),
        [len(pictures), 3, SIZE, SIZE],
        align_corners=False,
    )
    return grid_sample(pictures, grid, align_corners=False)


def heat_peaks(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Heat maps (K, 68, h, w) -> where they are highest, (K, 68, 2) as shares of their sides.

    A parabola through the highest cell and its two neighbours on each axis.
    """
    k, points, height, width = maps.shape
    flat = maps.reshape(k * points, height, width).astype(np.float64)
    each = np.arange(len(flat))
    y, x = np.divmod(flat.reshape(len(flat), -1).argmax(axis=1), width)
    at = np.stack([x, y], axis=1) + 0.5
    for axis, (dy, dx) in enumerate([(0, 1), (1, 0)]):
        inside = (x >= dx) & (x < width - dx) & (y >= dy) & (y < height - dy)
        n, row, column = each[inside], y[inside], x[inside]
        before, here = flat[n, row - dy, column - dx], flat[n, row, column]
        after = flat[n, row + dy, column + dx]
        bend = 2 * here - before - after
        at[inside, axis] += (after - before) / (2 * np.where(bend > 0, bend, 1))
    return (at / (width, height)).reshape(k, points, 2)
