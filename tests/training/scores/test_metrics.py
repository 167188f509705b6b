from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.landmarks import INNER_LOWER, MOUTH, NEUTRAL, RIGID, fit_similarity
from training.scores.metrics import (
    DISTANCES,
    best_lag,
    clip_metrics,
    closure_precision,
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


def test_a_face_in_the_wrong_place_is_far_and_moves_right() -> None:
    truth = talking()
    predicted = truth.copy()
    predicted[:, MOUTH] += 3, 4  # five pixels off, all the time
    found = clip_metrics(predicted, truth, NEUTRAL).by_name
    assert found["m_ld"] == pytest.approx(5)
    assert found["ratio"] == pytest.approx(5 / found["copied_m_ld"])
    assert found["centred"] == pytest.approx(0, abs=1e-9)
    assert found["shape"] == pytest.approx(0, abs=1e-9)


def test_a_nod_of_the_mouth_is_no_shape() -> None:
    truth = talking()
    predicted = truth.copy()
    nod = 5 * (np.arange(40) % 2 - 0.5)  # 2.5 px up and down
    predicted[:, MOUTH, 1] += nod[:, None]
    found = clip_metrics(predicted, truth, NEUTRAL)
    assert found.centred_px == pytest.approx(2.5)
    assert found.by_name["shape"] == pytest.approx(0, abs=1e-9)


def test_a_mouth_that_stands_still_is_one_wherever_it_stands() -> None:
    truth, rest = talking(), np.repeat(NEUTRAL[None], 40, axis=0)
    for still in (rest, np.repeat(truth[5][None], 40, axis=0)):
        found = clip_metrics(still, truth, NEUTRAL).by_name
        assert (found["centred"], found["shape"]) == pytest.approx((1, 1))
    assert clip_metrics(truth, truth, NEUTRAL).by_name["ratio"] == 0
    assert isnan(
        clip_metrics(truth, np.repeat(NEUTRAL[None], 40, axis=0), NEUTRAL).by_name["shape"]
    )


def test_half_the_motion_is_half_of_centred() -> None:
    found = clip_metrics(talking(size=2), talking(size=4), NEUTRAL).by_name
    assert (found["centred"], found["shape"]) == pytest.approx((0.5, 0.5))
    # By hand: 3 of 20 points go down by g, so the centroid by 3 g / 20, the 3 points by 17 g / 20
    # more than it and 17 points by 3 g / 20 less; a mean of (3 x 17 + 17 x 3) / 400 g = 0.255 g.
    gap = 4 * np.abs(np.sin(np.arange(40) / 3))
    deviation = np.abs(gap - gap.mean()).mean()
    metrics = clip_metrics(talking(), talking(), NEUTRAL)
    assert metrics.centred_still_px == pytest.approx(3 / 20 * deviation)
    assert metrics.shape_still_px == pytest.approx(0.255 * deviation)


def test_the_width_is_that_between_the_corners() -> None:
    truth, predicted = talking(), talking()
    wave = np.sin(np.arange(40) / 5)
    truth[:, 48, 0] -= 3 * wave
    truth[:, 54, 0] += 3 * wave
    predicted[:, 54, 0] += 3 * wave  # one corner alone: half as wide
    found = clip_metrics(predicted, truth, NEUTRAL)
    assert found.width_correlation == pytest.approx(1)
    assert found.swing == pytest.approx(0.5)
    assert clip_metrics(talking(), truth, NEUTRAL).width_correlation == 0


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


def test_closures_of_the_prediction_are_right_within_two_frames_of_a_true_one() -> None:
    truth = np.full(60, 8.0)
    truth[[10, 30]] = 0.5
    predicted = np.full(60, 8.0)
    predicted[[12, 28, 29]] = 1.0  # two closures, right
    predicted[33] = 1.0  # three frames late
    predicted[50] = 1.0  # none there
    assert closure_precision(predicted, truth) == (2, 4)
    assert closure_precision(np.full(60, 8.0), truth) == (0, 0)
    assert closure_precision(truth, truth) == (2, 2)


def test_a_mouth_that_never_opens_finds_every_closure_and_none_is_right() -> None:
    truth = np.full(60, 8.0)
    truth[[10, 30]] = 0.5
    shut = np.zeros(60)
    assert closure_recall(shut, truth, [(10 / 30, 11 / 30), (1.0, 1.03)]) == (2, 2)
    assert closure_precision(shut, truth) == (0, 1)
