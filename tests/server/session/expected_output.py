"""What a client expects of a session, by the protocol alone, and what it received: the checks that
the session machine makes of every message that arrives.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion import wire
from kfusion.config import WINDOW
from kfusion.emotion import vector


@dataclass(eq=False)
class Reply:
    """``at``: the client's next frame when it arrived."""

    message: Any
    at: int = -1
    repeatable: bool = False  # the server cannot know whether it arrived: it may come again

    @property
    def n(self) -> int:
        return -1 if isinstance(self.message, wire.Error) else self.message.n

    def fits(self, message: Any) -> bool:
        if isinstance(self.message, wire.Error):
            same = isinstance(message, wire.Error) and bool(message.message)
            return same and (message.code, message.fatal) == (self.message.code, self.message.fatal)
        return bool(message == self.message)


@dataclass
class Replies:
    """Replies of one sort, in their order."""

    expected: deque[Reply] = field(default_factory=deque[Reply])
    received: list[Reply] = field(default_factory=list[Reply])
    complete: bool = True  # the server remembers all that were sent

    def expect(self, message: Any) -> None:
        self.expected.append(Reply(message))

    def take(self, message: Any, at: int) -> None:
        if not self.complete:
            return
        for reply in self.received:
            if reply.repeatable and reply.fits(message):
                reply.repeatable = False
                return
        assert self.expected, f"not expected: {message}"
        assert self.expected[0].fits(message), f"{message}; expected {self.expected[0].message}"
        reply = self.expected.popleft()
        reply.at = at
        self.received.append(reply)

    def lose_errors(self, count: int) -> None:
        """So many errors were lost with the connection; they are not sent again."""
        lost = [r for r in self.expected if isinstance(r.message, wire.Error)][:count]
        self.expected = deque(r for r in self.expected if r not in lost)

    def rewind(self, n: int) -> None:
        again = [r for r in self.received if r.n >= n]
        self.received = [r for r in self.received if r.n < n]
        for reply in self.received:
            reply.repeatable = reply.at >= n and not isinstance(reply.message, wire.Error)
        self.expected.extendleft(reversed(again))


class Client:
    """What arrived of one session, checked as it arrives."""

    def __init__(self) -> None:
        self.next = 0
        self.frames: dict[int, bytes] = {}
        self.first_values: dict[int, bytes] = {}  # of frames, those too that were sent again
        self.dropped: dict[int, str] = {}
        self.replies, self.marks = Replies(), Replies()
        self.ready: tuple[int, int] | None = None  # expected: n and audio_position
        self.tokens: list[str] = []
        self.last_block: tuple[int, int] | None = None  # of points: first frame, frames
        self.end: wire.End | None = None
        self.fatal = False

    def take(self, message: Any) -> None:
        assert self.end is None and not self.fatal, f"after the last: {message}"
        if isinstance(message, wire.FrameBlock) and message.output != "points":
            assert self.last_block == (message.first, len(message.values)), "of other frames"
        elif isinstance(message, wire.FrameBlock):
            self.last_block = (message.first, len(message.values))
            for k, points in enumerate(message.values):
                self._frame(message.first + k, points)
        elif isinstance(message, wire.Frame):
            assert message.t == pytest.approx(message.n / 30)
            self._frame(message.n, np.array(message.points, np.float32))
        elif isinstance(message, wire.Dropped):
            assert (message.first, message.count > 0) == (self.next, True), message
            for n in range(message.first, message.first + message.count):
                self.dropped[n] = message.reason
            self.next += message.count
        elif isinstance(message, wire.MarkReached):
            # After all below it; and before its own frame, which may have been dropped.
            assert message.n <= self.next and message.n not in self.frames
            self.marks.take(message, self.next)
        elif isinstance(message, wire.Ready):
            assert self.ready == (message.n, message.audio_position)
            assert message.resume not in self.tokens
            self.tokens.append(message.resume)
            self.ready = None
        elif isinstance(message, wire.End):
            self.end = message
        else:
            self.replies.take(message, self.next)
            self.fatal = isinstance(message, wire.Error) and message.fatal

    def _frame(self, n: int, points: NDArray[np.float32]) -> None:
        assert self.ready is None, "a frame before ready"
        assert n == self.next and len(points) == 136
        data = points.tobytes()
        assert self.first_values.setdefault(n, data) == data, f"frame {n} came again as another"
        self.frames[n] = data
        self.next += 1

    def rewind(self, n: int) -> None:
        """Forgets what lies at or after this frame."""
        self.next = n
        self.frames = {k: frame for k, frame in self.frames.items() if k < n}
        self.dropped = {k: reason for k, reason in self.dropped.items() if k < n}
        self.replies.rewind(n)
        self.marks.rewind(n)
        self.end = self.last_block = None


class Sound:
    """What was sent at 16 kHz, to be compared with the windows."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, NDArray[np.float32]]] = []

    def window(self, stop: int) -> NDArray[np.float32]:
        out = np.zeros(WINDOW, np.float32)
        for first, part in self.parts:
            low, high = max(first, stop - WINDOW), min(first + len(part), stop)
            if low < high:
                out[low - stop + WINDOW : high - stop + WINDOW] = part[low - first : high - first]
        return out


class ExpectedEmotion:
    """The emotion at every frame, by the protocol."""

    def __init__(self, weights: dict[str, float]) -> None:
        first = vector(weights)
        self.ramps = [(0, first, first, 0.0)]

    def at(self, n: int) -> NDArray[np.float32]:
        first, start, target, frames = [r for r in self.ramps if r[0] <= n][-1]
        share = 1.0 if n >= first + frames else (n - first) / frames
        return (start + (target - start) * share).astype(np.float32)

    def set(self, n: int, weights: dict[str, float], ramp: float) -> None:
        self.ramps.append((n, self.at(n), vector(weights), ramp * 30))

    @property
    def target(self) -> NDArray[np.float32]:
        return self.ramps[-1][2]
