"""The mesh of a photographed face: the one that the page warps photos by.

``client/viewer/photo/face-mesh.json`` lists its vertices, how far each follows others, and its
triangles; ``face-mesh.js`` beside it describes them. They are the same for every face.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfusion.landmarks import COUNT, Points, Similarity, chin_direction

TABLE: Final = Path(__file__).parents[1] / "viewer" / "photo" / "face-mesh.json"
HOLES: Final = ("inner", "right", "left")
LINE: Final = 1e-6  # squared distances between the eyes: twice the area of hardly more than a line

Triangles = NDArray[np.intp]
"""(T, 3): the corners of each, as indices of points; clockwise on the screen."""


class _Vertex(msgspec.Struct, frozen=True):
    """``shares``: of earlier vertices, flat; ``by`` is in the face's axes and its size."""

    shares: list[float] = msgspec.field(name="from")
    by: tuple[float, float]
    follows: list[float] = msgspec.field(default_factory=list[float])


class _File(msgspec.Struct, frozen=True):
    curves: dict[str, list[int]]
    cuts: list[list[float]]
    head: list[_Vertex]
    still: list[_Vertex]
    free: list[_Vertex]
    triangles: list[int]


class _Table:
    """The file as matrices: rows of shares of the vertices before them."""

    def __init__(self, file: _File) -> None:
        self.curves = file.curves
        self.cuts = _matrix(file.cuts, COUNT)
        fixed = [*file.head, *file.still]
        self.fixed = _matrix((v.shares for v in fixed), COUNT)
        self.follows = _matrix((v.follows for v in file.head), COUNT)
        self.controls = COUNT + len(file.cuts) + len(fixed)
        self.free = _matrix((v.shares for v in file.free), self.controls)
        self.fixed_by, self.free_by = (np.array([v.by for v in vs]) for vs in (fixed, file.free))
        # From corner to corner of each hole, those above and those below.
        self.rims = {
            hole: (file.curves[f"{hole}Top"], file.curves[f"{hole}Low"][::-1]) for hole in HOLES
        }
        self.above = np.concatenate([above[1:-1] for above, _ in self.rims.values()])
        self.below = np.concatenate([below[1:-1] for _, below in self.rims.values()])
        self.strips = np.concatenate([_strip(*self.rims[hole]) for hole in HOLES])
        skin = np.reshape(file.triangles, (-1, 3)).astype(np.intp)
        self.triangles = np.concatenate([self.strips, skin])


@cache
def table() -> _Table:
    return _Table(msgspec.json.decode(TABLE.read_bytes(), type=_File))


def _matrix(rows: Iterable[list[float]], width: int) -> NDArray[np.float64]:
    listed = list(rows)
    matrix = np.zeros((len(listed), width))
    for row, shares in zip(matrix, listed, strict=True):
        row[np.array(shares[::2], int)] = shares[1::2]
    return matrix


def _strip(above: list[int], below: list[int]) -> Triangles:
    """Triangles between two rows of vertices that begin and end in the same ones."""
    quads = zip(above, above[1:], below[1:], below, strict=False)
    halves = [half for a, b, c, d in quads for half in ((a, b, c), (a, c, d))]
    return np.array([half for half in halves if len(set(half)) == 3], np.intp)


def doubled_areas(points: NDArray[Any], triangles: Triangles) -> NDArray[np.float64]:
    """Twice the signed area of each of (T, 3) triangles of (N, 2) points, (T,)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    u, v = b - a, c - a
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]


class FaceMesh:
    """Over the (68, 2) ``landmarks`` of a face, whose lips and lids are in order.

    ``rest`` (N, 2): the vertices, the landmarks first. ``triangles`` (T, 3): ``strips`` between the
    lips and the lids, without area where these have met; then the skin.
    """

    def __init__(self, landmarks: Points) -> None:
        self.table = table()
        self.triangles, self.strips = self.table.triangles, self.table.strips
        self.down = chin_direction(landmarks)
        across = landmarks[45] - landmarks[36]
        axes = np.stack([across, np.linalg.norm(across) * self.down])
        known = self._met(np.concatenate([landmarks, self.table.cuts @ landmarks]))
        fixed = self.table.fixed @ landmarks + self.table.fixed_by @ axes
        held = np.concatenate([known, fixed])
        self.rest = np.concatenate([held, self.table.free @ held + self.table.free_by @ axes])
        self.skin = self.triangles[len(self.strips) :]
        areas = doubled_areas(self.rest, self.skin)
        self.folded_area = -float(areas[areas < 0].sum()) / 2
        self.skin = self.skin[areas > LINE * float(across @ across)]

    def _met(self, vertices: Points) -> Points:
        """Rims that have passed one another between two landmarks meet halfway."""
        above, below = self.table.above, self.table.below
        passed = np.maximum(0, (vertices[above] - vertices[below]) @ self.down)[:, None] / 2
        vertices[above] -= passed * self.down
        vertices[below] += passed * self.down
        return vertices

    def spread(self, moved: Points, head: Points | None = None) -> Points:
        """How far all vertices move with (68, 2) movements of the landmarks.

        ``head`` (N, 2): how far the head alone moves each; without it the head stands still.
        """
        cuts = self.table.cuts @ moved
        out = np.zeros_like(self.rest)
        first, last = COUNT + len(cuts), COUNT + len(cuts) + len(self.table.follows)
        out[:COUNT], out[COUNT:first] = moved, cuts
        if head is None:
            out[first:last] = self.table.follows @ moved
        else:
            out[first:last] = head[first:last] + self.table.follows @ (moved - head[:COUNT])
        out[self.table.controls :] = self.table.free @ out[: self.table.controls]
        return out

    def target(self, landmarks: Points, head: Similarity) -> Points:
        """Where all vertices go when the landmarks are there; no triangle turns over."""
        moved = self.spread(landmarks - self.rest[:COUNT], head.apply(self.rest) - self.rest)
        share = np.ones((len(moved), 1))
        for _ in range(24):
            target = self._met(self.rest + share * moved)
            over = doubled_areas(target, self.skin) < 0
            if not over.any():
                return target
            share[np.unique(self.skin[over])] *= 0.7
        return self.rest
