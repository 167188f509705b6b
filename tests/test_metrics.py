from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion.landmarks import NEUTRAL
from training.metrics import (
    best_lag,
    closure_recall,
    correlation,
    landmark_distance,
    landmark_velocity_distance,
    score,
)


def test_ld_and_lvd_by_hand() -> None:
    truth = np.zeros((3, 2, 2))
    predicted = truth.copy()
    predicted[1, 0] = (3, 4)  # one of six points is 5 away
    assert landmark_distance(predicted, truth) == pytest.approx(5 / 6)
    # It comes and goes: two of four differences are 5.
    assert landmark_velocity_distance(predicted, truth) == pytest.approx(10 / 4)


@given(st.integers(0, 2**32 - 1))
def test_ld_and_lvd_are_the_papers_sums(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, 5, 4, 2))
    total = velocity = 0.0
    for t in range(5):
        for i in range(4):
            total += np.hypot(x[t, i, 0] - y[t, i, 0], x[t, i, 1] - y[t, i, 1]) / 20
            if t:
                vx = x[t, i] - x[t - 1, i]
                vy = y[t, i] - y[t - 1, i]
                velocity += np.hypot(*(vx - vy)) / 16
    assert landmark_distance(x, y) == pytest.approx(total)
    assert landmark_velocity_distance(x, y) == pytest.approx(velocity)


def test_a_constant_offset_has_no_velocity_error() -> None:
    truth = np.cumsum(np.ones((9, 68, 2)), axis=0)
    assert landmark_velocity_distance(truth + 7, truth) == 0


def test_alignment_forgives_the_head_and_not_the_mouth() -> None:
    truth = np.repeat(NEUTRAL[None], 6, axis=0)
    predicted = truth * 1.1 + np.arange(6)[:, None, None]
    assert score(predicted, truth, NEUTRAL).f_ld == pytest.approx(0, abs=1e-9)
    predicted = truth.copy()
    predicted[:, 48:, 1] += 2
    scores = score(predicted, truth, NEUTRAL)
    assert scores.m_ld == pytest.approx(2) and scores.f_ld == pytest.approx(2 * 20 / 68)


@given(st.integers(-6, 6))
def test_the_lag_is_found_again(lag: int) -> None:
    wave = np.random.default_rng(1).normal(size=100)
    truth, predicted = wave[20:80], wave[20 - lag : 80 - lag]
    assert best_lag(predicted, truth, 10) == lag


def test_a_still_mouth_correlates_with_nothing() -> None:
    assert correlation(np.ones(5), np.arange(5.0)) == 0
    assert correlation(np.arange(5.0), 3 * np.arange(5.0) + 1) == pytest.approx(1)


def test_closures_are_found_within_two_frames() -> None:
    truth = np.full(60, 8.0)
    truth[[10, 30, 50]] = 0.5
    predicted = np.full(60, 8.0)
    predicted[12] = 1.0  # two frames late: found
    predicted[34] = 1.0  # four frames late: not
    spans = [(10 / 30, 11 / 30), (29 / 30, 31 / 30), (50 / 30, 51 / 30), (20 / 30, 21 / 30)]
    assert closure_recall(predicted, truth, spans) == (1, 3)
