"""Faces in pictures: their boxes and 68 points by face_alignment (Bulat & Tzimiropoulos 2017).

Needs the extra ``face``; torch is imported when the networks are loaded.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from kfusion.errors import KFusionError, MissingExtra
from kfusion.landmarks import Points

if TYPE_CHECKING:
    import torch

Pixels = NDArray[np.uint8]
"""A picture (H, W, 3), RGB, or several (K, H, W, 3)."""

Boxes = NDArray[np.float64]
"""Faces as (n, 4): left, top, right, bottom in pixels; point (x, y) is x to the right of the
picture's left edge, so that the first pixel's middle is at 0.5."""

SIZE: Final = 256


class FaceFinderError(KFusionError):
    """The face tracker cannot be loaded or cannot work on this machine: no picture's fault."""


class FaceFinder(Protocol):
    """What finds faces."""

    def faces(self, picture: Pixels) -> Boxes:
        """Every face in a whole picture, (n, 4); none: (0, 4)."""
        ...

    def points(self, frames: Pixels, boxes: Boxes) -> Points:
        """(K, H, W, 3) pictures and the face's box in each, (K, 4) -> points (K, 68, 2)."""
        ...


def main_face(boxes: Boxes, width: float, height: float) -> Boxes | None:
    """The largest face, one in the middle counted as larger, (4,); None where there is none."""
    if not len(boxes):
        return None
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    off = np.linalg.norm(middle / (width, height) - 0.5, axis=1)
    return boxes[np.argmax(sides.prod(axis=1) * np.maximum(0.1, 1 - off))]


class FaceNetworks:
    """``face_alignment.FaceAlignment``: its S3FD detector, its 2DFAN-4 network, its flip test.

    Its ``get_landmarks_from_batch`` takes frames one at a time and rounds points to 2 pixels. Here
    its parts run on a whole batch, and a parabola places the peak of each heat map.

    Raises :class:`FaceFinderError` where its weights cannot be had or the device fails, and
    :class:`~kfusion.errors.MissingExtra` where the package is missing.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.alignment = _load(device)

    def faces(self, picture: Pixels) -> Boxes:
        return self.detect(picture[None])[0]

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
            peaks = heatmap_peaks(maps.float().cpu().numpy())
        return peaks * side[:, None, None] + corner[:, None]

    def detect(self, pictures: Pixels) -> list[Boxes]:
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
            f"the face-alignment package is not installed; pip install 'kfusion[face]' ({error})"
        ) from None
    except ImportError as error:  # OpenCV wants system libraries
        raise FaceFinderError(f"face_alignment cannot be loaded ({error})") from None
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise FaceFinderError(f"device {device}: torch sees no CUDA GPU here; wanted --device cpu")
    try:
        # Not compiled: batches vary in size, and each process would compile its own.
        return FaceAlignment(LandmarksType.TWO_D, device=device, compile=False)
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise FaceFinderError(
            f"face_alignment's weights cannot be loaded ({str(error).splitlines()[0]}); wanted its "
            f"two files, or a network to fetch them over, in {torch.hub.get_dir()}/checkpoints"
        ) from None


@contextmanager
def _device_errors(device: str) -> Generator[None, None, None]:
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise FaceFinderError(
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


def heatmap_peaks(maps: NDArray[Any]) -> NDArray[np.float64]:
    """Peaks of heat maps (K, 68, h, w), refined by parabolas: (K, 68, 2), shares of the sides."""
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
