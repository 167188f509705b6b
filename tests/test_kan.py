from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from kfusion.kan import KAN, KANLayer, cubic_basis


@given(st.integers(2, 12), st.floats(0.5, 4), st.integers(0, 2**32 - 1))
def test_the_closed_form_is_scipys_b_spline(grid: int, limit: float, seed: int) -> None:
    layer = KANLayer(1, 1, grid, limit)
    coefficients = np.random.default_rng(seed).normal(size=grid + 3)
    knots = -limit + layer.step * np.arange(-3, grid + 4)
    x = np.linspace(-limit, limit, 201)
    centres = layer.knots.double()
    step = 2 * limit / grid
    ours = cubic_basis(torch.tensor(x), centres, step).numpy() @ coefficients
    np.testing.assert_allclose(ours, BSpline(knots, coefficients, 3)(x), atol=1e-5)


def test_the_splines_sum_to_one_on_the_grid_and_fade_outside() -> None:
    layer = KANLayer(3, 2, 8, 2.0)
    inside = cubic_basis(torch.linspace(-2, 2, 50), layer.knots, layer.step)
    torch.testing.assert_close(inside.sum(-1), torch.ones(50))
    assert not cubic_basis(torch.tensor([-9.0, 9.0]), layer.knots, layer.step).any()


def test_a_layer_is_the_sum_of_its_edges() -> None:
    torch.manual_seed(0)
    layer = KANLayer(3, 2, 5, 1.0)
    x = torch.randn(7, 3)
    expected = torch.zeros(7, 2)
    for i in range(3):
        splines = cubic_basis(x[:, i], layer.knots, layer.step)
        for o in range(2):
            base = layer.base[o, i] * torch.nn.functional.silu(x[:, i])
            expected[:, o] += base + splines @ layer.coef[o, i]
    torch.testing.assert_close(layer(x), expected)


def test_the_last_layer_starts_at_zero_and_learns() -> None:
    kan = KAN(4, 5, 3, 6, 2.0)
    x = torch.randn(2, 4)
    assert not kan(x).any()
    kan(x).sum().backward()
    gradient = kan.outer.coef.grad
    assert gradient is not None and gradient.abs().max() > 0
