"""face_alignment's own classes run here, with seeded weights: shapes, order, batching and errors.
How well its real weights find a face is tested only where they are."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models.fan import FAN
from numpy.typing import NDArray

from kfusion.faces import FaceFinderError, heatmap_peaks, main_face
from tests.training.corpus.drawn_video import draw, write_clip
from training.corpus.format import Corpus
from training.corpus.track import FaceAlignmentTracker, square_around
from training.corpus.video import crop
from training.prepare import main

FAN_FILE, DETECTOR_FILE = "2DFAN4-11f355bf06.pth.tar", "s3fd-619a316812.pth"


def detector_weights(face: bool) -> dict[str, torch.Tensor]:
    """A detector that sees one face in the middle of every cell of 64 pixels, or none at all."""
    torch.manual_seed(1)
    weights = s3fd().state_dict()
    for name, value in weights.items():
        if "_mbox_" in name:
            value.zero_()
        if name.endswith("_conf.bias"):
            value[-1] = 4.0 if face and name.startswith("conv6_2") else -4.0
    return weights


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A torch hub folder with seeded weights under the names that face_alignment looks for."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "checkpoints").mkdir()
    torch.manual_seed(0)
    torch.save(FAN(4).state_dict(), folder / "checkpoints" / FAN_FILE)
    torch.save(detector_weights(face=True), folder / "checkpoints" / DETECTOR_FILE)
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    yield folder
    torch.hub.set_dir(before)


@pytest.fixture(scope="module")
def tracker(hub: Path) -> FaceAlignmentTracker:
    return FaceAlignmentTracker("cpu", batch=4)


def frames(count: int) -> NDArray[np.uint8]:
    """Crops of the drawn face, each with its mouth opened differently."""
    return np.stack([crop(draw(5.0 * n), (30, 0, 120)) for n in range(count)])


def window(side: float, middle: float) -> list[float]:
    """The box for which face_alignment looks at a square of this side around this middle."""
    half = side * 195 / 800
    down = 0.12 * 2 * half
    return [middle - half, middle + down - half, middle + half, middle + down + half]


@pytest.mark.slow
def test_points_are_where_face_alignment_puts_them_within_its_rounding(
    tracker: FaceAlignmentTracker,
) -> None:
    pictures = frames(2)
    # Boxes whose windows are the whole picture, by its reckoning in whole pixels and by ours.
    expected = tracker.alignment.get_landmarks_from_batch(
        torch.from_numpy(pictures.transpose(0, 3, 1, 2)),
        detected_faces=[[np.array(window(257, 127.9))]] * 2,
    )
    boxes = np.array([window(256, 128)] * 2)
    points = tracker.points(pictures, boxes)
    assert points.shape == (2, 68, 2)
    # It rounds to a quarter of a cell of 4 pixels, and then down to whole pixels.
    assert np.abs(points - np.stack(expected)).max() < 3
    alone = tracker.points(pictures[1:], boxes[1:])
    assert np.abs(points[1:] - alone).max() < 0.05


@pytest.mark.slow
def test_the_command_tracks_a_video_with_it(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4", times=[0, 0.04], seconds=0.1, click=0.05)
    arguments = ["--source", str(tmp_path / "clips"), "--out", str(tmp_path / "out")]
    threads = torch.get_num_threads()
    cores = str(os.cpu_count())  # so that a process gets one thread
    try:
        assert main([*arguments, "--device", "cpu", "--batch", "2", "--processes", cores]) == 0
    finally:
        torch.set_num_threads(threads)
    (entry,) = Corpus(tmp_path / "out").entries
    assert (entry.fps, entry.tracked, entry.points) == (25, 1, (1, 2))


@pytest.mark.slow
def test_where_no_face_is_seen_none_is_found(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FAN_FILE).symlink_to(hub / "checkpoints" / FAN_FILE)
    torch.save(detector_weights(face=False), tmp_path / "checkpoints" / DETECTOR_FILE)
    torch.hub.set_dir(str(tmp_path))
    try:
        blind = FaceAlignmentTracker("cpu", batch=4)
    finally:
        torch.hub.set_dir(str(hub))
    assert blind.faces(frames(1)[0]).shape == (0, 4)
    points, found = blind.track(frames(2))
    assert points.shape == (2, 68, 2) and not found.any()


@pytest.mark.slow
def test_weights_that_cannot_be_loaded_are_told_with_their_place(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    torch.hub.set_dir(str(tmp_path))
    try:
        with pytest.raises(FaceFinderError, match=rf"cannot be loaded .*{tmp_path}/checkpoints"):
            FaceAlignmentTracker("cpu")
        (tmp_path / "checkpoints" / DETECTOR_FILE).write_bytes(b"half a download")
        with pytest.raises(FaceFinderError, match="weights cannot be loaded"):
            FaceAlignmentTracker("cpu")
    finally:
        torch.hub.set_dir(str(hub))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told(hub: Path) -> None:
    with pytest.raises(FaceFinderError, match="sees no CUDA GPU here; wanted --device cpu"):
        FaceAlignmentTracker("cuda")


def test_of_several_faces_the_large_one_in_the_middle_is_the_clips() -> None:
    small, large, aside = [40, 40, 60, 60], [30, 30, 70, 70], [-10, -10, 32, 32]
    face = main_face(np.array([small, large, aside], np.float64), 100, 100)
    assert face is not None and face.tolist() == large
    assert main_face(np.zeros((0, 4)), 100, 100) is None


def test_the_crop_holds_the_median_face_with_a_margin() -> None:
    boxes = np.array([[100, 50, 200, 150], [102, 50, 202, 150], [900, 900, 950, 950]], np.float64)
    left, top, side = square_around(boxes)
    assert side == 160 and (left, top) == (72, 20)


def test_peaks_of_heat_maps_are_placed_within_their_cells() -> None:
    rng = np.random.default_rng(0)
    expected = rng.uniform(3, 61, (2, 68, 2))
    y, x = np.mgrid[:64, :64] + 0.5
    far = (x - expected[..., 0, None, None]) ** 2 + (y - expected[..., 1, None, None]) ** 2
    off = np.abs(heatmap_peaks(np.exp(-far / 2)) * 64 - expected)
    assert off.max() < 0.1 and off.mean() < 0.05  # a quarter of a cell without the parabola
    corners = np.zeros((1, 2, 64, 64))
    corners[0, 0, 0, 0] = corners[0, 1, 63, 63] = 1
    assert heatmap_peaks(corners)[0].tolist() == [[0.5 / 64] * 2, [63.5 / 64] * 2]


REAL_WEIGHTS = Path(torch.hub.get_dir()) / "checkpoints"


@pytest.mark.skipif(
    not all((REAL_WEIGHTS / name).exists() for name in (FAN_FILE, DETECTOR_FILE)),
    reason=f"needs face_alignment's own weights in {REAL_WEIGHTS}, which are not here",
)
def test_the_real_weights_find_a_face_where_it_is() -> None:
    """Against marks set by hand on a portrait of 44 pixels between the eyes."""
    from skimage import data

    portrait: NDArray[np.uint8] = data.astronaut()
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(REAL_WEIGHTS.parent))
    try:
        real = FaceAlignmentTracker("cpu", batch=1)
    finally:
        torch.hub.set_dir(before)
    box = main_face(real.faces(portrait), 512, 512)
    assert box is not None
    (points,) = real.points(portrait[None], box[None])
    marks = {
        "right eye": (points[36:42].mean(0), (203, 101)),
        "left eye": (points[42:48].mean(0), (247, 103)),
        "tip of the nose": (points[30], (224, 127)),
        "right corner of the mouth": (points[48], (205, 140)),
        "left corner of the mouth": (points[54], (244, 142)),
        "chin": (points[8], (225, 178)),
    }
    for what, (found, mark) in marks.items():
        assert np.linalg.norm(found - mark) < 6, what
