"""Which frame live sinks are given, and when. Pure: times are passed in.

Frames are received a hop at a time and given one by one, 1/30 s apart::

    put   012      345      678           a hop at once, when it is received
    take  0  1  2  3  4  5  6  7  8

When none is received for :data:`GAP_S` (the connection is lost, the server is late, the stream has
ended) the face eases to rest, so that no mouth stays half open, and back when frames come again.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.stream.events import Frame
from kfusion.coefficients.arkit import ARKIT52
from kfusion.coefficients.vrm import VRM
from kfusion.config import FPS

GAP_S: Final = 0.3  # without a frame, after which the face eases to rest
EASE_FRAMES: Final = 5  # that it takes (167 ms), there and back
CATCH_UP_S: Final = 0.001  # per frame, by which a delay after a late frame shrinks


class FrameSchedule:
    """The frames put, each at its time; and interpolated frames while none is there.

    ``rest``: points (68, 2) of the face at rest. ``skips``: where more than two hops wait, older
    frames are skipped and counted in ``skipped``, as those of a live source should be.
    """

    def __init__(self, rest: ArrayLike, hop: int, *, skips: bool) -> None:
        neutral = np.array([name == "neutral" for name in VRM], np.float32)
        points = np.asarray(rest, np.float32)
        self.rest = Frame(0, 0.0, points, np.zeros(len(ARKIT52), np.float32), neutral)
        self.hop, self.skips = hop, skips
        self.queue: deque[Frame] = deque()
        self.skipped = 0
        self.finished = False
        self._delay = -float("inf")  # frame n is due at n / 30 s + _delay
        self._received: Frame | None = None  # the last one taken of those that were put
        self._number = -1  # of the last one taken
        self._taken_at = 0.0
        self._eased = 0  # how far it is at rest, of EASE_FRAMES
        self._starved = False  # nothing was put for GAP_S

    def put(self, frame: Frame, now: float) -> None:
        """Adds the stream's next frame."""
        self.queue.append(frame)
        self._delay = max(self._delay, now - frame.n / FPS)
        if self.skips and len(self.queue) > 2 * self.hop + 3:
            while len(self.queue) > self.hop:
                self.queue.popleft()
                self.skipped += 1
            self._delay = now - self.queue[0].n / FPS

    def finish(self) -> None:
        """No more frames will be put: those that wait are given, then the face at rest."""
        self.finished = True

    @property
    def done(self) -> bool:
        """Whether all frames were taken and the face is at rest."""
        if not self.finished or self.queue:
            return False
        return self._received is None or self._eased == EASE_FRAMES

    def wake_at(self) -> float:
        """When :meth:`take` next has a frame; infinity if it never has."""
        if self.queue:
            return self.queue[0].n / FPS + self._delay
        if self._received is None or self.done:
            return float("inf")
        return self._taken_at + (1 / FPS if self._starved or self.finished else GAP_S)

    def take(self, now: float) -> Frame | None:
        """The next frame, or None if it is not due yet."""
        due = self.wake_at()
        if now < due:
            return None
        # The time when it was due, so that delays of the caller do not add up; now, if it is late.
        self._taken_at = due if now < due + 1 / FPS else now
        self._starved = not self.queue
        if self.queue:
            self._received = self.queue.popleft()
            self._eased = max(0, self._eased - 1)
            self._number = max(self._number + 1, self._received.n)
            if self.skips:
                self._delay -= CATCH_UP_S
        else:
            self._eased = min(EASE_FRAMES, self._eased + 1)
            self._number += 1
        assert self._received is not None
        u = self._eased / EASE_FRAMES
        return _between(self._received, self.rest, u * u * (3 - 2 * u), self._number)

    def rest_now(self) -> Frame | None:
        """The face at rest at once, without easing; None if it is there already."""
        if self._received is None or self._eased == EASE_FRAMES:
            return None
        self._eased = EASE_FRAMES
        self._number += 1
        return _between(self._received, self.rest, 1.0, self._number)


def _between(face: Frame, rest: Frame, share: float, n: int) -> Frame:
    """A frame ``share`` (0..1) of the way from ``face`` to ``rest``, numbered ``n``."""
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
