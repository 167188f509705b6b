from math import isnan, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.scores.scored_clips import clip
from training.scores.figures import (
    ABOUT,
    FURTHER,
    MAIN,
    TITLES,
    bootstrap_estimates,
    figures_of,
    ranges,
    resampled,
    values_of,
)


@given(st.lists(st.floats(0, 9), min_size=2, max_size=30), st.integers(0, 5))
def test_the_interval_holds_the_mean_and_lies_within_the_data(
    values: list[float], seed: int
) -> None:
    found = bootstrap_estimates([clip(m_ld=v) for v in values], seed)["m_ld"]
    assert found.value == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    assert found == bootstrap_estimates([clip(m_ld=v) for v in values], seed)["m_ld"]


def test_the_interval_is_as_wide_as_the_spread_of_a_mean() -> None:
    """Of many clips the bootstrap's ends are 1.96 standard errors away."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap_estimates([clip(m_ld=v) for v in values])["m_ld"]
    error = values.std() / sqrt(400)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_one_clip_has_a_figure_and_no_interval() -> None:
    found = bootstrap_estimates([clip(m_ld=1.5)])["m_ld"]
    assert found.value == 1.5 and isnan(found.low) and isnan(found.high)
    assert found.text() == "1.500"


def test_a_clip_without_a_figure_counts_for_none_of_it() -> None:
    each = [clip(lag=nan), clip(lag=1), clip(lag=-4)]
    found = bootstrap_estimates(each)["abs_lag"]
    assert found.value == pytest.approx(2.5)
    assert (found.low, found.high) == pytest.approx((1, 4))
    assert bootstrap_estimates([clip(lag=nan)] * 2)["abs_lag"].text() == ""


def test_gain_and_swing_are_medians_of_what_is_defined() -> None:
    each = [clip(gain=v, swing=v) for v in (0.5, 0.6, 9.0, nan)]
    found = figures_of(each)
    assert (found["gain"], found["swing"]) == (0.6, 0.6)
    assert figures_of(each[:2])["gain"] == pytest.approx(0.55)
    assert isnan(figures_of(each[3:])["gain"])
    drawn = resampled(values_of(each), np.array([[0, 0, 3, 1], [2, 0, 1, 1], [0, 0, 0, 4]]))
    assert drawn["gain"][:2].tolist() == [9.0, 0.5] and isnan(drawn["gain"][2])


def test_centred_and_shape_are_means_of_ratios_and_the_ratio_is_of_means() -> None:
    each = [
        clip(centred_px=1, centred_still_px=2, shape_px=3, shape_still_px=3, m_ld=1, copied_m_ld=1),
        clip(centred_px=1, centred_still_px=1, shape_px=1, shape_still_px=2, m_ld=1, copied_m_ld=3),
    ]
    found = figures_of(each)
    assert (found["centred"], found["shape"], found["ratio"]) == (0.75, 0.75, 0.5)


def test_closures_are_counted_over_all_clips() -> None:
    each = [
        clip(closures_found=1, closures=2, closures_right=3, closures_shown=3),
        clip(closures_found=1, closures=1, closures_right=0, closures_shown=2),
        clip(),
    ]
    found = figures_of(each)
    names = ("closure_recall", "closure_precision", "closure_f1")
    recall, precision, f1 = (found[name] for name in names)
    assert (recall, precision) == pytest.approx((2 / 3, 3 / 5))
    assert f1 == pytest.approx(2 / (3 / 2 + 5 / 3))
    none = figures_of([clip(closures=2, closures_found=0, closures_shown=0, closures_right=0)])
    assert (none["closure_recall"], none["closure_f1"]) == (0, 0)
    assert isnan(none["closure_precision"])
    assert isnan(figures_of([clip(closures_shown=1)])["closure_f1"])  # no phones are known


def test_every_column_has_a_title_and_a_line() -> None:
    assert set(TITLES) == set(ABOUT) == {*MAIN, *FURTHER}
    assert set(TITLES) <= set(figures_of([clip()]))


def test_the_range_is_that_of_single_clips() -> None:
    each = [clip(gain=0.2, correlation=nan), clip(gain=nan, correlation=nan), clip(gain=0.9)]
    found = ranges(each, ["gain", "correlation", "closure_f1"])
    assert found["gain"] == (0.2, 0.9)
    assert found["correlation"][0] == found["correlation"][1]
    assert "closure_f1" not in found
