"""Pictures of faces, drawn in processes of their own where there are many."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from client.errors import OutputError
from kfusion.landmarks import Points, to_canonical
from kfusion.system import interrupts_blocked

Picture = NDArray[np.uint8]
"""(H, W, 3) or (H, W, 4), the fourth unused."""


class Drawer(Protocol):
    """Draws a frame's points (68, 2); ``size``: width and height of its pictures, both even."""

    @property
    def size(self) -> tuple[int, int]: ...

    def draw(self, points: NDArray[Any]) -> Picture: ...


@dataclass(frozen=True)
class DrawnFace:
    """The face of drawing.py. ``identity`` (68, 2): at rest; None is the canonical one."""

    identity: Points | None = None
    side: int = 512

    @property
    def size(self) -> tuple[int, int]:
        return self.side, self.side

    def draw(self, points: NDArray[Any]) -> Picture:
        from client.video.drawn_face import draw_face

        if self.identity is not None:
            points = to_canonical(self.identity).apply(points)
        return np.asarray(draw_face(points, self.side))


CHUNK: Final = 6
MANY: Final = 240
"""Frames from which on processes are started: they take about half a second to come up."""


class Studio:
    """Draws faces with ``drawer``: in the caller's own thread, or in so many ``processes``.

    Those are started once :data:`MANY` faces are to be drawn in all. Pictures come in order, and
    a few are drawn ahead. Close it at the end.
    """

    def __init__(self, drawer: Drawer, processes: int = 0) -> None:
        self.drawer, self.processes = drawer, processes
        self._faces = 0
        self._pool: ProcessPoolExecutor | None = None

    def draw(self, faces: NDArray[Any]) -> Generator[Picture, None, None]:
        """The pictures of (T, 68, 2) faces. Raises :class:`~client.errors.OutputError`."""
        self._faces += len(faces)
        if self._pool is None and self.processes and self._faces >= MANY:
            self._pool = ProcessPoolExecutor(
                self.processes,
                mp_context=get_context("spawn"),
                initializer=_begin,
                initargs=(self.drawer,),
            )
        if self._pool is None:
            yield from (self.drawer.draw(face) for face in faces)
            return
        ahead: deque[Future[list[Picture]]] = deque()
        try:
            for k in range(0, len(faces), CHUNK):
                with interrupts_blocked():  # where it starts a process
                    ahead.append(self._pool.submit(_draw, faces[k : k + CHUNK]))
                if len(ahead) > 2 * self.processes:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        except BrokenProcessPool:
            raise OutputError(
                "a process that draws has ended before its time; wanted more memory, perhaps"
            ) from None
        finally:
            for future in ahead:
                future.cancel()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


_drawers: list[Drawer] = []  # of a drawing process: the one it draws with


def _begin(drawer: Drawer) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _drawers[:] = [drawer]


def _draw(faces: NDArray[Any]) -> list[Picture]:
    return [_drawers[0].draw(face) for face in faces]
