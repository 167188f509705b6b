"""Photographs of drawn faces, and what finds the faces in them: finders for the process that looks
at pictures, and weights made here for face_alignment's own classes.

A green dot lies on the outer corner of one eye (point 36) and a blue one on the other's (45).
"""

import io
import os
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from client.video.drawn_face import VIEW, draw_face
from kfusion.errors import MissingExtra
from kfusion.faces import Boxes, FaceFinder, Pixels
from kfusion.landmarks import JAW, MIRROR, NEUTRAL, Points, fit_similarity

SIDE: Final = 344  # of a photo in which a pixel is one of the canonical crop's
DOT: Final = 5.0
GREEN, BLUE = (0, 255, 0), (0, 0, 255)
RED: Final = (255, 0, 0)


def points_in_photo(size: int = SIDE, points: Points = NEUTRAL) -> Points:
    """Where the points of a photo's face are, in its pixels."""
    return (points - VIEW[:2]) * size / VIEW[2]


def photo(size: int = SIDE, points: Points = NEUTRAL) -> Image.Image:
    """A picture with one face, its mouth as in ``points`` (canonical)."""
    picture = draw_face(points, size)
    pen, dot = ImageDraw.Draw(picture), DOT * size / SIDE
    for k, colour in ((36, GREEN), (45, BLUE)):
        x, y = points_in_photo(size, points)[k]
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour)
    return picture


