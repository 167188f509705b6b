"""Clients' pictures: decoded upright, within limits, whatever is in their bytes."""

import contextlib
import io
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kfusion.errors import BadMessage, NoFace, TooBig, WireError
from kfusion.faces.decode import MAX_BYTES, MAX_PIXELS, ORIENTATION, decode_picture
from kfusion.faces.resting_face import (
    MOUTH_WAS_SHUT,
    find_resting_face,
    head_turn,
    only_face,
    resting_face,
)
from kfusion.landmarks import NEUTRAL, lip_gap
from tests.drawn_photo import SIDE, DotFinder, bytes_of, photo, points_in_photo
from tests.kfusion.bad_pictures import BAD


@pytest.mark.parametrize("name", BAD)
def test_what_no_face_can_be_found_in_is_refused_by_code_and_in_words(name: str) -> None:
    data, code, words = BAD[name]
    with pytest.raises(WireError) as caught:
        find_resting_face(decode_picture(data), DotFinder())
    assert caught.value.code == code and words in str(caught.value)


def test_a_bomb_is_told_by_its_header_and_takes_no_memory() -> None:
    data = BAD["a PNG bomb"][0]
    decode_picture(bytes_of(photo(64)))  # Pillow's own modules
    tracemalloc.start()
    try:
        with pytest.raises(TooBig):
            decode_picture(data)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_as_many_pixels_as_are_allowed_are_decoded() -> None:
    widest = Image.new("RGB", (4000, MAX_PIXELS // 4000), "white")
    assert decode_picture(bytes_of(widest)).shape == (4000, 4000, 3)


def test_as_many_bytes_as_are_allowed_are_read() -> None:
    data = bytes_of(photo(64), "JPEG")
    assert decode_picture(data.ljust(MAX_BYTES, b"\0")).shape == (64, 64, 3)
    with pytest.raises(TooBig, match="700001 bytes"):
        decode_picture(data.ljust(MAX_BYTES + 1, b"\0"))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("way", range(1, 9))
def test_points_are_those_of_the_picture_as_it_is_to_be_held(form: str, way: int) -> None:
    seen = photo(300).resize((300, 360))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = seen.transpose(back[way]) if way in back else seen
    exif = Image.Exif()
    exif[ORIENTATION] = way
    pixels = decode_picture(bytes_of(stored, form, exif=exif))
    assert pixels.shape == (360, 300, 3)
    assert np.abs(pixels.astype(int) - np.asarray(seen)).mean() < 2


@pytest.mark.parametrize("exif", [b"Exif\0\0" + b"\xff" * 60_000, b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_that_cannot_be_read_turns_nothing(exif: bytes) -> None:
    assert decode_picture(bytes_of(photo(64), "JPEG", exif=exif)).shape == (64, 64, 3)


def modes() -> dict[str, bytes]:
    """The same photo as it may be stored otherwise."""
    picture = photo()
    grey = np.asarray(picture.convert("L"))
    clear = picture.convert("RGBA")
    clear.putalpha(255)
    frames = io.BytesIO()
    picture.save(frames, "PNG", save_all=True, append_images=[Image.new("RGB", picture.size)])
    return {
        "CMYK": bytes_of(picture.convert("CMYK"), "JPEG", quality=95),
        "grey": bytes_of(picture.convert("L"), "JPEG", quality=95),
        "16 bits of grey": bytes_of(Image.fromarray(grey.astype(np.uint16) * 257)),
        "a palette": bytes_of(picture.quantize(256)),
        "with alpha": bytes_of(clear),
        "animated": frames.getvalue(),
        "progressive": bytes_of(picture, "JPEG", quality=95, progressive=True),
    }


@pytest.mark.parametrize("name", modes())
def test_a_photo_is_seen_as_it_looks_however_it_is_stored(name: str) -> None:
    pixels = decode_picture(modes()[name]).astype(float)
    expected = np.asarray(photo(), float)
    if "grey" in name:
        expected = np.repeat(np.asarray(photo().convert("L"), float)[..., None], 3, axis=2)
    assert pixels.shape == (SIDE, SIDE, 3) and np.abs(pixels - expected).mean() < 4


def test_what_is_transparent_lies_on_white() -> None:
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (decode_picture(bytes_of(picture)) == 255).all()


@given(data=st.data())
def test_bytes_that_were_changed_raise_only_the_wires_errors(data: st.DataObject) -> None:
    good = bytearray(bytes_of(photo(32), data.draw(st.sampled_from(["PNG", "JPEG"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    with contextlib.suppress(BadMessage, TooBig):
        decode_picture(bytes(good[: cut or None]))


# The face in a picture


def test_a_face_is_found_in_pixels_of_the_picture() -> None:
    for times in (1, 4):  # as the detector sees it, and larger
        size = times * SIDE
        picture = photo().resize((size, size), Image.Resampling.BICUBIC)
        face = find_resting_face(decode_picture(bytes_of(picture)), DotFinder())
        assert np.abs(face.points - points_in_photo(size)).max() < times and not face.note


def turned(share: float) -> np.ndarray[Any, Any]:
    """The neutral face with a nose that points to the side."""
    points = NEUTRAL.copy()
    points[28:36, 0] += np.array([0.3, 0.6, 1, 0.6, 0.7, 0.8, 0.9, 1]) * share * 45.9
    return points


@pytest.mark.parametrize(("share", "side"), [(0.4, "right"), (-0.4, "left"), (1.0, "right")])
def test_a_head_that_looks_to_the_side_is_told_to_look_here(share: float, side: str) -> None:
    points = turned(share)
    assert head_turn(points) == pytest.approx(share, abs=0.01)
    with pytest.raises(WireError, match=f"turned to the {side} .* looks into the camera") as caught:
        resting_face(points)
    assert caught.value.code == "bad_identity"
    assert resting_face(turned(0.2)).note == ""


def test_what_has_no_points_where_a_face_has_them_is_none() -> None:
    points = np.random.default_rng(0).uniform(0, 256, (68, 2))
    points[[30, 36, 45]] = (128, 128), (80, 100), (176, 100)
    with pytest.raises(NoFace, match="looks like a face"):
        resting_face(points)


def test_an_open_mouth_is_shut_and_that_is_said() -> None:
    open_ = NEUTRAL.copy()
    open_[[65, 66, 67, *range(55, 60), *range(5, 12)], 1] += 14
    roll = np.array([[0.94, -0.34], [0.34, 0.94]]) * 3
    face = resting_face(open_ @ roll.T + 100)
    straight = (face.points - 100) @ np.linalg.inv(roll).T
    assert face.note == MOUTH_WAS_SHUT and face.seen is not None
    assert np.array_equal(face.seen, open_ @ roll.T + 100)
    assert abs(lip_gap(straight)) < 0.01
    assert np.abs(straight[:4] - NEUTRAL[:4]).max() < 0.01
    assert np.abs(straight[8] - NEUTRAL[8]).max() < 1 and straight[57, 1] < open_[57, 1] - 10
    again = resting_face(face.points)
    assert not again.note and again.seen is None and np.array_equal(again.points, face.points)


def test_a_face_in_the_background_does_not_count() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    large, small = [10, 10, 110, 130], [300, 10, 340, 60]
    assert only_face(np.array([small, large], float), picture).tolist() == large
    with pytest.raises(NoFace, match=r"2 faces .* cropped"):
        only_face(np.array([large, [200, 10, 260, 90]], float), picture)
