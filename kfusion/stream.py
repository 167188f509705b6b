"""Samples -> 1-s windows -> frames, in integers and arrays: no clock, no I/O.

The slider cuts windows as in protocol.md's section Time; the stitcher joins the network's outputs.

::

    window W (30 frames of sound)        |------------------------------|W
    frames it yields                                  | hop |lookahead|
"""

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
    """Frames of ``samples`` samples, ceil(A*30/R); also the frame at audio position A."""
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

    ``take`` gives the next window once its audio is complete; ``prepare`` resamples it in pieces.
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
        self.recent = np.zeros(WINDOW, np.float32)  # the last window, at 16 kHz
        self.recent_end = 0  # one past its last sample
        self.prepared: list[Samples] = []  # resampled pieces of the next window
        self.prepared_end = 0  # one past their last sample, at 16 kHz

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
        """Received samples at or after the next window's first frame."""
        return self.received - min(self.received, sample_of(self.next_first, self.rate))

    def push(self, samples: Samples) -> None:
        self.queue.append(samples)

    def push_silence(self, count: int) -> None:
        self.queue.append_silence(count)

    def finish(self) -> None:
        """Ends the audio; the last windows are filled up with zeros."""
        self.finished = True

    def reset(self) -> int:
        """Replaces all received audio by zeros; returns the next frame, ceil(A*30/R)."""
        self.queue.silence()
        self.recent[:] = 0
        self.prepared, self.prepared_end = [], 0
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
        new, self.prepared = np.concatenate(self.prepared), []
        kept = WINDOW - (stop - self.recent_end)
        audio = np.zeros(WINDOW, np.float32)
        if kept > 0:
            audio[:kept] = self.recent[-kept:]
        if len(new):
            audio[-len(new) :] = new
        window = Window(end, self.next_first, self.next_last, audio)
        self.recent, self.recent_end = audio, stop
        self.next_end += self.hop
        self.queue.discard((stop * self.rate) // SAMPLE_RATE - 2 * self.delay - 2)
        return window

    @property
    def _stop(self) -> int:
        """Where the next window ends, in samples at 16 kHz."""
        return self.next_end * SAMPLE_RATE // FPS

    def prepare(self, limit: int) -> bool:
        """Resamples up to ``limit`` samples of the ready next window; True when complete."""
        start = max(self.recent_end, self._stop - WINDOW, self.prepared_end)
        stop = min(self._stop, start + limit)
        if stop > start or not self.prepared:
            self.prepared.append(resample(self.queue, self.rate, start, stop))
            self.prepared_end = stop
        return stop == self._stop


class Stitcher:
    """Joins the canonical displacements of overlapping windows without a visible seam.

    ``previous``: the last window's end and output; ``decaying``: offsets for the next frames
    (lookahead 0); ``easing``: the face from which the frames after a reset start.
    """

    DECAY: Final = (2 / 3, 1 / 3)
    EASE: Final = (3 / 4, 2 / 4, 1 / 4)  # 100 ms

    def __init__(self, hop: int, lookahead: int) -> None:
        self.hop, self.lookahead = hop, lookahead
        self.previous: tuple[int, Displacement] | None = None
        self.decaying: list[Displacement] = []
        self.easing: tuple[int, Displacement] | None = None

    def push(self, window: Window, output: NDArray[Any]) -> Displacement:
        """The network's output (30, 68, 2) -> the window's own frames, (last - first, 68, 2)."""
        output = np.asarray(output, np.float32)
        begin = FRAMES - self.lookahead - self.hop
        frames = output[begin : FRAMES - self.lookahead].copy()
        earlier = None
        if self.previous is not None and self.previous[0] == window.end - self.hop:
            earlier = self.previous[1]
        if self.lookahead:
            if earlier is not None:
                count = min(self.lookahead, self.hop)
                new = (np.arange(1, count + 1, dtype=np.float32) / (count + 1))[:, None, None]
                old = earlier[FRAMES - self.lookahead :][:count]
                frames[:count] = old + (frames[:count] - old) * new
        else:
            self._decay(frames, output, earlier)
        self.previous = (window.end, output)
        frames = frames[window.first - (window.end - self.lookahead - self.hop) :]
        frames = frames[: window.last - window.first]
        self._ease(window.first, frames)
        return frames

    def _decay(
        self, frames: Displacement, output: Displacement, earlier: Displacement | None
    ) -> None:
        if earlier is None or self.hop == FRAMES:
            self.decaying = []
            return
        jump = earlier[-1] - output[FRAMES - self.hop - 1]
        offsets = [*self.decaying, *[np.zeros_like(jump)] * (len(self.DECAY) - len(self.decaying))]
        offsets = [o + jump * np.float32(s) for o, s in zip(offsets, self.DECAY, strict=True)]
        for i in range(min(len(offsets), self.hop)):
            frames[i] += offsets[i]
        self.decaying = offsets[self.hop :]

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
        """Restarts at frame ``n``, easing from the displacement (68, 2) that was sent last."""
        self.previous, self.decaying = None, []
        self.easing = None if last_sent is None else (n, last_sent)


def windows_of(samples: Samples, rate: int, hop: int, lookahead: int) -> Iterator[Window]:
    """All windows of a whole recording, the same as in a stream of it."""
    slider = Slider(rate, hop, lookahead)
    slider.push(samples)
    slider.finish()
    while (window := slider.take()) is not None:
        yield window
