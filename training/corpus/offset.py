"""By how much a clip's sound is late: the lag at which its loudness follows the lips best.

Loudness (log energy of 50 ms, at 30 fps) and inner-lip gap are correlated at every lag to ten
frames, each with its moving mean over 0.3 s taken off: what is slower than syllables, a sentence
between two silences, correlates nearly as well at any lag.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.landmarks import lip_gap
from training.corpus.clips import Points, Samples

MOST_LAG: Final = 10  # frames either way
LARGE_MS: Final = 100.0
ENERGY_S: Final = 0.05
RANGE_DB: Final = 30.0  # below a clip's loudest frame: what is quieter is silence
MEAN_OVER: Final = 4  # frames either way
PEAK: Final = 3  # frames either way that belong to the best lag
LEAST_FRAMES: Final = 30
LEAST_CORRELATION: Final = 0.2
LEAST_LEAD: Final = 2.0  # over the root of the number of frames


class AudioOffset(msgspec.Struct, frozen=True):
    """``ms`` by which the sound is later than the lips (negative: earlier) and the correlation
    there. ``trusted``: it leads that of every other lag, more than three frames away, by
    2 / sqrt(frames), which chance seldom does.
    """

    ms: float
    correlation: float
    trusted: bool

    @property
    def large(self) -> bool:
        """Whether sound and lips are trusted to be more than 100 ms apart."""
        return self.trusted and abs(self.ms) > LARGE_MS


def audio_offset(audio: Samples, points: Points) -> AudioOffset | None:
    """Of sound (N,) at 16 kHz and faces (T, 68, 2) at 30 fps that start together.

    None for less than a second, and where the lips or the loudness do not change.
    """
    frames = len(points)
    if frames < LEAST_FRAMES:
        return None
    loud, gap = _changes(loudness(audio, frames)), _changes(lip_gap(points))
    if min(np.ptp(loud), np.ptp(gap)) < 1e-6:
        return None
    found = np.array([_correlation(loud, gap, k) for k in range(-MOST_LAG, MOST_LAG + 1)])
    best = int(found.argmax())
    lead = found[best] - found[np.abs(np.arange(len(found)) - best) > PEAK].max()
    trusted = found[best] >= LEAST_CORRELATION and lead >= LEAST_LEAD / np.sqrt(frames)
    ms = (best - MOST_LAG + _vertex(found, best)) * 1000 / FPS
    return AudioOffset(round(ms, 1), round(float(found[best]), 3), bool(trusted))


def loudness(audio: Samples, frames: int) -> NDArray[np.float64]:
    """(frames,) at 30 fps in dB: 0 for the loudest, about -30 for silence."""
    total = np.concatenate([[0.0], np.cumsum(audio.astype(np.float64) ** 2)])
    middles = np.arange(frames) * SAMPLE_RATE / FPS
    half = ENERGY_S * SAMPLE_RATE / 2
    first, end = (np.clip(np.rint(middles + s), 0, len(audio)).astype(int) for s in (-half, half))
    energy = (total[end] - total[first]) / np.maximum(end - first, 1)
    return 10 * np.log10(energy / max(energy.max(), 1e-12) + 10 ** (-RANGE_DB / 10))


def _changes(track: NDArray[Any]) -> NDArray[np.float64]:
    """Without its moving mean."""
    around = np.ones(2 * MEAN_OVER + 1)
    count = np.convolve(np.ones(len(track)), around, "same")
    return track - np.convolve(track, around, "same") / count


def _correlation(loud: NDArray[Any], gap: NDArray[Any], lag: int) -> float:
    """Pearson's, the loudness taken ``lag`` frames later; 0 where one of them does not change."""
    a, b = (loud[lag:], gap[: len(gap) - lag]) if lag >= 0 else (loud[:lag], gap[-lag:])
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def _vertex(values: NDArray[Any], best: int) -> float:
    """Where, in steps from the largest value, a parabola through it and its neighbours peaks."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, peak, after = values[best - 1 : best + 2]
    bend = before - 2 * peak + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
