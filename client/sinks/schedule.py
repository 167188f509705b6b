"""When live sinks are given which face: pure, times are passed in.

Frames come a hop at a time and are shown one by one, 1/30 s apart::

    put   012      345      678           a hop at once, each when it is known
    take  0  1  2  3  4  5  6  7  8

When none has come for a while (the connection is lost, the server is late, it is over) the face
eases to rest, so that no mouth freezes half open, and back when frames come again.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.stream.events import Frame
from kfusion.coefficients.arkit import ARKIT52
from kfusion.coefficients.vrm import VRM
from kfusion.config import FPS

QUIET_S: Final = 0.3  # without a frame, and the face goes to rest
EASE: Final = 5  # frames in which it does (167 ms), and comes back
EARLIER_S: Final = 0.001  # a frame: how fast what was delayed once is shown sooner again


class Showing:
    """The frames put, at the times at which they are to be shown; and what to show between.

    ``rest``: points (68, 2). ``skips``: the frames of a microphone cannot come early, so where
    more than two hops wait the older ones are passed over and counted in ``skipped``. Frames that
    :meth:`take` gives are numbered on and on, with a number for each that was made up here.
    """

    def __init__(self, rest: ArrayLike, hop: int, *, skips: bool) -> None:
        shut = np.array([name == "neutral" for name in VRM], np.float32)
        points = np.asarray(rest, np.float32)
        self.rest = Frame(0, 0.0, points, np.zeros(len(ARKIT52), np.float32), shut)
        self.hop, self.skips = hop, skips
        self.queue: deque[Frame] = deque()
        self.skipped = 0
        self.over = False
        self._delay = -float("inf")  # frame n is due at n / 30 s and this
        self._face: Frame | None = None  # the last that was put and shown
        self._number = -1  # the last that was taken
        self._shown_at = 0.0
        self._away = 0  # of EASE: how far it is at rest
        self._alone = False  # since QUIET_S nothing was put

    def put(self, frame: Frame, now: float) -> None:
        self.queue.append(frame)
        self._delay = max(self._delay, now - frame.n / FPS)
        if self.skips and len(self.queue) > 2 * self.hop + 3:
            while len(self.queue) > self.hop:
                self.queue.popleft()
                self.skipped += 1
            self._delay = now - self.queue[0].n / FPS

    def finish(self) -> None:
        """No more will be put: what waits is shown, then the face at rest."""
        self.over = True

    @property
    def done(self) -> bool:
        if not self.over or self.queue:
            return False
        return self._face is None or self._away == EASE

    def wake_at(self) -> float:
        """When :meth:`take` next has something."""
        if self.queue:
            return self.queue[0].n / FPS + self._delay
        if self._face is None or self.done:
            return float("inf")
        return self._shown_at + (1 / FPS if self._alone or self.over else QUIET_S)

    def take(self, now: float) -> Frame | None:
        """The next face, or None while it is not yet time for it."""
        due = self.wake_at()
        if now < due:
            return None
        # By the time it was due, so that being late does not add up; or now if that is long ago.
        self._shown_at = due if now < due + 1 / FPS else now
        self._alone = not self.queue
        if self.queue:
            self._face = self.queue.popleft()
            self._away = max(0, self._away - 1)
            self._number = max(self._number + 1, self._face.n)
            if self.skips:
                self._delay -= EARLIER_S
        else:
            self._away = min(EASE, self._away + 1)
            self._number += 1
        assert self._face is not None
        u = self._away / EASE
        return _between(self._face, self.rest, u * u * (3 - 2 * u), self._number)

    def cut(self) -> Frame | None:
        """The face at rest at once, where nothing waits for it to ease there; None if it is."""
        if self._face is None or self._away == EASE:
            return None
        self._away = EASE
        self._number += 1
        return _between(self._face, self.rest, 1.0, self._number)


def _between(face: Frame, rest: Frame, share: float, n: int) -> Frame:
    """``share`` 0..1 of the way from a face to the one at rest."""
    if share == 0 and n == face.n:
        return face

    def mix(a: NDArray[np.float32], b: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return a if share == 0 or b is None else ((1 - share) * a + share * b).astype(np.float32)

    return Frame(
        n,
        n / FPS,
        mix(face.points, rest.points),
        None if face.arkit52 is None else mix(face.arkit52, rest.arkit52),
        None if face.vrm is None else mix(face.vrm, rest.vrm),
    )
