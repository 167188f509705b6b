"""Whether one network is ahead of another: the paired bootstrap over clips and seeds.

Both networks are scored on the same clips, each trained with one seed or several. A resample draws
as many clips as there are, the same for both, and as many seeds as each network has (Efron and
Tibshirani 1993, chapters 8 and 16). *Ahead* and *behind* are said only where the 95 % interval of
the difference excludes 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.errors import DataError
from training.scores.figures import (
    RESAMPLES,
    TITLES,
    Estimate,
    Row,
    Values,
    figures_of,
    interval,
    resampled,
    resamples,
    values_of,
)
from training.scores.metrics import ClipScore
from training.scores.tables import json_value, markdown_table

Seeds = Sequence[Sequence[ClipScore]]
"""A network's scores of the same clips, seed by seed."""

COMPARED: Final = {
    "m_ld": -1, "centred": -1, "shape": -1, "m_lvd": -1, "f_ld": -1, "f_lvd": -1,
    "correlation": 1, "width_correlation": 1, "closure_f1": 1,
}  # fmt: skip
"""Figures of which one end is better: -1 the low, 1 the high one."""

NOTE: Final = (
    "Differences of a row from {}, with 95 % intervals of a paired bootstrap over clips and seeds. "
    "A row is ahead or behind where its interval excludes 0, and level otherwise."
)


@dataclass(frozen=True)
class Difference:
    """The first network's figure less the second's, its 95 % interval and two-sided p.

    ``better``: -1 where a lower figure is better, 1 where a higher one is.
    """

    value: float
    low: float
    high: float
    p: float
    better: int

    @property
    def verdict(self) -> str:
        """ "ahead", "behind" or "level"; empty where the figure is undefined."""
        if not isfinite(self.value):
            return ""
        if not (self.low > 0 or self.high < 0):
            return "level"
        return "ahead" if self.value * self.better > 0 else "behind"

    @property
    def text(self) -> str:
        """As a table's cell."""
        if not isfinite(self.value):
            return ""
        ends = f" [{self.low:+.3f}, {self.high:+.3f}], p {self.p:.3f}"
        return f"{self.value:+.3f}{ends if isfinite(self.low) else ''}, {self.verdict}"

    @property
    def json(self) -> dict[str, Any]:
        numbers = {name: json_value(getattr(self, name)) for name in ("value", "low", "high", "p")}
        return {**numbers, "verdict": self.verdict}


def compare(first: Seeds, second: Seeds, seed: int = 0) -> dict[str, Difference]:
    """The differences of the figures of :data:`COMPARED`, means over seeds, by name.

    Raises DataError unless all seeds of both have the same clips in the same order. One clip has
    no interval. With a single seed of a network nothing is known of the spread over its seeds, and
    the interval is of the clips alone.
    """
    _check_clips([*first, *second])
    networks = [_drawn(seeds, seed + k) for k, seeds in enumerate((first, second))]
    found: dict[str, Difference] = {}
    for name, better in COMPARED.items():
        a, b = (mean_over_seeds(seeds)[name] for seeds in (first, second))
        differences = networks[0][name] - networks[1][name]
        p = _p_value(differences)
        found[name] = Difference(a - b, *interval(differences), p, better)
    return found


def mean_over_seeds(seeds: Seeds) -> Row:
    """A network's figures, means over its seeds."""
    of_seeds = [figures_of(scores) for scores in seeds]
    return {name: float(np.mean([row[name] for row in of_seeds])) for name in of_seeds[0]}


def seed_estimates(seeds: Seeds) -> dict[str, Estimate]:
    """A network's figures, means over its seeds, with intervals over clips and seeds."""
    _check_clips(seeds)
    drawn = _drawn(seeds, 0)
    means = mean_over_seeds(seeds)
    return {name: Estimate(means[name], *interval(drawn[name])) for name in means}


def _drawn(seeds: Seeds, seed: int) -> Values:
    """Every figure of each resample, by name: (R,). All networks draw the same clips, and seeds
    that depend on ``seed``; a single clip gives nan."""
    clips = len(seeds[0])
    if clips == 1:
        return {name: np.full(1, np.nan) for name in figures_of(seeds[0])}
    of_seeds = [resampled(values_of(scores), resamples(clips)) for scores in seeds]
    chosen = np.random.default_rng([seed, 1]).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    return {
        name: _mean_of_chosen(np.stack([f[name] for f in of_seeds], axis=1), chosen)
        for name in of_seeds[0]
    }


def _mean_of_chosen(figures: NDArray[np.float64], chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    """Means over the seeds drawn for each resample, (R, K) figures and (R, K) seeds -> (R,).

    The mean of K drawn from K seeds spreads by sqrt((K - 1) / K) of what a mean of K seeds does
    (Efron and Tibshirani 1993, section 5.3); with three seeds that matters and is made up for.
    """
    mean = figures.mean(axis=1)
    seeds = figures.shape[1]
    if seeds == 1:
        return mean
    of_chosen = np.take_along_axis(figures, chosen, axis=1).mean(axis=1)
    return mean + sqrt(seeds / (seeds - 1)) * (of_chosen - mean)


def _p_value(differences: NDArray[np.float64]) -> float:
    """Two-sided: twice the share of resamples on the rarer side of 0, at most 1."""
    defined = differences[np.isfinite(differences)]
    if not len(defined):
        return float("nan")
    rarer = min((defined <= 0).sum(), (defined >= 0).sum())
    return min(1.0, 2 * float(rarer + 1) / (len(defined) + 1))


def _check_clips(all_scores: Seeds) -> None:
    names = [[clip.name for clip in scores] for scores in all_scores]
    for others in names[1:]:
        if others != names[0]:
            raise DataError(
                f"scores of {len(names[0])} and of {len(others)} clips cannot be compared: they "
                "are not the same; wanted the same clips in the same order"
            )


def comparisons(rows: Mapping[str, Seeds], base: str) -> dict[str, dict[str, Difference]]:
    """Every other row compared with the row ``base``, by name."""
    return {name: compare(seeds, rows[base]) for name, seeds in rows.items() if name != base}


def comparison_table(found: Mapping[str, Mapping[str, Difference]], base: str) -> str:
    """Markdown: a row a network, a column a figure that is defined in any, and what it says."""
    columns = [c for c in COMPARED if any(isfinite(row[c].value) for row in found.values())]
    lines = [[name, *(row[c].text for c in columns)] for name, row in found.items()]
    table = markdown_table([f"less {base}", *(TITLES[c] for c in columns)], lines)
    return f"{NOTE.format(base)}\n\n{table}"
