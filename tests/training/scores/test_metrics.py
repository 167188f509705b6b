from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.landmarks import INNER_LOWER, NEUTRAL, RIGID, fit_similarity
from training.scores.metrics import (
    DISTANCES,
    best_lag,
    clip_metrics,
    closure_recall,
)


@given(st.integers(0, 2**32 - 1))
def test_all_figures_are_what_complex_numbers_give(seed: int) -> None:
    """The whole path again, a landmark as x + iy: alignment frame by frame, then eq. 13-15."""
    rng = np.random.default_rng(seed)
    identity = NEUTRAL + rng.normal(0, 2, (68, 2))
    turns = np.exp(rng.normal(0, 0.1, (2, 7)) + 1j * rng.normal(0, 0.1, (2, 7)))
    still = identity[:, 0] + 1j * identity[:, 1] + rng.normal(0, 1, (2, 7, 68))
    z = turns[..., None] * still + rng.normal(0, 9, (2, 7, 1))
    frames = np.stack([z.real, z.imag], axis=-1)
    found = clip_metrics(frames[0], frames[1], identity).by_name

    straight = np.empty_like(z)
    for k in range(2):
        for t in range(7):
            fit = fit_similarity(frames[k, t, list(RIGID)], identity[list(RIGID)])
            straight[k, t] = (fit.linear[0, 0] + 1j * fit.linear[1, 0]) * z[k, t] + complex(
                *fit.offset
            )
    for prefix, faces in (("", straight), ("raw_", z)):
        off = faces[0] - faces[1]
        moved = off[1:] - off[:-1]
        sums = (off[:, 48:], moved[:, 48:], off, moved)
        for name, part in zip(DISTANCES, sums, strict=True):
            value = float(np.abs(part).sum() / part.size)
            eyes = float(np.hypot(*(identity[36] - identity[45])))
            assert found[prefix + name] == pytest.approx(value)
            assert found[f"{prefix}iod_{name}"] == pytest.approx(100 * value / eyes)


def talking(frames: int = 40, size: float = 4.0) -> NDArray[np.float64]:
    """A face whose lower inner lip goes down and up again, (frames, 68, 2)."""
    faces = np.repeat(NEUTRAL[None], frames, axis=0)
    wave = size * np.abs(np.sin(np.arange(frames) / 3))
    faces[:, INNER_LOWER, 1] += wave[:, None]
    return faces


def test_half_the_opening_is_half_the_gain_and_full_correlation() -> None:
    metrics = clip_metrics(talking(size=2), talking(size=4), NEUTRAL)
    assert metrics.gain == pytest.approx(0.5)
    assert metrics.correlation == pytest.approx(1)
    assert metrics.lag == 0


def test_a_still_face_has_no_lag_and_a_still_truth_no_gain() -> None:
    still = np.repeat(NEUTRAL[None], 40, axis=0)
    metrics = clip_metrics(still, talking(), NEUTRAL)
    assert (metrics.correlation, metrics.gain) == (0, 0) and isnan(metrics.lag)
    assert isnan(clip_metrics(talking(), still, NEUTRAL).gain)


def test_the_longer_of_two_sequences_is_cut() -> None:
    assert clip_metrics(talking(50), talking(40), NEUTRAL).f_ld == pytest.approx(0, abs=1e-9)
    assert clip_metrics(talking(40), talking(50), NEUTRAL).f_ld == pytest.approx(0, abs=1e-9)


def test_a_single_frame_has_a_distance_and_no_velocity() -> None:
    metrics = clip_metrics(talking(1) + 1, talking(1), NEUTRAL)
    assert metrics.raw_f_ld == pytest.approx(np.sqrt(2)) and isnan(metrics.raw_f_lvd)


@given(st.integers(-6, 6))
def test_the_lag_is_found_again(lag: int) -> None:
    wave = np.random.default_rng(1).normal(size=100)
    truth, predicted = wave[20:80], wave[20 - lag : 80 - lag]
    assert best_lag(predicted, truth, 10) == lag


def test_closures_are_found_within_two_frames() -> None:
    truth = np.full(60, 8.0)
    truth[[10, 30, 50]] = 0.5
    predicted = np.full(60, 8.0)
    predicted[12] = 1.0  # two frames late: found
    predicted[34] = 1.0  # four frames late: not
    spans = [(10 / 30, 11 / 30), (29 / 30, 31 / 30), (50 / 30, 51 / 30), (20 / 30, 21 / 30)]
    assert closure_recall(predicted, truth, spans) == (1, 3)
