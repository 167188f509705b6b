from math import isnan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.scores.legacy import Legacy, legacy_ld, legacy_lvd


def moved(
    point: int, px: float = 187.0, frames: int = 60
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
    """187 px are 1 in their scale, and its square is 1: twice in a batch of two windows."""
    legacy = Legacy(batch=2)
    legacy.add(*moved(point))
    assert legacy.row == pytest.approx(
        {
            "legacy_m_ld": sqrt(2 * m_ld),
            "legacy_m_lvd": sqrt(2 * m_lvd),
            "legacy_f_ld": sqrt(2),
            "legacy_f_lvd": sqrt(2 * f_lvd),
        }
    )


def test_whole_numbers_by_hand() -> None:
    """Points at 56 + 187 k are k in their scale.

    In one frame the truth is 0 at every point. The prediction is (3, 4) at point 49, (1, 2) at
    point 50, 0 elsewhere.

    F-LD: 9 + 16 + 1 + 4 = 30. M-LD: the same points, 30.
    F-LVD, from point 0: -(3, 4) at 49, -(1, 2) at 50: 30.
    M-LVD, from the list's first point, 49, to all but the last, 48: (3, 4) less itself is 0; less
    (1, 2) is (2, 2), 8; less 0 is (3, 4), 25, at the 17 points from 51 to 67: 8 + 425 = 433.
    """
    truth = np.full((30, 68, 2), 56.0)
    predicted = truth.copy()
    predicted[7, 49] = 56 + 187 * 3, 56 + 187 * 4
    predicted[7, 50] = 56 + 187 * 1, 56 + 187 * 2
    legacy = Legacy(batch=1)
    legacy.add(predicted, truth)
    assert legacy.row == pytest.approx(
        {
            "legacy_m_ld": sqrt(30),
            "legacy_m_lvd": sqrt(433),
            "legacy_f_ld": sqrt(30),
            "legacy_f_lvd": sqrt(30),
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
    assert legacy.row["legacy_f_ld"] == pytest.approx(sqrt(2))
    legacy.add(100 * predicted, truth)
    assert legacy.row["legacy_f_ld"] == pytest.approx(sqrt(2))
