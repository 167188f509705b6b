"""Kolmogorov-Arnold network layers (Liu et al. 2024, arXiv 2404.19756); eq. 2 of the KFusion paper.

Edge i -> o is ``phi_oi(x) = base_oi * silu(x) + sum_k coef_oik * B_k(x)`` with cubic B-splines B_k.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cubic_basis(x: Tensor, low: Tensor, step: Tensor, count: int) -> Tensor:
    """Cubic B-splines on uniform grids, (..., I) -> (..., I, count).

    Input i has a grid that begins at ``low[i]`` with knots ``step[i]`` apart; spline k is
    centred on knot k - 1. The cardinal cubic B-spline in closed form, from truncated powers:
    with z the distance in steps, ``((2 - z)_+^3 - 4 (1 - z)_+^3) / 6`` (de Boor, A Practical
    Guide to Splines, IX).
    """
    centres = torch.arange(-1, count - 1, device=x.device, dtype=x.dtype)
    z = (((x - low) / step).unsqueeze(-1) - centres).abs()
    wide, narrow = F.relu(2 - z), F.relu(1 - z)
    return (wide * wide * wide - 4 * (narrow * narrow * narrow)) / 6


class KANLayer(nn.Module):
    """(..., inputs) -> (..., outputs) by one learned univariate function an edge.

    ``grid`` intervals from ``low`` (inputs,), ``step`` (inputs,) apart, carry ``grid + 3`` splines.
    """

    low: Tensor
    step: Tensor

    def __init__(self, inputs: int, outputs: int, grid: int, limit: float) -> None:
        super().__init__()
        self.splines = grid + 3
        self.register_buffer("low", torch.full((inputs,), -limit))
        self.register_buffer("step", torch.full((inputs,), 2 * limit / grid))
        self.base = nn.Parameter(torch.empty(outputs, inputs))
        self.coef = nn.Parameter(torch.empty(outputs, inputs, self.splines))
        nn.init.kaiming_uniform_(self.base, a=5**0.5)
        nn.init.normal_(self.coef, std=0.1 * inputs**-0.5)

    def zero(self) -> None:
        """Makes every edge the zero function."""
        nn.init.zeros_(self.base)
        nn.init.zeros_(self.coef)

    def forward(self, x: Tensor) -> Tensor:
        splines = cubic_basis(x, self.low, self.step, self.splines).flatten(-2)
        return F.linear(F.silu(x), self.base) + F.linear(splines, self.coef.flatten(1))

    def edges(self, x: Tensor) -> Tensor:
        """Each edge's own value: (N, inputs) -> (N, outputs, inputs); they sum to the output."""
        splines = cubic_basis(x, self.low, self.step, self.splines)
        curved = torch.einsum("nik,oik->noi", splines, self.coef)
        return F.silu(x).unsqueeze(1) * self.base + curved

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.02) -> None:
        """Spans each input's grid over its values (N, inputs) and a ``margin`` on each side.

        Least squares on those values keep the function (the KAN paper, 2.4, "grid extension").
        """
        values = torch.einsum(
            "nik,oik->ino", cubic_basis(x, self.low, self.step, self.splines), self.coef
        )
        least, most = x.amin(0), x.amax(0)
        span = (most - least).clamp(min=1e-3)
        self.low.copy_((least + most - span * (1 + 2 * margin)) / 2)
        self.step.copy_(span * (1 + 2 * margin) / (self.splines - 3))
        basis = cubic_basis(x, self.low, self.step, self.splines).transpose(0, 1)  # (I, N, K)
        eye = torch.eye(self.splines, dtype=x.dtype, device=x.device)
        # Ridge, relative to the data: splines that no value reaches come out as zero.
        gram = basis.mT @ basis
        ridge = 1e-6 * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-6)
        solution = torch.linalg.solve(gram + ridge[:, None, None] * eye, basis.mT @ values)
        self.coef.copy_(solution.permute(2, 0, 1))

    def regularisation(self, x: Tensor, entropy: float = 1.0) -> Tensor:
        """L1 of the edges and their entropy over (N, inputs) (KAN paper, eq. 2.17-2.20)."""
        size = self.edges(x).abs().mean(0)
        total = size.sum()
        share = size / total.clamp(min=1e-12)
        return total - entropy * (share * torch.log(share.clamp(min=1e-12))).sum()


class KAN(nn.Module):
    """KAN [inputs, hidden, outputs]; its last layer starts at zero."""

    def __init__(self, inputs: int, hidden: int, outputs: int, grid: int, limit: float) -> None:
        super().__init__()
        self.inner = KANLayer(inputs, hidden, grid, limit)
        self.outer = KANLayer(hidden, outputs, grid, limit)
        self.outer.zero()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))

    def update_grid(self, x: Tensor) -> None:
        """Fits both layers' grids to the values (N, inputs) that come in."""
        self.inner.update_grid(x)
        self.outer.update_grid(self.inner(x))

    def regularisation(self, x: Tensor, entropy: float = 1.0) -> Tensor:
        """The sum over both layers; x (N, inputs)."""
        return self.inner.regularisation(x, entropy) + self.outer.regularisation(
            self.inner(x), entropy
        )
