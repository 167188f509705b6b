import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from torch import Tensor

from kfusion.layers.kan import KAN, KANLayer, cubic_basis


def spline_of(layer: KANLayer, i: int, o: int) -> BSpline:
    """An edge's spline as scipy builds it."""
    low, step = layer.low[i].item(), layer.step[i].item()
    knots = low + step * np.arange(-3, layer.splines + 1)
    return BSpline(knots, layer.coef[o, i].detach().double().numpy(), 3)


@given(st.integers(2, 12), st.floats(0.5, 4), st.integers(0, 2**32 - 1))
def test_the_closed_form_is_scipys_b_spline(grid: int, limit: float, seed: int) -> None:
    layer = KANLayer(1, 1, grid, limit).double()
    coef = np.random.default_rng(seed).normal(size=(1, 1, grid + 3))
    layer.coef.data = torch.tensor(coef)
    x = np.linspace(-limit, limit, 201)[1:-1]
    basis = cubic_basis(torch.tensor(x)[:, None], layer.low, layer.step, layer.splines)
    ours = (basis[:, 0] @ layer.coef[0, 0]).detach().numpy()
    np.testing.assert_allclose(ours, spline_of(layer, 0, 0)(x), atol=1e-6)


def recursion(x: Tensor, t: Tensor) -> Tensor:
    """Cubic B-splines on knots (I, K) by the recursion on their degree: (N, I) -> (N, I, K - 4).

    See de Boor, A Practical Guide to Splines, IX.
    """
    x = x[..., None]
    bases = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
    for p in range(1, 4):
        rise = (x - t[:, : -p - 1]) / (t[:, p:-1] - t[:, : -p - 1])
        fall = (t[:, p + 1 :] - x) / (t[:, p + 1 :] - t[:, 1:-p])
        bases = rise * bases[..., :-1] + fall * bases[..., 1:]
    return bases


def test_the_closed_form_is_the_recursion_inside_the_grid_and_outside() -> None:
    x = 4 * torch.randn(200, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low = torch.tensor([-3.0, -1.0, 0.0, 2.0, -7.0], dtype=torch.float64)
    step = torch.tensor([0.75, 0.1, 1.0, 2.0, 3.0], dtype=torch.float64)
    wanted = recursion(x, low[:, None] + step[:, None] * torch.arange(-3, 12))
    torch.testing.assert_close(cubic_basis(x, low, step, 11), wanted, atol=1e-12, rtol=0)


def test_the_splines_sum_to_one_on_the_grid_and_fade_outside() -> None:
    layer = KANLayer(1, 2, 8, 2.0)
    inside = torch.linspace(-2, 2, 50)[:, None]
    total = cubic_basis(inside, layer.low, layer.step, layer.splines).sum(-1)
    torch.testing.assert_close(total, torch.ones(50, 1))
    outside = torch.tensor([[-9.0], [9.0]])
    assert not cubic_basis(outside, layer.low, layer.step, layer.splines).any()


def test_a_layer_is_the_sum_of_its_edges() -> None:
    torch.manual_seed(0)
    layer = KANLayer(3, 2, 5, 1.0)
    layer.low.copy_(torch.tensor([-1.0, -0.5, -1.5]))
    x = torch.randn(7, 3).clamp(-0.4, 0.4)
    edges = layer.edges(x)
    assert edges.shape == (7, 2, 3)
    torch.testing.assert_close(layer(x), edges.sum(-1))
    for i in range(3):
        silu = torch.nn.functional.silu(x[:, i])
        for o in range(2):
            spline = torch.tensor(spline_of(layer, i, o)(x[:, i].numpy()), dtype=torch.float32)
            torch.testing.assert_close(edges[:, o, i], layer.base[o, i] * silu + spline)


def test_the_last_layer_starts_at_zero_and_learns() -> None:
    kan = KAN(4, 5, 3, 6, 2.0)
    x = torch.randn(2, 4)
    assert not kan(x).any()
    kan(x).sum().backward()
    gradient = kan.outer.coef.grad
    assert gradient is not None and gradient.abs().max() > 0


def test_a_new_grid_spans_the_data_and_keeps_the_function() -> None:
    torch.manual_seed(1)
    layer = KANLayer(2, 3, 12, 4.0).double()
    x = torch.stack([torch.linspace(-1.3, 0.4, 400), torch.linspace(2.0, 3.5, 400)], 1).double()
    layer.coef.data = torch.randn_like(layer.coef)
    before = layer(x)
    layer.update_grid(x)
    high = layer.low + (layer.splines - 3) * layer.step
    assert (layer.low < x.amin(0)).all() and (high > x.amax(0)).all()
    assert (high - layer.low < 1.1 * (x.amax(0) - x.amin(0))).all()
    torch.testing.assert_close(layer(x), before, atol=2e-2, rtol=0)


def test_a_finer_view_of_the_data_fits_better() -> None:
    torch.manual_seed(2)
    x = 0.2 * torch.rand(256, 1)
    y = torch.sin(60 * x)
    errors: list[float] = []
    for adapt in (False, True):
        layer = KANLayer(1, 1, 8, 3.0)
        if adapt:
            layer.update_grid(x)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        for _ in range(150):
            error = (layer(x) - y).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        errors.append((layer(x) - y).square().mean().item())
    assert errors[1] < 0.2 * errors[0]


def test_regularisation_prefers_few_edges() -> None:
    x = torch.rand(64, 4)
    few, many = KANLayer(4, 4, 5, 1.0), KANLayer(4, 4, 5, 1.0)
    for layer in (few, many):
        layer.zero()
    few.base.data[0, 0] = 4.0
    many.base.data[:] = 0.25  # about the same total, spread over sixteen edges
    assert few.regularisation(x) < many.regularisation(x)
    kan = KAN(4, 5, 3, 6, 2.0)
    kan.regularisation(x).backward()
    assert kan.inner.coef.grad is not None
