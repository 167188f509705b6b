"""A plane divided into triangles: Delaunay's, with edges that must be among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Triangles = NDArray[np.intp]
"""(T, 3): the corners of each, as indices of points; counter-clockwise where y points up."""

_Corners = tuple[int, int, int]
FLAT: Final = 1e-9


def doubled_areas(points: NDArray[Any], triangles: Triangles) -> NDArray[np.float64]:
    """Twice the signed area of each of (T, 3) triangles of (N, 2) points, (T,)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    u, v = b - a, c - a
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]


def triangulate(
    points: NDArray[Any],
    edges: Iterable[tuple[int, int]] = (),
    *,
    frame: int = 4,
) -> Triangles:
    """Delaunay's triangles of (N, 2) points, then changed until ``edges`` are among theirs.

    The last ``frame`` points are the corners of a rectangle, in order around it, with all others
    inside. By insertion (Bowyer 1981, Watson 1981), and edges put in by flips (Sloan 1993).

    Raises ``ValueError`` where two points coincide or edges cross.
    """
    p = np.asarray(points, np.float64)
    corners = list(range(len(p) - frame, len(p)))
    found: list[_Corners] = [_turned(p, corners[0], corners[k], corners[k + 1]) for k in (1, 2)]
    for i in range(len(p) - frame):
        found = _with(p, found, i)
    mesh = _Mesh(p, found)
    wanted = list(edges)
    fixed = {frozenset(edge) for edge in wanted}
    for a, b in wanted:
        mesh.put(a, b, fixed)
    return np.array(sorted(mesh.triangles), np.intp)


def _turned(p: NDArray[np.float64], a: int, b: int, c: int) -> _Corners:
    return (a, b, c) if _area(p, a, b, c) > 0 else (a, c, b)


def _area(p: NDArray[np.float64], a: int, b: int, c: int) -> float:
    (ax, ay), (bx, by), (cx, cy) = p[[a, b, c]].tolist()
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def _with(p: NDArray[np.float64], found: list[_Corners], i: int) -> list[_Corners]:
    """The triangles once point ``i`` is among their corners."""
    inside = _circles_hold(p, np.array(found), p[i])
    gone = [triangle for triangle, hit in zip(found, inside, strict=True) if hit]
    sides = list(chain.from_iterable(_sides(triangle) for triangle in gone))
    outline = [side for side in sides if side[::-1] not in set(sides)]
    new = [(a, b, i) for a, b in outline if abs(_area(p, a, b, i)) > FLAT]
    if len(new) < 3:
        raise ValueError(f"point {i} coincides with another or lies on the frame")
    return [t for t, hit in zip(found, inside, strict=True) if not hit] + new


def _sides(triangle: _Corners) -> Iterator[tuple[int, int]]:
    a, b, c = triangle
    yield from ((a, b), (b, c), (c, a))


def _circles_hold(
    p: NDArray[np.float64], triangles: Triangles, at: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which circles through three corners have ``at`` (2,) inside."""
    d = p[triangles] - at  # (T, 3, 2)
    rows = np.concatenate([d, (d * d).sum(axis=-1, keepdims=True)], axis=-1)
    return np.linalg.det(rows) > FLAT


class _Mesh:
    """Triangles that change by flips: two that share an edge become the other two of their four."""

    def __init__(self, points: NDArray[np.float64], triangles: Iterable[_Corners]) -> None:
        self.points = points
        self.triangles: set[_Corners] = set()
        self.across: dict[tuple[int, int], int] = {}  # directed edge -> the third corner
        for triangle in triangles:
            self._add(triangle)

    def _add(self, triangle: _Corners) -> None:
        a, b, c = triangle
        k = triangle.index(min(triangle))
        self.triangles.add((triangle * 2)[k : k + 3])  # pyright: ignore[reportArgumentType]
        self.across |= {(a, b): c, (b, c): a, (c, a): b}

    def _drop(self, triangle: _Corners) -> None:
        k = triangle.index(min(triangle))
        self.triangles.remove((triangle * 2)[k : k + 3])  # pyright: ignore[reportArgumentType]
        for side in _sides(triangle):
            del self.across[side]

    def put(self, a: int, b: int, fixed: set[frozenset[int]]) -> None:
        """Flips what crosses the line from ``a`` to ``b`` until that is an edge."""
        crossing = [] if self._joined(a, b) else self._crossing(a, b)
        left = 50 * (len(crossing) + 1)
        while crossing:
            left -= 1
            c, d = crossing.pop(0)
            if left < 0 or frozenset((c, d)) in fixed:
                raise ValueError(f"the edge {a}-{b} crosses {c}-{d}")
            e, f = self.across[c, d], self.across[d, c]
            # Only where the four are convex; else later, when their neighbours have changed.
            if min(_area(self.points, f, d, e), _area(self.points, e, c, f)) <= FLAT:
                crossing.append((c, d))
                continue
            self._flip(c, d)
            if not {a, b} & {e, f} and self._cross(a, b, e, f):
                crossing.append((e, f))

    def _flip(self, c: int, d: int) -> tuple[int, int]:
        """The edge ``c``-``d`` becomes the other diagonal of its four, which is given."""
        e, f = self.across[c, d], self.across[d, c]
        self._drop((c, d, e))
        self._drop((d, c, f))
        self._add((f, d, e))
        self._add((e, c, f))
        return e, f

    def _joined(self, a: int, b: int) -> bool:
        return (a, b) in self.across or (b, a) in self.across

    def _crossing(self, a: int, b: int) -> list[tuple[int, int]]:
        edges = {(min(side), max(side)) for side in self.across}
        return [(c, d) for c, d in sorted(edges) if not {a, b} & {c, d} and self._cross(a, b, c, d)]

    def _cross(self, a: int, b: int, c: int, d: int) -> bool:
        p = self.points
        return (
            _area(p, a, b, c) * _area(p, a, b, d) < 0 and _area(p, c, d, a) * _area(p, c, d, b) < 0
        )
