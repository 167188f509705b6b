"""The figures of a set of clips: how each is made of the clips' metrics, and its intervals.

Most are means over clips. M-LD's ratio and those of closures are sums over sums, gain and swing
medians, for one clip in which hardly anything moves must not decide a mean of ratios.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.scores.metrics import ClipScore

RESAMPLES: Final = 2000
CHUNK: Final = 200
"""Resamples that are worked out at once."""
INTERVAL: Final = (2.5, 97.5)

Row = dict[str, float]
"""Figures of a set by the names of :attr:`~training.scores.metrics.ClipMetrics.by_name` and
``closure_recall``, ``closure_precision``, ``closure_f1``."""

SUMS: Final = {
    "ratio": ("m_ld", "copied_m_ld"),
    "closure_recall": ("closures_found", "closures"),
    "closure_precision": ("closures_right", "closures_shown"),
}
"""Figures that are the sum of one metric over the sum of another."""
MEDIANS: Final = ("gain", "swing")

MAIN: Final = (
    "m_ld", "ratio", "centred", "shape", "correlation", "gain", "width_correlation", "swing",
    "closure_precision", "closure_recall", "closure_f1",
)  # fmt: skip
"""The columns of the main table."""
FURTHER: Final = ("m_lvd", "f_ld", "f_lvd", "abs_lag")

TITLES: Final = {
    "m_ld": "M-LD",
    "m_lvd": "M-LVD",
    "f_ld": "F-LD",
    "f_lvd": "F-LVD",
    "ratio": "ratio",
    "centred": "centred",
    "shape": "shape",
    "correlation": "r gap",
    "gain": "gain",
    "width_correlation": "r width",
    "swing": "swing",
    "abs_lag": "lag, frames",
    "closure_precision": "closure precision",
    "closure_recall": "closure recall",
    "closure_f1": "closure F1",
}
ABOUT: Final = {
    "m_ld": "mean distance of the mouth's points, px",
    "ratio": "M-LD over that of copy identity, a face at rest that never moves",
    "centred": "M-LD with each point's mean over the clip taken off prediction and truth, over "
    "that of no motion; at 1 or more a face that stands still is as near; mean over clips",
    "shape": "centred, with the mouth's centroid taken off each frame before: without nods",
    "correlation": "correlation of the inner-lip gap",
    "gain": "standard deviation of the gap, predicted over true; median over clips",
    "width_correlation": "correlation of the mouth's width, between points 48 and 54",
    "swing": "standard deviation of the width, predicted over true; median over clips",
    "closure_precision": "share of the prediction's closures (runs of frames with a gap under "
    "1.5 px) each of whose frames is within two frames of one where the truth is closed",
    "closure_recall": "share of the true closures of p, b, m (gap under 1.5 px) at which the "
    "prediction closes within two frames; needs a table of phones",
    "closure_f1": "harmonic mean of both",
    "m_lvd": "M-LD of the differences from frame to frame",
    "f_ld": "mean distance of all 68 points, px",
    "f_lvd": "F-LD of the differences from frame to frame",
    "abs_lag": "frames by which the gap is late or early at its best correlation",
}
"""A line a column."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the ends of its 95 % bootstrap interval; nan where undefined."""

    value: float
    low: float = nan
    high: float = nan

    def text(self, *, interval: bool = True) -> str:
        """As a table's cell; empty for nan."""
        if not isfinite(self.value):
            return ""
        if not interval or not isfinite(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Values = dict[str, NDArray[np.float64]]
"""A metric of every clip, by name: (clips,)."""


def values_of(clips: Sequence[ClipScore]) -> Values:
    """The clips' metrics by name."""
    rows = [c.metrics.by_name for c in clips]
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def resamples(clips: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each of 2000 bootstrap resamples has each clip, (2000, clips)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES)


def resampled(values: Values, counts: NDArray[np.int64]) -> Values:
    """Every figure of each row of ``counts`` (R, clips), by name: (R,).

    A clip in which a metric is undefined is left out of its mean, sum or median.
    """
    names = [n for n in values if n not in SUMS and n not in MEDIANS]
    parts = [_resampled(values, names, counts[k : k + CHUNK]) for k in range(0, len(counts), CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _resampled(values: Values, means: Sequence[str], counts: NDArray[np.int64]) -> Values:
    matrix = np.column_stack([values[name] for name in means])
    weights = counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        sums = weights @ np.nan_to_num(matrix)
        found = dict(zip(means, (sums / (weights @ np.isfinite(matrix))).T, strict=True))
        for name, (part, whole) in SUMS.items():
            found[name] = (weights @ values[part]) / (weights @ values[whole])
        recall, precision = found["closure_recall"], found["closure_precision"]
        shown = np.where(np.isnan(precision), 0, precision)  # none shown: none found
        both = shown + recall
        found["closure_f1"] = np.where(both > 0, 2 * shown * recall / both, both)
    rows, clips = counts.shape
    drawn = np.repeat(np.tile(np.arange(clips), rows), counts.ravel()).reshape(rows, clips)
    for name in MEDIANS:
        found[name] = _medians(values[name][drawn])
    return found


def _medians(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median of what is defined in each row, (R, N) -> (R,)."""
    rows = np.sort(rows, axis=1)  # nan comes last
    count = np.isfinite(rows).sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, rows.shape[1] - 1)
    middle = [np.take_along_axis(rows, k[:, None], axis=1)[:, 0] for k in (low, high)]
    return (middle[0] + middle[1]) / 2


def figures_of(clips: Sequence[ClipScore]) -> Row:
    """The figures of the clips as they are."""
    once = np.ones((1, len(clips)), np.int64)
    return {name: float(value[0]) for name, value in resampled(values_of(clips), once).items()}


def bootstrap_estimates(clips: Sequence[ClipScore], seed: int = 0) -> dict[str, Estimate]:
    """Every figure with the percentile bootstrap (Efron 1979) over clips.

    Each of 2000 resamples draws as many clips as there are, with replacement; the interval is
    that of their figures between 2.5 and 97.5 %. Rows with the same number of clips draw the same
    resamples. A single clip has no interval.
    """
    figures = figures_of(clips)
    if len(clips) == 1:
        return {name: Estimate(value) for name, value in figures.items()}
    drawn = resampled(values_of(clips), resamples(len(clips), seed))
    return {name: Estimate(figures[name], *interval(drawn[name])) for name in figures}


def interval(drawn: NDArray[Any]) -> tuple[float, float]:
    """The 95 % interval of resampled figures (R,); nan where none is defined."""
    defined = drawn[np.isfinite(drawn)]
    if not len(defined):
        return nan, nan
    low, high = np.percentile(defined, INTERVAL)
    return float(low), float(high)


def ranges(clips: Sequence[ClipScore], names: Sequence[str]) -> Mapping[str, tuple[float, float]]:
    """The least and the greatest of the clips' own metrics, by name; without undefined ones."""
    values = values_of(clips)
    found: dict[str, tuple[float, float]] = {}
    for name in names:
        defined = values[name][np.isfinite(values[name])] if name in values else np.zeros(0)
        if len(defined):
            found[name] = float(defined.min()), float(defined.max())
    return found
