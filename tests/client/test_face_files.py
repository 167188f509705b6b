"""Faces in files: points as pairs or with their photo, pictures within limits, portraits."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.errors import PictureError
from client.face_files import read_identity, read_photo, read_picture, read_portrait
from kfusion.errors import BadIdentity
from kfusion.landmarks import NEUTRAL, with_mouth_shut
from tests.client.video.faces import SIDE, mouth, photo

# Points


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_face_is_read_as_pairs_or_as_an_object_of_them(tmp_path: Path, wrapped: bool) -> None:
    pairs = (2 * NEUTRAL).tolist()
    path = tmp_path / "face.json"
    path.write_text(json.dumps({"points": pairs, "name": "me"} if wrapped else pairs))
    np.testing.assert_array_equal(read_identity(path), 2 * NEUTRAL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "wanted JSON"),
        ("[]", "68"),
        ("[[1, 2, 3]]", "wanted JSON"),
        (json.dumps([[5.0, 5.0]] * 68), "inter-ocular"),
    ],
)
def test_what_is_no_face_is_refused_with_its_files_name(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "face.json").write_text(text)
    with pytest.raises(BadIdentity, match=rf"face\.json: .*{message}"):
        read_identity(tmp_path / "face.json")


def test_the_points_of_a_photo_are_those_that_lie_in_it_and_fit_its_size(tmp_path: Path) -> None:
    pixels, points = photo(mouth(14))
    path, me = tmp_path / "me.json", tmp_path / "me.png"
    Image.fromarray(pixels).save(me)
    pairs, shut = points.tolist(), with_mouth_shut(points).tolist()
    for data in (
        pairs,
        {"points": pairs},
        {"points": pairs, "width": SIDE, "height": SIDE},
        {"points": shut, "photo": pairs},
    ):
        path.write_text(json.dumps(data))
        read, in_photo = read_photo(me, path)
        np.testing.assert_array_equal(read, pixels)
        np.testing.assert_allclose(in_photo, points)
    path.write_text(json.dumps({"points": pairs, "width": 640, "height": 480}))
    with pytest.raises(PictureError, match=r"a photo of 640 x 480 pixels, and .*me\.png has 384"):
        read_photo(me, path)
    path.write_text("{}")
    with pytest.raises(BadIdentity, match=r"me\.json: .*; wanted JSON: 68 pairs"):
        read_photo(me, path)


# Pictures; what Pillow can and cannot decode is tested in tests/kfusion/test_faces.py


def test_a_picture_is_turned_upright_and_put_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:5] = (250, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright = read_picture(tmp_path / "a.jpg")
    assert upright.shape == (30, 20, 3)
    assert upright[15, 18, 0] > 200 and upright[15, 2, 0] < 50
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_picture(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_file_that_is_no_whole_picture_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    cut_off = path.read_bytes()[:3000]
    for data in (b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, cut_off):
        path.write_bytes(data)
        with pytest.raises(PictureError, match=rf"a\.{suffix}: .*; wanted a whole JPEG"):
            read_picture(path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_read(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_500)).save(tmp_path / "big.png")
    with pytest.raises(PictureError, match=r"big\.png: a picture of 10000 x 9500 .* 64 mega"):
        read_picture(tmp_path / "big.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(PictureError, match=r"bomb\.png: a picture of far too many pixels"):
        read_picture(tmp_path / "bomb.png")


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"none\.jpg: cannot be read \(No such file"):
        read_picture(tmp_path / "none.jpg")


# Portraits


def test_a_portrait_is_found_by_its_name(tmp_path: Path) -> None:
    pixels, points = photo()
    Image.fromarray(pixels).save(tmp_path / "ada.webp", lossless=True)
    index = tmp_path / "portraits.json"
    entry = {"name": "ada", "label": "Ada", "image": "ada.webp", "points": points.tolist()}
    index.write_text(json.dumps([entry]))
    read, read_points = read_portrait("ada", index)
    np.testing.assert_array_equal(read, pixels)
    np.testing.assert_allclose(read_points, points)
    with pytest.raises(PictureError, match="no portrait 'eve'; wanted one of ada"):
        read_portrait("eve", index)


def test_without_portraits_that_is_the_error(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="comes without portraits"):
        read_portrait("ada", tmp_path / "portraits.json")
    (tmp_path / "portraits.json").write_text("{}")
    with pytest.raises(PictureError, match="wanted a list of portraits"):
        read_portrait("ada", tmp_path / "portraits.json")
