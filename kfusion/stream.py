"""Samples -> 1-s windows -> frames, in integers and arrays: no clock, no I/O.

The slider cuts windows from what was received, as protocol.md's Time says; the stitcher turns
what the network says of each window into one sequence of frames.

::

    window W (30 frames of sound)        |------------------------------|W
    frames it yields                                  | hop |lookahead|
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.audio import SampleQueue, Samples, resample, resampling_delay
from kfusion.config import FPS, FRAMES, SAMPLE_RATE, WINDOW

HOPS: Final = (1, 2, 3, 5, 6, 10, 15, 30)

Displacement = NDArray[np.float32]
"""Canonical pixels, (T, 68, 2)."""


def frame_count(samples: int, rate: int) -> int:
    """Frames that so many samples are long; also the frame at audio position A: ceil(A*30/R)."""
    return -(-samples * FPS // rate)


def sample_of(n: int, rate: int) -> int:
    """The sample that frame ``n`` shows."""
    return n * rate // FPS


def latency_ms(rate: int, hop: int, lookahead: int) -> float:
    """Worst buffering from a sample to a frame that needs it."""
    return (hop + lookahead) * 1000 / FPS + resampling_delay(rate) * 1000 / rate


@dataclass(frozen=True)
class Window:
    """``audio`` (16000,) at 16 kHz, ending before frame ``end``; yields ``first`` .. ``last``-1."""

    end: int
    first: int
    last: int
    audio: Samples


class Slider:
    """Cuts the windows of one stream, W = lookahead + hop, lookahead + 2 hop, ...

    ``push``, ``push_silence`` and ``finish`` say what was received; ``take`` gives the next
    window once its sound is in, which ``prepare`` may have resampled a piece at a time.
    """

    def __init__(self, rate: int, hop: int, lookahead: int) -> None:
        if hop not in HOPS or lookahead < 0 or hop + lookahead > FRAMES:
            raise ValueError(f"hop {hop}, lookahead {lookahead}: wanted hop in {HOPS}, sum <= 30")
        self.rate, self.hop, self.lookahead = rate, hop, lookahead
        self.delay = resampling_delay(rate)
        self.queue = SampleQueue()
        self.finished = False
        self.floor = 0  # no frame below it will be yielded
        self.next_end = lookahead + hop
        self.recent = np.zeros(WINDOW, np.float32)  # 16 kHz, ends before sample `known`
        self.known = 0
        self.ahead: list[Samples] = []  # of the next window, from where the last one ended ...
        self.reached = 0  # ... up to this sample at 16 kHz

    @property
    def received(self) -> int:
        return self.queue.received

    @property
    def total(self) -> int:
        """Frames that all received samples are long."""
        return frame_count(self.received, self.rate)

    @property
    def next_first(self) -> int:
        """The first frame of the next window."""
        return max(self.floor, self.next_end - self.lookahead - self.hop)

    @property
    def next_last(self) -> int:
        """One past the last frame of the next window."""
        last = self.next_end - self.lookahead
        return min(last, self.total) if self.finished else last

    @property
    def waiting(self) -> int:
        """Samples received that no window has passed yet."""
        return self.received - min(self.received, sample_of(self.next_first, self.rate))

    def push(self, samples: Samples) -> None:
        self.queue.append(samples)

    def push_silence(self, count: int) -> None:
        self.queue.append_silence(count)

    def finish(self) -> None:
        """No more sound: what is missing of the last windows is zeros."""
        self.finished = True

    def reset(self) -> int:
        """As if all that was received had been zeros; gives the next frame, ceil(A*30/R)."""
        self.queue.silence()
        self.recent[:] = 0
        self.ahead, self.reached = [], 0
        self.floor = self.total
        while not self._useful(self.next_end):
            self.next_end += self.hop
        return self.floor

    def _useful(self, end: int) -> bool:
        return (
            sample_of(end, self.rate) + self.delay > self.received
            and end - self.lookahead > self.floor
        )

    @property
    def ready(self) -> bool:
        if self.finished:
            return self.next_first < self.total
        return sample_of(self.next_end, self.rate) + self.delay <= self.received

    def take(self) -> Window | None:
        """The next window, or None until more is received."""
        if not self.ready:
            return None
        end, stop = self.next_end, self._stop
        self.prepare(WINDOW)
        new, self.ahead = np.concatenate(self.ahead), []
        kept = WINDOW - (stop - self.known)
        audio = np.zeros(WINDOW, np.float32)
        if kept > 0:
            audio[:kept] = self.recent[-kept:]
        if len(new):
            audio[-len(new) :] = new
        window = Window(end, self.next_first, self.next_last, audio)
        self.recent, self.known = audio, stop
        self.next_end += self.hop
        self.queue.discard((stop * self.rate) // SAMPLE_RATE - 2 * self.delay - 2)
        return window

    @property
    def _stop(self) -> int:
        """Where the next window ends, in samples at 16 kHz."""
        return self.next_end * SAMPLE_RATE // FPS

    def prepare(self, most: int) -> bool:
        """Resamples at most so many samples, at 16 kHz, of the next window, which must be
        ``ready``. Says whether they are all there now.
        """
        start = max(self.known, self._stop - WINDOW, self.reached)
        stop = min(self._stop, start + most)
        if stop > start or not self.ahead:
            self.ahead.append(resample(self.queue, self.rate, start, stop))
            self.reached = stop
        return stop == self._stop


class Stitcher:
    """Joins what neighbouring windows say of the same frames; on canonical displacements.

    State: ``before``, the last window and what the network said of it; ``decaying``, what is
    still to be added to the next frames (lookahead 0); ``easing``, a face to leave over the
    next frames after a reset.
    """

    DECAY: Final = (2 / 3, 1 / 3)
    EASE: Final = (3 / 4, 2 / 4, 1 / 4)  # 100 ms

    def __init__(self, hop: int, lookahead: int) -> None:
        self.hop, self.lookahead = hop, lookahead
        self.before: tuple[int, Displacement] | None = None
        self.decaying: list[Displacement] = []
        self.easing: tuple[int, Displacement] | None = None

    def push(self, window: Window, said: NDArray[Any]) -> Displacement:
        """``said`` (30, 68, 2) of a window -> the frames it yields, (last - first, 68, 2)."""
        said = np.asarray(said, np.float32)
        begin = FRAMES - self.lookahead - self.hop
        frames = said[begin : FRAMES - self.lookahead].copy()
        ran = self.before is not None and self.before[0] == window.end - self.hop
        earlier = self.before[1] if self.before is not None and ran else None
        if self.lookahead:
            if earlier is not None:
                count = min(self.lookahead, self.hop)
                new = (np.arange(1, count + 1, dtype=np.float32) / (count + 1))[:, None, None]
                old = earlier[FRAMES - self.lookahead :][:count]
                frames[:count] = old + (frames[:count] - old) * new
        else:
            self._decay(frames, said, earlier)
        self.before = (window.end, said)
        frames = frames[window.first - (window.end - self.lookahead - self.hop) :]
        frames = frames[: window.last - window.first]
        self._ease(window.first, frames)
        return frames

    def _decay(
        self, frames: Displacement, said: Displacement, earlier: Displacement | None
    ) -> None:
        if earlier is None or self.hop == FRAMES:
            self.decaying = []
            return
        jump = earlier[-1] - said[FRAMES - self.hop - 1]
        left = [*self.decaying, *[np.zeros_like(jump)] * (len(self.DECAY) - len(self.decaying))]
        left = [l + jump * np.float32(share) for l, share in zip(left, self.DECAY, strict=True)]
        for i in range(min(len(left), self.hop)):
            frames[i] += left[i]
        self.decaying = left[self.hop :]

    def _ease(self, first: int, frames: Displacement) -> None:
        if self.easing is None:
            return
        since, face = self.easing
        for i in range(len(frames)):
            k = first + i - since
            if 0 <= k < len(self.EASE):
                frames[i] += (face - frames[i]) * np.float32(self.EASE[k])
        if first + len(frames) - since >= len(self.EASE):
            self.easing = None

    def reset(self, n: int, last_sent: Displacement | None) -> None:
        """Begins anew at frame ``n``, easing from the displacement (68, 2) last sent."""
        self.before, self.decaying = None, []
        self.easing = None if last_sent is None else (n, last_sent)


def windows_of(samples: Samples, rate: int, hop: int, lookahead: int) -> Iterator[Window]:
    """All windows of a whole recording, as a stream of it would run them."""
    slider = Slider(rate, hop, lookahead)
    slider.push(samples)
    slider.finish()
    while (window := slider.take()) is not None:
        yield window
