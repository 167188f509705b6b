import numpy as np
import torch
from scipy.interpolate import BSpline

from kfusion.layers.kan import KAN, KANLayer, cubic_basis


def spline_of(layer: KANLayer, i: int, o: int) -> BSpline:
    """An edge's spline as scipy builds it."""
    low, step = layer.low[i].item(), layer.step[i].item()
    knots = low + step * np.arange(-3, layer.splines + 1)
    return BSpline(knots, layer.coef[o, i].detach().double().numpy(), 3)


def test_the_closed_form_is_scipys_b_spline_inside_the_grid_and_outside() -> None:
    x = 4 * torch.randn(200, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    low = torch.tensor([-3.0, -1.0, 0.0, 2.0, -7.0], dtype=torch.float64)
    step = torch.tensor([0.75, 0.1, 1.0, 2.0, 3.0], dtype=torch.float64)
    knots = (low[:, None] + step[:, None] * torch.arange(-3, 12)).numpy()
    expected = np.empty((200, 5, 11))
    for i, k in np.ndindex(5, 11):
        spline = BSpline.basis_element(knots[i, k : k + 5], extrapolate=False)
        expected[:, i, k] = np.nan_to_num(spline(x[:, i].numpy()))
    basis = cubic_basis(x, low, step, 11)
    np.testing.assert_allclose(basis.numpy(), expected, atol=1e-12, rtol=0)


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
