"""The drawn face and the preview video, decoded again."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.video import mp4 as video
from client.video.curves import spline
from client.video.drawn_face import VIEW, DrawnFace, draw_face
from client.video.mp4 import write_video
from kfusion.landmarks import NEUTRAL
from kfusion.mp4 import video_codec
from tests.client.video.faces import decode, mouth
from tests.conftest import voice

av = pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")

Pixels = NDArray[np.int16]


def pixels(face: NDArray[Any], size: int = 256) -> Pixels:
    return np.asarray(draw_face(face, size)).astype(np.int16)


def place(face: NDArray[Any], i: int, size: int = 256) -> tuple[int, int]:
    """Row and column of landmark i in the picture."""
    x, y = (face[i] - VIEW[:2]) * size / VIEW[2]
    return round(float(y)), round(float(x))


# The face


def test_the_dark_of_the_mouth_grows_with_the_opening() -> None:
    def dark(face: NDArray[Any]) -> int:
        row, column = place(face, 62)
        region = pixels(face)[row - 4 : row + 24, column - 16 : column + 16]
        return int((region.sum(axis=-1) < 200).sum())

    amounts = [dark(mouth(opening)) for opening in (0, 8, 16)]
    assert amounts[0] < 4
    assert amounts[0] < amounts[1] < amounts[2]


def test_skin_lips_hair_and_background_lie_where_they_belong() -> None:
    picture = pixels(NEUTRAL)
    chin = NEUTRAL.copy()
    chin[8] -= (0, 12)
    red, green, blue = picture[place(chin, 8)]
    assert red > green > blue
    lip = NEUTRAL.copy()
    lip[57] -= (0, 4)
    assert picture[place(lip, 57)][0] - picture[place(lip, 57)][1] > red - green
    assert picture[20, 128].sum() < 300
    assert picture[5, 5].min() > 200


def test_a_strange_face_is_drawn_all_the_same() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.0, 30.0, 500.0):
        assert pixels(NEUTRAL + rng.normal(scale=scale, size=(68, 2)), 64).shape == (64, 64, 3)


def test_a_spline_goes_through_its_points() -> None:
    points = np.array([(0, 0), (2, 1), (3, 5), (1, 6)], float)
    for curve in (spline(points), spline(points, closed=True)):
        gaps = np.linalg.norm(curve[:, None] - points, axis=-1).min(axis=0)
        np.testing.assert_allclose(gaps, 0, atol=1e-12)


# The video


@pytest.mark.parametrize("rate", [16_000, 44_100, 37_000])
def test_every_frame_and_all_the_sound_are_there(tmp_path: Path, rate: int) -> None:
    sound = voice(1.05, rate)
    count = -(-30 * len(sound) // rate)
    faces = np.repeat(NEUTRAL[None], count, axis=0)
    write_video(tmp_path / "a.mp4", faces, sound, rate, DrawnFace(side=64))
    pictures, decoded, sound_rate = decode(tmp_path / "a.mp4")
    assert len(pictures) == count == 32
    assert [float(p.time) for p in pictures] == pytest.approx([n / 30 for n in range(32)], abs=1e-3)
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].average_rate == 30
    assert sound_rate == (rate if rate in video.AAC_RATES else 48_000)
    assert len(decoded) / sound_rate == pytest.approx(1.05, abs=2 * 1024 / sound_rate)


def test_sound_and_picture_are_in_step(tmp_path: Path) -> None:
    rate, onset = 16_000, 20
    sound = np.zeros(rate, np.float32)
    sound[onset * rate // 30 :] = 0.5 * np.sin(np.arange(rate - onset * rate // 30) * 0.4)
    faces = np.stack([mouth(14 if n >= onset else 0) for n in range(30)])
    write_video(tmp_path / "a.mp4", faces, sound, rate, DrawnFace(side=128))
    with av.open(str(tmp_path / "a.mp4")) as file:
        begins = next(float(f.time) for f in file.decode(audio=0))
    pictures, decoded, sound_rate = decode(tmp_path / "a.mp4")
    images = [p.to_ndarray(format="rgb24").astype(np.int16) for p in pictures]
    change = [float(np.abs(b - a).mean()) for a, b in pairwise(images)]
    assert int(np.argmax(change)) + 1 == onset
    loud = begins + int(np.flatnonzero(np.abs(decoded) > 0.2)[0]) / sound_rate
    assert loud == pytest.approx(onset / 30, abs=0.02)


def test_a_face_in_its_own_coordinates_is_drawn_as_the_canonical_one(tmp_path: Path) -> None:
    own = 3 * NEUTRAL + (500, -200)
    for name, faces, identity in (("a", NEUTRAL, None), ("b", own, own)):
        drawer = DrawnFace(identity, 64)
        write_video(tmp_path / f"{name}.mp4", faces[None], voice(1 / 30), 16_000, drawer)
    a, b = (decode(tmp_path / f"{n}.mp4")[0][0].to_ndarray(format="rgb24") for n in "ab")
    np.testing.assert_allclose(a.astype(int), b.astype(int), atol=3)


def test_without_h264_the_video_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = av.Codec

    def without(name: str, mode: str = "r") -> Any:
        return real("no such codec" if name == "libx264" else name, mode)

    monkeypatch.setattr(av, "Codec", without)
    assert video_codec()[0] == "mpeg4"
    faces = np.repeat(NEUTRAL[None], 6, 0)
    write_video(tmp_path / "a.mp4", faces, voice(0.2), 16_000, DrawnFace(side=64))
    assert len(decode(tmp_path / "a.mp4")[0]) == 6
