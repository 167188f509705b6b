"""The mesh over a face: the table that the page and the video share, and faces under it."""

import numpy as np
import pytest

from client.video.mesh import FaceMesh, doubled_areas, table
from client.video.photo_face import uncrossed
from kfusion.landmarks import COUNT, NEUTRAL, RIGID, fit_similarity, inter_ocular
from tests.conftest import folder_of


def test_every_vertex_is_placed_by_vertices_before_it_and_every_triangle_has_three() -> None:
    mesh = table()
    for rows in (mesh.cuts, mesh.fixed, mesh.free):
        np.testing.assert_allclose(rows.sum(axis=1), 1, atol=2e-3)
    count = mesh.controls + len(mesh.free)
    assert set(mesh.triangles.ravel()) == set(range(count))
    assert all(len(set(triangle)) == 3 for triangle in mesh.triangles.tolist())


def test_no_triangle_of_the_neutral_face_is_turned_over_and_each_edge_has_two_sides() -> None:
    mesh = FaceMesh(uncrossed(NEUTRAL))
    assert doubled_areas(mesh.rest, mesh.triangles).min() > -1e-9
    assert len(mesh.skin) == len(mesh.triangles) - len(mesh.strips)
    sides = [(t[k - 1], t[k]) for t in mesh.triangles.tolist() for k in range(3)]
    assert len(set(sides)) == len(sides)
    outline = {a for a, b in sides if (b, a) not in set(sides)}
    assert len(outline) == 32  # the far ring: the mesh has no other hole
    assert np.linalg.norm(mesh.rest[list(outline)] - 128, axis=1).min() > 500


def test_all_vertices_go_with_a_head_that_moves_but_for_those_that_stand_still() -> None:
    mesh = FaceMesh(uncrossed(NEUTRAL))
    moved = mesh.spread(np.tile((3.0, -1.0), (COUNT, 1)), np.tile((3.0, -1.0), (len(mesh.rest), 1)))
    near = np.abs(mesh.rest - NEUTRAL[30]).max(axis=1) < 60
    np.testing.assert_allclose(moved[near], np.tile((3, -1), (near.sum(), 1)), atol=0.6)
    far = np.linalg.norm(mesh.rest - NEUTRAL[30], axis=1) > 300
    assert far.sum() >= 32 and not moved[far].any()


@pytest.mark.data
@pytest.mark.parametrize("folder", ["mead_expressions", "speakers", "grid_more"])
@pytest.mark.parametrize("roll", [0.0, -0.5])
def test_real_faces_do_not_fold_and_are_hardly_ever_held_back(folder: str, roll: float) -> None:
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    held = []
    for path in sorted(folder_of(folder).glob("*.npz"))[:8]:
        track = np.load(path)["points_q64"] / 64 @ turn
        mesh = FaceMesh(uncrossed(track[0]))
        size = float(inter_ocular(track[0]))
        assert mesh.folded_area < 0.005 * size**2
        for frame in track[:: len(track) // 10]:
            points = uncrossed(frame)
            head = fit_similarity(mesh.rest[list(RIGID)], points[list(RIGID)])
            target = mesh.target(points, head)
            assert (doubled_areas(target, mesh.skin) >= 0).all()
            held.append(np.abs(target[:COUNT] - points).max() > 0.05 * size)
    assert np.mean(held) < 0.2
