"""Whether a mouth follows voices of which there is no picture, as real mouths follow theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.landmarks import NEUTRAL, align, lip_gap
from training.corpus.clips import Samples, read_sound
from training.scores.metrics import correlation
from training.trial.model import SETS, Subject
from training.trial.report import Check, Lines, Section
from training.trial.silence import NOISE_PX, off_rest

Frames = NDArray[np.float64]

FLOOR_DB: Final = 40.0
SMOOTHING: Final = 1.5
"""Standard deviation in frames of the Gaussian that smooths loudness: 118 ms at half height."""
PAUSE_DB: Final = 35.0
PAUSE: Final = 9
"""Frames (300 ms) that loudness must stay low for a pause."""
PAUSE_SETTLES: Final = 6
"""Frames (200 ms) into a pause after which the lips are to be closed."""
OPENS: Final = 3
"""Frames (100 ms) before a pause's end in which real lips part already."""
MIDDLE: Final = (5.0, 95.0)
"""Percentiles of real clips between which a correlation counts as a real mouth's."""


def loudness(audio: Samples, count: int) -> Frames:
    """dB under the loudest, (count,): of 1/30 s around the time of each frame."""
    power = np.concatenate([[0.0], np.cumsum(np.square(audio, dtype=np.float64))])
    middle = np.arange(count) * SAMPLE_RATE // FPS
    half = SAMPLE_RATE // FPS // 2
    low, high = (np.clip(middle + side, 0, len(audio)) for side in (-half, half))
    level = (power[high] - power[low]) / np.maximum(high - low, 1)
    return 10 * np.log10(np.maximum(level, 1e-20) / max(level.max(), 1e-20))


def envelope(audio: Samples, count: int) -> Frames:
    """:func:`loudness`, no lower than 40 dB under the loudest, smoothed."""
    k = np.arange(-6, 7)
    weights = np.exp(-((k / SMOOTHING) ** 2) / 2)
    held = np.maximum(loudness(audio, count), -FLOOR_DB)
    return np.convolve(np.pad(held, 6, mode="edge"), weights / weights.sum(), "valid")


def follows(gap: Frames, audio: Samples) -> float:
    """Correlation of a gap (T,) with the envelope, from the first to the last of the speech."""
    spoken = np.flatnonzero(loudness(audio, len(gap)) > -PAUSE_DB)
    part = slice(int(spoken[0]), int(spoken[-1]) + 1)
    return correlation(gap[part], envelope(audio, len(gap))[part])


def pauses(audio: Samples, count: int) -> Iterator[slice]:
    """The frames of each pause from 200 ms into it on."""
    low = np.concatenate([[False], loudness(audio, count) < -PAUSE_DB, [False]])
    edges = np.flatnonzero(np.diff(low.astype(int)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start >= PAUSE:
            yield slice(int(start) + PAUSE_SETTLES, int(stop))


def voices(subject: Subject) -> Section:
    section = Section(
        "voices",
        "Does the mouth follow the voice? Correlation of the inner-lip gap with loudness (1/30 s "
        "around each frame, dB, no lower than 40 dB under the clip's loudest, smoothed by a "
        "Gaussian of 118 ms at half height), from the first to the last frame of speech. Within "
        "the range: between the 5th and 95th percentile of the same figure of real gaps, each "
        "set weighing the same. A pause is 300 ms or more that stay 35 dB under the clip's "
        "loudest; from 200 ms into it on the gap is the identity's within 1.5 px. The canonical "
        "face, the emotion neutral.",
    )
    real = real_following(subject)
    low, high = middle_of(list(real.values()))
    rows: list[list[str | float]] = []
    quiet, earlier = [np.zeros(0)], [np.zeros(0)]
    sounds = sorted((subject.data / "voices").glob("*.flac"))
    for path in sounds:
        audio = read_sound(path)
        frames = subject.said(audio)
        gap, apart = lip_gap(frames), off_rest(frames, NEUTRAL)
        value = follows(gap, audio)
        within = low <= value <= high
        in_pauses = [apart[p] for p in pauses(audio, len(frames))]
        shorter = [p[:-OPENS] for p in in_pauses if len(p) > OPENS]
        quiet += in_pauses
        earlier += shorter
        rows.append([path.stem, value, "" if within else "**outside**", float(gap.std()),
                     len(in_pauses), most_of(in_pauses), most_of(shorter)])  # fmt: skip
    inside = sum(row[2] == "" for row in rows)
    section.checks = [
        Check("clips within the range", inside, low=len(sounds)),
        Check("gap in pauses, max", most_of(quiet), high=NOISE_PX, unit="px"),
        Check("the same but for a pause's last 100 ms", most_of(earlier),
              high=NOISE_PX, unit="px"),
    ]  # fmt: skip
    head = ["clip", "correlation", f"in {low:.2f} to {high:.2f}", "std of the gap, px",
            "pauses", "most in pauses, px", "but their last 100 ms"]  # fmt: skip
    share = within_share(np.concatenate(quiet))
    title = f"Of all frames in pauses {share:.1%} are within {NOISE_PX} px."
    of_sets: list[list[str | float]] = [
        [name, len(v), min(v), float(np.mean(v)), max(v), *real_pauses(subject, name)]
        for name, v in real.items()
    ]
    heads = ["true gaps", "clips", "least", "mean", "most", "frames in pauses",
             f"share within {NOISE_PX} px"]  # fmt: skip
    section.tables = [Lines("", heads, of_sets), Lines(title, head, rows)]
    return section


def real_following(subject: Subject) -> dict[str, list[float]]:
    """:func:`follows` of the true gaps of each set's clips."""
    return {
        name: [follows(lip_gap(align(c.points, c.identity)), c.audio) for c in subject.clips(name)]
        for name in SETS
    }


def real_pauses(subject: Subject, name: str) -> tuple[int, float]:
    """A set's frames in pauses, and the share of them with the true gap near the identity's."""
    apart = [np.zeros(0)]
    for clip in subject.clips(name):
        off = off_rest(align(clip.points, clip.identity), clip.identity)
        apart += [off[p] for p in pauses(clip.audio, len(off))]
    frames = np.concatenate(apart)
    return len(frames), within_share(frames)


def most_of(parts: Sequence[Frames]) -> float:
    """The greatest of all; nan where there is none."""
    return max((float(p.max()) for p in parts if len(p)), default=float("nan"))


def within_share(apart: Frames) -> float:
    return float((apart <= NOISE_PX).mean()) if len(apart) else float("nan")


def middle_of(sets: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The percentiles :data:`MIDDLE` of all values, each set weighing the same."""
    values = np.concatenate([np.asarray(s, np.float64) for s in sets])
    weights = np.concatenate([np.full(len(s), 1 / len(s)) for s in sets])
    order = np.argsort(values)
    share = 100 * (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    low, high = np.interp(MIDDLE, share, values[order])
    return float(low), float(high)
