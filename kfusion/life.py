"""Motion that speech does not cause: blinks, brow accents, small head motion.

It is added after the model and depends only on the seed, the frame's number and the audio, so that
any chunking, a resumed session and an offline call give the same face. An accent at frame n depends
on the half second up to the end of that frame.
"""

from math import exp, log
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, FRAMES, SAMPLE_RATE, WINDOW
from kfusion.emotion import DISPLACEMENT, EMOTIONS
from kfusion.landmarks import BROWS, NEUTRAL_INTER_OCULAR, RIGID, Identity
from kfusion.stream import Window

Values = NDArray[np.float64]

# Blinks: 17 a minute at rest, log-normal (Bentivoglio et al. 1997, Movement Disorders 12:1028; 150
# people). Lids come down in about 100 ms and go up 40-47 % slower (Sforza et al. 2008, Ophthalmic
# Physiol Opt 28:345).
INTERVAL_S: Final = 60 / 17
SPREAD: Final = 0.55  # standard deviation of the interval's logarithm
SHORTEST: Final = 18  # frames from one blink to the next
LONGEST: Final = 450
BLOCK: Final = 60 * FPS  # frames whose blinks are drawn together; none crosses to the next block
LOWER_LID: Final = 0.12  # share of the way that the lower lid comes up

# The head, in the plane, and how readily the brows go up, are noise of less than 0.75 Hz.
KNOT: Final = 40  # frames from one random number to the next
ROLL: Final = 1.5 * np.pi / 180  # at most, each way
SHIFT: Final = 0.007 * NEUTRAL_INTER_OCULAR  # at most, each way: along both axes within 1 %

# Brow accents.
ACCENT: Final = 0.3  # at most, of the brows of surprise in kfusion.emotion
BEFORE: Final = 4  # frames with which a frame's loudness is compared
_SHAPE: Final = np.array([0.1, 0.4, 0.75, 1, 1, 0.9, 0.7, 0.5, 0.3, 0.15, 0.05])
HISTORY: Final = BEFORE + len(_SHAPE) - 1
"""Number of earlier frames that a frame's accent depends on."""

_RAISED: Final = np.zeros_like(DISPLACEMENT[0])
_RAISED[BROWS] = DISPLACEMENT[EMOTIONS.index("surprised"), BROWS] * NEUTRAL_INTER_OCULAR
_RIGID: Final = np.array(list(RIGID))
_UPPER_LIDS: Final = np.array([37, 38, 43, 44])
_LOWER_LIDS: Final = np.array([41, 40, 47, 46])

_GOLDEN: Final = np.array([0x9E3779B97F4A7C15], np.uint64)
_FACTORS: Final = [np.array([k], np.uint64) for k in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)]


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _FACTORS[0]
    x = (x ^ (x >> np.uint64(27))) * _FACTORS[1]
    return x ^ (x >> np.uint64(31))


class CounterRandom:
    """Random numbers 0..1 by index: SplitMix64 in integers, the same on every machine."""

    def __init__(self, seed: int, stream: int) -> None:
        key = _mixed(np.array([seed % 2**64], np.uint64)) + np.array([stream], np.uint64)
        self._key = _mixed(key * _GOLDEN)

    def __call__(self, index: NDArray[np.int64]) -> Values:
        mixed = _mixed(self._key + index.astype(np.uint64) * _GOLDEN)
        return (mixed >> np.uint64(11)).astype(np.float64) / 2**53


