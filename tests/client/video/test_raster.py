"""Pictures through triangles: nothing is left out, nothing drawn twice."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from client.video.mesh import doubled_areas
from client.video.raster import Texture, packed, paint, runs_of

SIDE = 96
FRAME = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], float)


def scattered(seed: int, count: int = 40) -> NDArray[np.float64]:
    """Points in no special place, and the corners of the frame."""
    inside = np.random.default_rng(seed).uniform(1, SIDE - 1, (count, 2))
    return np.concatenate([inside, FRAME])


def triangulated(points: NDArray[Any]) -> NDArray[np.intp]:
    """Delaunay's triangles, each turned the same way."""
    return np.asarray(Delaunay(points).simplices, np.intp)


def owners(corners: NDArray[Any]) -> NDArray[np.int_]:
    """How many triangles each pixel belongs to."""
    runs, count = runs_of(corners, SIDE, SIDE), np.zeros((SIDE, SIDE), int)
    for y, first, end in zip(runs.y, runs.first, runs.end, strict=True):
        count[y, first:end] += 1
    return count


@given(st.integers(0, 10_000), st.floats(0, 3))
def test_every_pixel_belongs_to_one_triangle(seed: int, shake: float) -> None:
    points = scattered(seed)
    found = triangulated(points)
    moved = points.copy()
    moved[:40] += np.random.default_rng(seed).normal(size=(40, 2)) * shake
    if (doubled_areas(moved, found) < 0).any():
        moved = points  # turned over: not a mesh any more
    assert (owners(moved[found]) == 1).all()


def test_corners_in_the_middle_of_pixels_are_shared_out_too() -> None:
    points = np.round(scattered(3)) + np.r_[np.full((40, 2), 0.5), np.zeros((4, 2))]
    points = np.concatenate([np.unique(points[:40], axis=0), FRAME])
    assert (owners(points[triangulated(points)]) == 1).all()


def test_triangles_without_area_take_no_pixel_and_spoil_none() -> None:
    points = np.array([(20, 20), (76, 20), (76, 76), (20, 76), (48, 30), (48, 66)], float)
    found = triangulated(points)
    whole = owners(points[found])
    points[5] = points[4]  # as lips that meet
    assert (doubled_areas(points, found) == 0).sum() == 2
    np.testing.assert_array_equal(owners(points[found]), whole)


@given(st.integers(0, 10_000))
def test_a_picture_on_itself_is_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = packed(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    corners = (points := scattered(seed))[triangulated(points)]
    out = np.zeros_like(picture)
    paint(out, Texture(picture), corners, corners)
    np.testing.assert_array_equal(out, picture)


def test_between_pixels_colours_are_mixed_by_their_distance() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    picture = packed(np.stack([2 * x, y, 255 - x - y], axis=-1).astype(np.uint8))
    texture = Texture(picture)
    rng = np.random.default_rng(0)
    u, v = rng.uniform(0, SIDE - 1, (2, 500)).astype(np.float32)
    read = texture.read(u, v).view(np.uint8).reshape(-1, 4)
    wanted = np.stack([2 * u, v, 255 - u - v, np.full(500, 255)], axis=-1)
    np.testing.assert_allclose(read, wanted, atol=0.7)


def test_beyond_its_edge_a_picture_is_as_at_its_edge() -> None:
    picture = packed(np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
    far = np.array([-5, 9], np.float32)
    read = Texture(picture).read(far, far).view(np.uint8).reshape(-1, 4)
    np.testing.assert_array_equal(read[:, :3], [[0, 1, 2], [9, 10, 11]])
