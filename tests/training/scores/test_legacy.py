from math import isnan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.scores.legacy import Legacy, legacy_ld, legacy_lvd


def moved(
    point: int, px: float = 25.6, frames: int = 60
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two seconds of a face of zeros, and the same with one point off in each second's frame 3."""
    truth = np.zeros((frames, 68, 2))
    predicted = truth.copy()
    predicted[3::30, point, 0] = px
    return predicted, truth


@pytest.mark.parametrize(
    ("point", "m_ld", "m_lvd", "f_lvd"),
    [
        (0, 0, 0, 66),  # the first point is in every difference but its own
        (5, 0, 0, 1),
        (67, 1, 1, 0),  # the last point is in none of the face's
        (48, 1, 0, 1),  # the mouth's list begins at 49 and ends with 48
        (49, 1, 18, 1),
    ],
)
def test_a_batch_by_hand(point: int, m_ld: int, m_lvd: int, f_lvd: int) -> None:
    """25.6 px are 0.1 of the crop: squares of 0.01, twice in a batch of two windows."""
    legacy = Legacy(batch=2)
    legacy.add(*moved(point))
    assert legacy.row == pytest.approx(
        {
            "legacy_m_ld": sqrt(0.02 * m_ld),
            "legacy_m_lvd": sqrt(0.02 * m_lvd),
            "legacy_f_ld": sqrt(0.02),
            "legacy_f_lvd": sqrt(0.02 * f_lvd),
        }
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_it_is_the_norm_of_the_whole_batch_laid_out_as_theirs(seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, batch, 30, 9, 2))
    a, b = (torch.from_numpy(part).transpose(2, 3) for part in (x, y))  # (B, 30, 2, K)
    assert legacy_ld(x, y) == pytest.approx(float(torch.linalg.vector_norm(a - b)))
    first, rest = (a - b)[..., 0].unsqueeze(-1), (a - b)[..., range(8)]
    assert legacy_lvd(x, y) == pytest.approx(float(torch.linalg.vector_norm(first - rest)))


def test_windows_go_on_over_clips_and_what_fills_no_batch_is_left_out() -> None:
    legacy = Legacy(batch=2)
    predicted, truth = moved(5, frames=45)  # one whole second each
    legacy.add(predicted, truth)
    assert isnan(legacy.row["legacy_f_ld"])
    legacy.add(predicted, truth)
    assert legacy.row["legacy_f_ld"] == pytest.approx(sqrt(0.02))
    legacy.add(100 * predicted, truth)
    assert legacy.row["legacy_f_ld"] == pytest.approx(sqrt(0.02))
