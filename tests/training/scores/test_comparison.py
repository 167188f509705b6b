import json
from math import isnan, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.errors import DataError
from tests.training.scores.scored_clips import clip
from training.scores.comparison import (
    Seeds,
    compare,
    comparison_table,
    comparisons,
    seed_estimates,
)
from training.scores.metrics import ClipScore


def scores(values: NDArray[np.float64]) -> list[ClipScore]:
    """A clip a value, that is its M-LD."""
    return [clip(f"c{k}", m_ld=float(v)) for k, v in enumerate(values)]


def test_a_small_difference_on_every_clip_is_ahead_where_clips_differ_widely() -> None:
    hard = np.random.default_rng(0).uniform(1, 5, 40)  # the clips, hard and easy
    near = np.random.default_rng(1).normal(0, 0.02, 40)
    found = compare([scores(hard)], [scores(hard + 0.05 + near)])["m_ld"]
    assert found.verdict == "ahead" and found.p < 0.01
    assert found.low < found.value < found.high < 0
    assert found.value == pytest.approx(-0.05 - near.mean())
    back = compare([scores(hard + 0.05 + near)], [scores(hard)])["m_ld"]
    assert back.verdict == "behind" and back.value == pytest.approx(-found.value)


def test_the_interval_is_that_of_paired_differences() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(3, 1, (2, 300))
    found = compare([scores(one)], [scores(other)])["m_ld"]
    error = (one - other).std() / sqrt(300)
    middle = (one - other).mean()
    assert found.low == pytest.approx(middle - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(middle + 1.96 * error, abs=0.15 * error)


def test_what_holds_0_is_level() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(3, 0.5, 30)
    found = compare([scores(values)], [scores(values + rng.normal(0, 0.1, 30))])["m_ld"]
    assert found.low < 0 < found.high and found.verdict == "level" and found.p > 0.05
    same = compare([scores(values)], [scores(values)])["m_ld"]
    assert (same.value, same.verdict, same.p) == (0, "level", 1)


def test_seeds_that_differ_widen_the_interval_as_a_standard_error_does() -> None:
    offsets = np.array([0.0, 0.2, 0.4])
    seeds: Seeds = [scores(np.full(20, 2 + o)) for o in offsets]  # clips alike: seeds alone
    found = compare(seeds, [scores(np.full(20, 2.1))] * 3)["m_ld"]
    assert found.value == pytest.approx(0.1)
    assert found.verdict == "level"  # though each seed alone would be ahead or behind
    draws = np.random.default_rng(0).integers(0, 3, (20_000, 3))
    error = offsets[draws].mean(axis=1).std() * sqrt(3 / 2)
    assert error == pytest.approx(offsets.std(ddof=1) / sqrt(3), rel=0.02)
    assert found.high - found.low == pytest.approx(2 * sqrt(3 / 2) * 0.2, rel=0.01)
    assert compare([seeds[0]], [scores(np.full(20, 2.1))])["m_ld"].verdict == "ahead"


def test_more_is_better_of_a_correlation_and_less_of_a_distance() -> None:
    first = [clip(f"c{k}", correlation=0.9, shape_px=2, shape_still_px=1) for k in range(9)]
    second = [clip(f"c{k}", correlation=0.8, shape_px=1, shape_still_px=1) for k in range(9)]
    found = compare([first], [second])
    assert found["correlation"].verdict == "ahead"
    assert found["shape"].verdict == "behind"
    assert found["closure_f1"].verdict == ""


def test_scores_of_other_clips_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="the same clips in the same order"):
        compare([scores(np.ones(3))], [scores(np.ones(4))])
    with pytest.raises(DataError, match="the same clips in the same order"):
        compare([scores(np.ones(3))], [scores(np.ones(3))[::-1]])


def test_a_single_clip_is_no_ground_for_a_verdict() -> None:
    found = compare([scores(np.ones(1))], [scores(np.zeros(1))])["m_ld"]
    assert found.value == 1 and isnan(found.low) and isnan(found.p)
    assert found.verdict == "level"
    assert json.loads(json.dumps(found.json, allow_nan=False))["low"] is None


def test_all_rows_are_compared_with_the_base() -> None:
    rows: dict[str, Seeds] = {
        "base": [scores(np.arange(9.0))],
        "worse": [scores(np.arange(9.0) + 1)],
        "same": [scores(np.arange(9.0))],
    }
    found = comparisons(rows, "base")
    assert list(found) == ["worse", "same"]
    table = comparison_table(found, "base")
    assert "| worse | +1.000 [+1.000, +1.000], p 0.001, behind |" in table
    assert "| same | +0.000 [+0.000, +0.000], p 1.000, level |" in table
    assert "closure F1" not in table  # defined in no row


def test_estimates_of_a_network_are_means_over_its_seeds() -> None:
    found = seed_estimates([scores(np.arange(9.0)), scores(np.arange(9.0) + 1)])["m_ld"]
    assert found.value == pytest.approx(4.5)
    assert found.low < 4 and found.high > 5
