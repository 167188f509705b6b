"""Kolmogorov-Arnold network layers (Liu et al. 2024, arXiv 2404.19756).

Every edge from input i to output o carries its own function of one variable, a SiLU base plus
a cubic B-spline: ``phi_oi(x) = base_oi * silu(x) + sum_k coef_oik * B_k(x)``; an output is the
sum over its edges (eq. 2 of the KFusion paper is a stack of such layers).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cubic_basis(x: Tensor, knots: Tensor, step: float) -> Tensor:
    """Cubic B-splines centred on a uniform grid.

    ``x`` (..., I), ``knots`` (K,) spaced ``step`` apart -> (..., I, K). The cardinal cubic
    B-spline in closed form, from truncated powers: with z the distance in steps,
    ``((2 - z)_+^3 - 4 (1 - z)_+^3) / 6`` (de Boor, A Practical Guide to Splines).
    """
    z = ((x.unsqueeze(-1) - knots) / step).abs()
    return (F.relu(2 - z).pow(3) - 4 * F.relu(1 - z).pow(3)) / 6


class KANLayer(nn.Module):
    """(..., inputs) -> (..., outputs) by one learned univariate function an edge.

    ``grid`` intervals span -``limit``..``limit``: ``grid + 3`` splines, whose sum is 1 there.
    """

    knots: Tensor

    def __init__(self, inputs: int, outputs: int, grid: int, limit: float) -> None:
        super().__init__()
        self.step = 2 * limit / grid
        centres = torch.arange(-1, grid + 2, dtype=torch.float32) * self.step - limit
        self.register_buffer("knots", centres, persistent=False)
        self.base = nn.Parameter(torch.empty(outputs, inputs))
        self.coef = nn.Parameter(torch.empty(outputs, inputs, grid + 3))
        nn.init.kaiming_uniform_(self.base, a=5**0.5)
        nn.init.normal_(self.coef, std=0.1 * inputs**-0.5)

    def zero(self) -> None:
        """Makes every edge the zero function."""
        nn.init.zeros_(self.base)
        nn.init.zeros_(self.coef)

    def forward(self, x: Tensor) -> Tensor:
        splines = cubic_basis(x, self.knots, self.step).flatten(-2)
        return F.linear(F.silu(x), self.base) + F.linear(splines, self.coef.flatten(1))


class KAN(nn.Module):
    """KAN [inputs, hidden, outputs]; its last layer starts at zero."""

    def __init__(self, inputs: int, hidden: int, outputs: int, grid: int, limit: float) -> None:
        super().__init__()
        self.inner = KANLayer(inputs, hidden, grid, limit)
        self.outer = KANLayer(hidden, outputs, grid, limit)
        self.outer.zero()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x))
