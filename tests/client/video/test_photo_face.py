"""A photographed face that speaks: the warp's laws, on a drawn face whose points are known."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.errors import PictureError
from client.face_files import PORTRAITS, read_portrait
from client.video.mesh import doubled_areas
from client.video.photo_face import PhotoFace, uncrossed
from client.video.raster import runs_of
from kfusion.emotion import EMOTIONS
from kfusion.errors import BadIdentity
from kfusion.landmarks import COUNT, RIGID, fit_similarity, lip_gap, with_mouth_shut
from kfusion.life import LOWER_LID
from kfusion.runtime import Animator
from tests.client.video.faces import SIDE, mouth, photo
from tests.conftest import voice


def blink(face: NDArray[Any], share: float) -> NDArray[Any]:
    shut = face.copy()
    for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
        way = share * (face[lower] - face[upper])
        shut[upper] += (1 - LOWER_LID) * way
        shut[lower] -= LOWER_LID * way
    return shut


@pytest.fixture(scope="module")
def still() -> PhotoFace:
    return PhotoFace(*photo())


@pytest.fixture(scope="module")
def agape() -> PhotoFace:
    """Of a photo whose mouth is open."""
    return PhotoFace(*photo(mouth(14)))


def changed(picture: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    return np.abs(picture.astype(int) - other).max(axis=-1) > 2


def box(face: PhotoFace, indices: list[int], edge: float = 6) -> NDArray[np.bool_]:
    """The pixels around some of the points."""
    high, wide = face.photo.shape[:2]
    (left, top), (right, low) = (f(face.rest[indices], axis=0) for f in (np.min, np.max))
    y, x = np.mgrid[:high, :wide]
    across = (x > left - edge) & (x < right + edge)
    return across & (y > top - edge) & (y < low + edge)


MOUTH = list(range(48, 68))


# At rest


def test_at_rest_the_picture_is_the_photo(still: PhotoFace) -> None:
    rest = still.draw(still.identity)
    assert not changed(rest, still.photo)[~box(still, MOUTH)].any()
    np.testing.assert_array_equal(rest[..., 3], 255)


def test_a_face_that_was_open_is_shut_at_rest_and_else_the_same(agape: PhotoFace) -> None:
    rest = agape.draw(agape.identity)
    assert not changed(rest, agape.photo)[: int(agape.rest[30, 1])].any()
    inside = box(agape, [61, 62, 63, 65, 66, 67], edge=-2)
    bright = (agape.photo[..., :3].sum(axis=-1) > 600) & inside
    assert bright.sum() > 40  # teeth
    assert ((rest[..., :3].sum(axis=-1) > 600) & inside).sum() < 0.05 * bright.sum()


def test_the_identity_has_its_lips_closed_and_the_rest_in_place() -> None:
    points = photo(mouth(14))[1]
    shut = with_mouth_shut(points)
    assert lip_gap(shut) == pytest.approx(0) and lip_gap(points) > 5
    same = [*range(4), *range(13, 55), *range(60, 65)]
    np.testing.assert_allclose(shut[same], points[same])
    assert (shut[6:11, 1] < points[6:11, 1]).all()  # the jaw rises with the lip
    np.testing.assert_allclose(with_mouth_shut(shut), shut)


def test_shutting_a_mouth_goes_along_with_a_head_that_is_rolled() -> None:
    points = photo(mouth(14))[1]
    turn = np.array([[np.cos(0.5), np.sin(0.5)], [-np.sin(0.5), np.cos(0.5)]])
    np.testing.assert_allclose(with_mouth_shut(points @ turn), with_mouth_shut(points) @ turn)


def test_lips_that_passed_one_another_meet_and_corners_stay_within() -> None:
    face = photo()[1]
    face[66, 1] -= 3
    face[60, 1] += 20
    ordered = uncrossed(face)
    np.testing.assert_allclose(ordered[66], ordered[62])
    assert ordered[60, 1] < face[60, 1]
    np.testing.assert_allclose(uncrossed(ordered), ordered, atol=1e-9)


# Moving


def faces(model: Animator, face: PhotoFace, feeling: str) -> NDArray[Any]:
    return model.animate(voice(1.5), 16_000, identity=face.identity, emotion={feeling: 1.0})


@pytest.mark.parametrize("feeling", EMOTIONS)
def test_no_triangle_turns_over_in_what_the_model_says(
    model: Animator, still: PhotoFace, agape: PhotoFace, feeling: str
) -> None:
    for face in (still, agape):
        for frame in faces(model, face, feeling):
            points = uncrossed(face.to_picture(frame))
            head = fit_similarity(face.rest[list(RIGID)], points[list(RIGID)])
            target = face.mesh.target(points, head)
            assert doubled_areas(target, face.mesh.skin).min() >= 0
            np.testing.assert_allclose(target[:COUNT], points, atol=1e-6)  # nothing was damped


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 60))
def test_every_pixel_is_covered_once_whatever_comes(
    still: PhotoFace, seed: int, scale: float
) -> None:
    wild = still.rest[:COUNT] + np.random.default_rng(seed).normal(size=(COUNT, 2)) * scale
    head = fit_similarity(still.rest[list(RIGID)], wild[list(RIGID)])
    target = still.mesh.target(uncrossed(wild), head)
    assert doubled_areas(target, still.mesh.skin).min() >= 0
    wide, high = still.size
    # Between lips or lids that are awry a triangle may turn over: it takes away what others share.
    sides = np.where(doubled_areas(target, still.triangles) < 0, -1, 1)
    runs, count = runs_of(target[still.triangles], wide, high), np.zeros((high, wide), int)
    for triangle, y, first, end in zip(runs.triangle, runs.y, runs.first, runs.end, strict=True):
        count[y, first:end] += sides[triangle]
    assert (count == 1).all()


def test_the_same_points_give_the_same_picture(model: Animator) -> None:
    one, other = PhotoFace(*photo()), PhotoFace(*photo())
    np.testing.assert_array_equal(one.triangles, other.triangles)
    frames = faces(model, one, "happy")
    first = [one.draw(frame) for frame in frames]
    again = [other.draw(frame) for frame in frames[::-1]][::-1]
    np.testing.assert_array_equal(np.stack(first), np.stack(again))


def test_the_dark_of_the_mouth_grows_with_the_opening_and_is_within_the_lips(
    still: PhotoFace,
) -> None:
    dark = []
    for opening in (0, 6, 12, 18):
        drawn = still.draw(photo(mouth(opening))[1]).astype(int)
        moved = drawn[..., :3].sum(axis=-1) < 220
        around = box(still, [*range(60, 68)], edge=4)
        around[int(still.rest[66, 1]) :] |= box(still, MOUTH)[int(still.rest[66, 1]) :]
        dark.append(int((moved & around).sum()))
        assert not changed(drawn, still.photo)[: int(still.rest[33, 1])].any()
    assert dark[0] < 5 and dark == sorted(dark) and dark[3] > 100


def test_an_eye_that_shuts_is_covered_not_squeezed(still: PhotoFace) -> None:
    eye = box(still, [*range(36, 42)], edge=0)
    white = [
        int(((still.draw(blink(still.identity, share))[..., :3].min(axis=-1) > 215) & eye).sum())
        for share in (0, 0.5, 1)
    ]
    assert white[0] > 20 and white[1] < white[0] and white[2] == 0
    # What shows of the iris, half shut, is where it was.
    half = still.draw(blink(still.identity, 0.5))
    x, y = still.rest[36:42].mean(axis=0)
    assert abs(int(half[int(y) + 2, int(x), 0]) - int(still.photo[int(y) + 2, int(x), 0])) < 30


def test_a_head_that_rolls_takes_the_face_along(still: PhotoFace) -> None:
    middle = still.identity[30]
    turn = np.array([[np.cos(0.03), np.sin(0.03)], [-np.sin(0.03), np.cos(0.03)]])
    drawn = still.draw((still.identity - middle) @ turn + middle)
    x, y = np.round(still.to_picture(still.identity[36])).astype(int)
    assert changed(drawn, still.photo)[y - 5 : y + 5, x - 8 : x + 8].any()
    assert (
        not changed(drawn, still.photo)[:4].any() and not changed(drawn, still.photo)[:, :4].any()
    )


# Which part of the photo is shown


def test_a_large_photo_is_cut_to_the_head_and_scaled() -> None:
    small, points = photo()
    wide = np.full((900, 1600, 3), 90, np.uint8)
    wide[300 : 300 + SIDE, 700 : 700 + SIDE] = small
    moved = np.array([700, 300])
    face = PhotoFace(wide, points + moved, side=320)
    assert max(face.size) == 320 and not any(n % 2 for n in face.size)
    inside = face.to_picture(face.identity)
    assert (inside > 0).all() and (inside < face.size).all()
    drawn = face.draw(photo(mouth(10))[1] + moved)
    assert changed(drawn, face.photo).any()


def test_a_face_at_the_edge_of_its_photo_works_too() -> None:
    pixels, points = photo()
    left, top = np.floor(points.min(axis=0)).astype(int) + 6  # the jaw's ends lie outside
    face = PhotoFace(pixels[top:, left:], points - (left, top))
    assert not changed(face.draw(face.identity), face.photo)[~box(face, MOUTH)].any()
    assert changed(face.draw(photo(mouth(14))[1] - (left, top)), face.photo).any()


def test_points_beside_the_photo_are_refused() -> None:
    pixels, points = photo()
    with pytest.raises(PictureError, match="outside the picture of 384 x 384 pixels"):
        PhotoFace(pixels, points + 400)


def test_points_that_are_no_face_from_the_front_are_refused() -> None:
    pixels, points = photo()
    knotted = points.copy()
    knotted[[48, 51, 54, 57]] = knotted[[54, 57, 48, 51]]
    with pytest.raises(PictureError, match="seen from the front"):
        PhotoFace(pixels, knotted)
    with pytest.raises(BadIdentity):
        PhotoFace(pixels, points[:67])


# Portraits


def test_the_portraits_of_the_page_can_all_be_warped() -> None:
    for one in json.loads(PORTRAITS.read_text()):
        face = PhotoFace(*read_portrait(one["name"]))
        assert not changed(face.draw(face.identity), face.photo)[~box(face, MOUTH)].any()