def face(shade: int = 0) -> bytes:
    """A photo of the same face, another file for every shade."""
    picture = photo(200)
    picture.putpixel((0, 199), (shade % 256, shade // 256, 7))
    return bytes_of(picture)


def two_faces() -> Image.Image:
    """A picture with two faces side by side."""
    both = Image.new("RGB", (2 * SIDE, SIDE))
    both.paste(photo(), (0, 0))
    both.paste(photo(), (SIDE, 0))
    return both


def bytes_of(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """A picture as a file."""
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


class DotFinder:
    """Finds the dots, and puts the neutral face between them."""

    def faces(self, picture: Pixels) -> Boxes:
        greens, blues = _dots(picture, GREEN), _dots(picture, BLUE)
        boxes: list[NDArray[np.float64]] = []
        for ends in zip(greens, blues, strict=False):
            jaw = _between(*ends)[JAW]
            boxes.append(np.concatenate([jaw.min(axis=0), jaw.max(axis=0)]))
        return np.stack(boxes) if boxes else np.zeros((0, 4))

    def points(self, frames: Pixels, boxes: Boxes) -> Points:
        return np.stack([_between(_dots(f, GREEN)[0], _dots(f, BLUE)[0]) for f in frames])


def _dots(picture: Pixels, colour: tuple[int, int, int]) -> list[NDArray[np.float64]]:
    """Middles of the dots of a colour, from left to right: gaps of empty columns part them."""
    near = [np.abs(picture[..., k].astype(np.int16) - colour[k]) < 60 for k in range(3)]
    y, x = np.nonzero(near[0] & near[1] & near[2])
    if not len(x):
        return []
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    parts = np.flatnonzero(np.diff(x) > 2) + 1
    both = np.stack([x, y], axis=1) + 0.5
    return [part.mean(axis=0) for part in np.split(both, parts)]


def _between(right: NDArray[np.float64], left: NDArray[np.float64]) -> Points:
    return fit_similarity(NEUTRAL[[36, 45]], np.stack([right, left])).apply(NEUTRAL)


class UnreliableFinder(DotFinder):
    """Crashes over a picture whose first pixel is red, and hangs over one that is blue."""

    def faces(self, picture: Pixels) -> Boxes:
        first = tuple(int(v) for v in picture[0, 0])
        if first == RED:
            os._exit(1)
        while first == BLUE:
            time.sleep(60)
        return super().faces(picture)


class OpenMouthFinder(DotFinder):
    """Finds every mouth open."""

    def points(self, frames: Pixels, boxes: Boxes) -> Points:
        found = super().points(frames, boxes)
        found[:, list(range(4, 13)), 1] += 20
        found[:, [*range(55, 60), 65, 66, 67], 1] += 20
        return found


class WaitingFinder(DotFinder):
    """Looks once there is a file at the path in KFUSION_TEST_GATE."""

    def faces(self, picture: Pixels) -> Boxes:
        while not Path(os.environ["KFUSION_TEST_GATE"]).exists():
            time.sleep(0.01)
        return super().faces(picture)


def waiting() -> FaceFinder:
    return WaitingFinder()


def dots() -> FaceFinder:
    return DotFinder()


def unreliable() -> FaceFinder:
    return UnreliableFinder()


def open_mouthed() -> FaceFinder:
    return OpenMouthFinder()


def missing() -> FaceFinder:
    raise MissingExtra("the face-alignment package is not installed; pip install 'kfusion[face]'")


# face_alignment's own classes

FAN_FILE, DETECTOR_FILE = "2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth"


def torch_hub(folder: Path) -> Path:
    """A torch hub folder with weights under the names that face_alignment looks for: a detector
    that finds green dots, and a network that finds the points of the drawn face.
    """
    import torch

    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(_detector(), checkpoints / DETECTOR_FILE)
    torch.save(_network(), checkpoints / FAN_FILE)
    return folder


def face_box() -> NDArray[np.float64]:
    """Around all points of the one face of a photo, (4,)."""
    points = points_in_photo()
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _detector() -> dict[str, Any]:
    """S3FD with weights set by hand: its first channel carries how green a place is."""
    from face_alignment.detection.sfd.net_s3fd import s3fd

    weights: dict[str, Any] = s3fd().state_dict()
    for name, value in weights.items():
        value.zero_()
        if name.endswith("conf.bias"):
            value[-1] = -20.0
    first = weights["conv1_1.weight"]  # of blue, green, red
    first[0, :, 1, 1] = first.new_tensor([-1.0, 1.0, -1.0])
    weights["conv1_1.bias"][0] = -250.0
    for name in ("conv1_2", "conv2_1", "conv2_2", "conv3_1"):
        weights[f"{name}.weight"][0, 0, 1, 1] = 1.0
    for name in ("conv3_2", "conv3_3"):  # a dot's middle is to be its highest place
        weights[f"{name}.weight"][0, 0] = 1 / 9
    weights["conv3_3.bias"][1] = 100.0  # or the norm would make all places alike
    weights["conv3_3_norm.weight"].fill_(10.0)
    head = "conv3_3_norm_mbox"
    weights[f"{head}_conf.weight"][3, 0, 1, 1] = 10.0
    box, dot = face_box(), points_in_photo()[36]
    middle, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    loc = [*((middle - dot) / (0.1 * 16)), *(np.log(size / 16) / 0.2)]
    weights[f"{head}_loc.bias"][:] = first.new_tensor(loc)
    return weights


def _network() -> dict[str, Any]:
    """2DFAN-4 with seeded weights but for its last layer, which is fitted to the drawn face."""
    import torch
    from face_alignment.models.fan import FAN
    from face_alignment.utils import SCALE_FACTOR

    torch.manual_seed(0)
    network = FAN(4).eval()
    last: Any = network.get_submodule("l3")
    inputs: list[Any] = []

    def keep(_: Any, given: tuple[Any, ...]) -> None:
        inputs.append(given[0])

    last.register_forward_pre_hook(keep)
    box = face_box()
    side = SCALE_FACTOR * float((box[2:] - box[:2]).sum()) / 195
    corner = (box[:2] + box[2:]) / 2 - [0, 0.12 * (box[3] - box[1])] - side / 2
    picture = photo()
    rows: list[NDArray[np.float64]] = []
    heatmaps: list[NDArray[np.float64]] = []
    y, x = np.mgrid[:64, :64] + 0.5
    for shift in (-3.0, 0.0, 3.0):
        left, top = corner + shift
        cut = picture.transform(
            (256, 256), Image.Transform.AFFINE, (side / 256, 0, left, 0, side / 256, top),
            Image.Resampling.BILINEAR,
        )  # fmt: skip
        pixels = np.asarray(cut, np.float32) / 255
        cells = (points_in_photo() - (left, top)) / side * 64
        mirrored = cells[list(MIRROR)] * (-1, 1) + (64, 0)
        for image, at in ((pixels, cells), (pixels[:, ::-1].copy(), mirrored)):
            inputs.clear()
            with torch.inference_mode():
                network(torch.from_numpy(image).permute(2, 0, 1)[None])
            rows.append(inputs[0][0].reshape(256, -1).T.double().numpy())
            far = (x - at[:, 0, None, None]) ** 2 + (y - at[:, 1, None, None]) ** 2
            heatmaps.append(np.exp(-far / 4.5).reshape(68, -1).T)
    features = np.concatenate(rows)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    square = features.T @ features
    square += 1e-8 * np.trace(square) / len(square) * np.eye(len(square))
    fitted = torch.from_numpy(np.linalg.solve(square, features.T @ np.concatenate(heatmaps)))
    weights: dict[str, Any] = network.state_dict()
    weights["l3.weight"] = fitted[:-1].T[:, :, None, None].float().clone()
    weights["l3.bias"] = fitted[-1].float().clone()
    return weights
