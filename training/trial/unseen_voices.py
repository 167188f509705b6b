"""Whether a mouth follows the loudness of unseen voices as real mouths follow theirs."""

from collections.abc import Iterator, Sequence
from math import nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.landmarks import NEUTRAL, align, lip_gap
from training.corpus.clips import Samples, read_sound
from training.scores.metrics import correlation
from training.trial.model import SETS, TrialModel
from training.trial.report import Check, Section, Table
from training.trial.silence import NOISE_PX, gap_from_rest

Curve = NDArray[np.float64]
"""A value a frame, (T,)."""

FLOOR_DB: Final = 40.0
SMOOTHING: Final = 1.5
"""Standard deviation in frames of the Gaussian that smooths loudness: 118 ms at half height."""
PAUSE_DB: Final = 35.0
PAUSE: Final = 9
"""Curve (300 ms) that loudness must stay low for a pause."""
PAUSE_SETTLES: Final = 6
"""Curve (200 ms) into a pause after which the lips are to be closed."""
OPENS: Final = 3
"""Curve (100 ms) before a pause's end in which real lips part already."""
REAL_PERCENTILES: Final = (5.0, 95.0)
"""Percentiles of real clips between which a correlation counts as a real mouth's."""


def loudness(audio: Samples, count: int) -> Curve:
    """dB under the loudest, (count,): of 1/30 s around the time of each frame."""
    power = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    centre = np.arange(count) * SAMPLE_RATE // FPS
    half = SAMPLE_RATE // FPS // 2
    low, high = (np.clip(centre + side, 0, len(audio)) for side in (-half, half))
    level = (power[high] - power[low]) / np.maximum(high - low, 1)
    return 10 * np.log10(np.maximum(level, 1e-20) / max(level.max(), 1e-20))


def envelope(audio: Samples, count: int) -> Curve:
    """:func:`loudness`, no lower than 40 dB under the loudest, smoothed."""
    k = np.arange(-6, 7)
    weights = np.exp(-((k / SMOOTHING) ** 2) / 2)
    level = np.maximum(loudness(audio, count), -FLOOR_DB)
    return np.convolve(np.pad(level, 6, mode="edge"), weights / weights.sum(), "valid")


def loudness_correlation(gap: Curve, audio: Samples) -> float:
    """Correlation of a gap (T,) with the envelope, from the first to the last of the speech."""
    speech = np.flatnonzero(loudness(audio, len(gap)) > -PAUSE_DB)
    part = slice(int(speech[0]), int(speech[-1]) + 1)
    return correlation(gap[part], envelope(audio, len(gap))[part])


def pauses(audio: Samples, count: int) -> Iterator[slice]:
    """The frames of each pause from 200 ms into it on."""
    low = np.concatenate([[False], loudness(audio, count) < -PAUSE_DB, [False]])
    edges = np.flatnonzero(np.diff(low.astype(int)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start >= PAUSE:
            yield slice(int(start) + PAUSE_SETTLES, int(stop))


def measure(model: TrialModel) -> Section:
    real = {name: real_correlations(model, name) for name in SETS}
    low, high = percentile_range(list(real.values()))
    sounds = sorted((model.data / "voices").glob("*.flac"))
    rows: list[list[str | float]] = []
    all_pauses, all_shortened = [np.zeros(0)], [np.zeros(0)]
    for path in sounds:
        audio = read_sound(path)
        frames = model.animate(audio)
        gap, from_rest = lip_gap(frames), gap_from_rest(frames, NEUTRAL)
        value = loudness_correlation(gap, audio)
        in_pauses = [from_rest[p] for p in pauses(audio, len(frames))]
        shortened = [p[:-OPENS] for p in in_pauses if len(p) > OPENS]
        all_pauses += in_pauses
        all_shortened += shortened
        rows.append([path.stem, value, "" if low <= value <= high else "**outside**",
                     float(gap.std()), len(in_pauses), maximum(in_pauses),
                     maximum(shortened)])  # fmt: skip
    inside = sum(row[2] == "" for row in rows)
    share = share_near_rest(np.concatenate(all_pauses))
    head = ["clip", "correlation", f"in {low:.2f} to {high:.2f}", "std of the gap, px",
            "pauses", "most in pauses, px", "but their last 100 ms"]  # fmt: skip
    real_head = ["true gaps", "clips", "least", "mean", "most", "frames in pauses",
                 f"share within {NOISE_PX} px"]  # fmt: skip
    real_rows: list[list[str | float]] = [
        [name, len(v), min(v), float(np.mean(v)), max(v), *real_pauses(model, name)]
        for name, v in real.items()
    ]
    return Section(
        "unseen voices",
        "Does the mouth follow the voice? Correlation of the inner-lip gap with loudness (1/30 s "
        "around each frame, dB, no lower than 40 dB under the clip's loudest, smoothed by a "
        "Gaussian of 118 ms at half height), from the first to the last frame of speech. Within "
        "the range: between the 5th and 95th percentile of the same figure of real gaps, each "
        "set weighing the same. A pause is 300 ms or more that stay 35 dB under the clip's "
        "loudest; from 200 ms into it on the gap is the identity's within 1.5 px. The canonical "
        "face, the emotion neutral.",
        [
            Check("clips within the range", inside, low=len(sounds)),
            Check("gap in pauses, max", maximum(all_pauses), high=NOISE_PX, unit="px"),
            Check("the same but for a pause's last 100 ms", maximum(all_shortened),
                  high=NOISE_PX, unit="px"),
        ],
        [
            Table("", real_head, real_rows),
            Table(f"Of all frames in pauses {share:.1%} are within {NOISE_PX} px.", head, rows),
        ],
    )  # fmt: skip


def real_correlations(model: TrialModel, name: str) -> list[float]:
    """:func:`loudness_correlation` of the true gaps of a set's clips."""
    clips = model.clips(name)
    return [loudness_correlation(lip_gap(align(c.points, c.identity)), c.audio) for c in clips]


def real_pauses(model: TrialModel, name: str) -> tuple[int, float]:
    """A set's frames in pauses, and the share of them with the true gap near the identity's."""
    in_pauses = [np.zeros(0)]
    for clip in model.clips(name):
        from_rest = gap_from_rest(align(clip.points, clip.identity), clip.identity)
        in_pauses += [from_rest[p] for p in pauses(clip.audio, len(from_rest))]
    frames = np.concatenate(in_pauses)
    return len(frames), share_near_rest(frames)


def maximum(parts: Sequence[Curve]) -> float:
    """The greatest value of all; nan where there is none."""
    return max((float(p.max()) for p in parts if len(p)), default=nan)


def share_near_rest(gaps: Curve) -> float:
    return float((gaps <= NOISE_PX).mean()) if len(gaps) else nan


def percentile_range(sets: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The percentiles :data:`REAL_PERCENTILES` of all values, each set weighing the same."""
    values = np.concatenate([np.asarray(s, np.float64) for s in sets])
    weights = np.concatenate([np.full(len(s), 1 / len(s)) for s in sets])
    order = np.argsort(values)
    share = 100 * (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, high = np.interp(REAL_PERCENTILES, share, values[order])
    return float(low), float(high)