class SmoothNoise:
    """``width`` smooth random functions of the frame's number, -1..1: uniform cubic B-splines."""

    def __init__(self, chance: CounterRandom, width: int) -> None:
        self._chance, self._width = chance, width
        self._last = (0, 0, np.zeros((width, 0)))

    def __call__(self, first: int, count: int) -> Values:
        """At frames ``first`` ...: (width, count)."""
        n = np.arange(first, first + count)
        k = n // KNOT
        values = self._knots(int(k[0]), int(k[-1]) + 4)
        k -= k[0]
        u = (n % KNOT) / KNOT
        v = 1 - u
        uu, vv = u * u, v * v
        a, d = vv * v, uu * u
        b, c = 3 * d - 6 * uu + 4, 3 * a - 6 * vv + 4
        at = values.take
        return (at(k, 1) * a + at(k + 1, 1) * b + at(k + 2, 1) * c + at(k + 3, 1) * d) / 6

    def _knots(self, start: int, stop: int) -> Values:
        if self._last[:2] != (start, stop):
            index = np.arange(start, stop) * self._width + np.arange(self._width)[:, None]
            self._last = (start, stop, 2 * self._chance(index) - 1)
        return self._last[2]


class Life:
    """Adds the motion. ``amount`` 0..1 scales it, 0 adds nothing. ``seed``: any integer."""

    def __init__(self, seed: int, amount: float) -> None:
        if not 0 <= amount <= 1:
            raise ValueError(f"life is {amount}; wanted 0 to 1")
        self.seed, self.amount = seed, float(amount)
        self._phase, self._interval, self._closing, self._opening = (
            CounterRandom(seed, k) for k in range(4)
        )
        self._noise = SmoothNoise(
            CounterRandom(seed, 4), 4
        )  # roll, right, down, readiness of the brows
        self._blocks: dict[int, list[tuple[int, int, int]]] = {}

    def add(
        self, identity: Identity, first: int, displacement: NDArray[Any], levels: Values
    ) -> NDArray[np.float32]:
        """Canonical displacements (T, 68, 2) of frames ``first`` ... -> the same with life.

        ``levels`` (HISTORY + T,) comes from :meth:`LoudnessHistory.push`. The head's motion moves
        all points. Blinks get deeper up to ``amount`` 0.5, from which on they close the eyes.
        """
        moved = np.ascontiguousarray(displacement, np.float32)
        count = len(moved)
        if self.amount == 0 or count == 0:
            return moved
        face = moved + identity.canonical
        roll, right, down, ready = self.amount * self._noise(first, count)
        closed = min(1.0, 2 * self.amount) * self.closure(first, count)
        if closed.any():
            lower, upper = face[:, _LOWER_LIDS, 1], face[:, _UPPER_LIDS, 1]
            way = closed[:, None] * np.maximum(lower - upper, 0)
            face[:, _UPPER_LIDS, 1] = upper + (1 - LOWER_LID) * way
            face[:, _LOWER_LIDS, 1] = lower - LOWER_LID * way
        raised = ACCENT * (self.amount + ready) / 2 * accents(levels)
        if raised.any():
            face += raised[:, None, None] * _RAISED
        # Of a small turn without a sine, whose last bit is not the same everywhere.
        turn = (1 + 1j * ROLL * roll) / np.sqrt(1 + (ROLL * roll) ** 2)
        shift = SHIFT * (right + 1j * down)
        middle = complex(*identity.canonical[_RIGID].mean(axis=0))
        z = face.view(np.complex128)[..., 0]
        z -= middle
        z *= turn[:, None]
        z += (middle + shift)[:, None]
        return (face - identity.canonical).astype(np.float32)

    def closure(self, first: int, count: int) -> Values:
        """How far blinks close the eyes at frames ``first`` ...: 0..1, (count,)."""
        closed = np.zeros(count)
        n = np.arange(first, first + count)
        for block in range(first // BLOCK, (first + count - 1) // BLOCK + 1):
            for start, closing, opening in self._blinks(block):
                if start < first + count and start + closing + opening + 1 >= first:
                    down = np.clip((n - start) / closing, 0, 1)
                    up = np.clip((n - start - closing - 1) / opening, 0, 1)
                    closed = np.maximum(closed, _eased(down) - _eased(up))
        return closed

    def _blinks(self, block: int) -> list[tuple[int, int, int]]:
        """A block's blinks: (first frame, closing frames, opening frames), shut for one frame."""
        if block in self._blocks:
            return self._blocks[block]
        most = BLOCK // SHORTEST + 1
        index = np.arange(block * most, (block + 1) * most)
        closing = 3 + np.floor(2 * self._closing(index)).astype(int)
        opening = 6 + np.floor(2 * self._opening(index)).astype(int)
        intervals = [_interval(u) for u in self._interval(index)]
        # The block begins somewhere within an interval.
        start = block * BLOCK + round(intervals[0] * self._phase(index[:1])[0])
        blinks: list[tuple[int, int, int]] = []
        for k in range(1, most):
            if start + SHORTEST > (block + 1) * BLOCK:
                break
            blinks.append((start, int(closing[k]), int(opening[k])))
            start += intervals[k]
        if len(self._blocks) > 1:
            self._blocks.clear()
        self._blocks[block] = blinks
        return blinks


_NORMAL: Final = NormalDist(log(INTERVAL_S * FPS) - SPREAD**2 / 2, SPREAD)


def _interval(u: float) -> int:
    """A log-normal interval between blinks in frames."""
    return min(max(round(exp(_NORMAL.inv_cdf(min(max(u, 1e-9), 1 - 1e-9)))), SHORTEST), LONGEST)


def _eased(u: Values) -> Values:
    return u * u * (3 - 2 * u)


def accents(levels: Values) -> Values:
    """How far the brows go up for stressed syllables: 0..1, (len(levels) - HISTORY,)."""
    prominent = prominence(levels)
    count = len(levels) - HISTORY
    total = np.zeros(count)
    for ago, share in enumerate(_SHAPE):
        begin = len(_SHAPE) - 1 - ago
        total += share * prominent[begin : begin + count]
    return np.minimum(total, 1)


def prominence(levels: Values) -> Values:
    """How much louder a frame is than the BEFORE before it: 0..1, (len(levels) - BEFORE,).

    A contrast hardly depends on the microphone's gain.
    """
    now = levels[BEFORE:]
    before = sum(levels[k : k - BEFORE] for k in range(BEFORE)) / BEFORE
    contrast = (now - before) / (now + before + 0.04)
    return np.clip((contrast - 0.15) / 0.35, 0, 1)


def loudness(window: Window, first: int, last: int) -> Values:
    """Square root of the RMS of a window's frames ``first`` .. ``last`` - 1, (last - first,)."""
    begin = window.end * SAMPLE_RATE // FPS - WINDOW
    edges = np.arange(first, last + 1) * SAMPLE_RATE // FPS - begin
    power = np.square(window.audio[edges[0] : edges[-1]], dtype=np.float64)
    sums = np.add.reduceat(power, edges[:-1] - edges[0])
    return np.sqrt(np.sqrt(sums / np.diff(edges)))


class LoudnessHistory:
    """The loudness of a stream's frames, from its windows in order.

    Levels before a window's audio come from earlier windows; frames in no window count as silent.
    """

    def __init__(self) -> None:
        self.reset()

    def push(self, window: Window) -> Values:
        """Loudness of the window's frames and the HISTORY before: (HISTORY + last - first,)."""
        first = window.first - HISTORY
        known = max(first, window.end - FRAMES)
        levels = np.zeros(window.last - first)
        gap = first - (self.end - HISTORY)
        if known > first and 0 <= gap < HISTORY:
            kept = self.levels[gap : gap + known - first]
            levels[: len(kept)] = kept
        levels[known - first :] = loudness(window, known, window.last)
        self.end, self.levels = window.last, levels[-HISTORY:]
        return levels

    def reset(self) -> None:
        """Forgets all levels, as the stream forgets its samples at a reset."""
        self.end = 0  # one past the last frame with a level
        self.levels = np.zeros(HISTORY)  # of the frames before `end`
