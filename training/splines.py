"""The KAN's cubic B-splines: their closed form against the textbook recursion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

import torch
from torch import Tensor

from kfusion.kan import cubic_basis
from training.timing import BenchmarkError, in_turns, synchronised

TOLERANCE: Final = 1e-5
"""Between the closed form of the splines and the recursion, of values up to 2/3."""


@dataclass(frozen=True)
class Splines:
    """The cubic B-splines of a batch's frames: closed form against the textbook recursion."""

    shape: tuple[int, int]
    grid: int
    largest_difference: float
    closed_ms: float
    recursion_ms: float
    ratio: float
    closed_backward_ms: float
    recursion_backward_ms: float
    backward_ratio: float


def cox_de_boor(x: Tensor, low: Tensor, step: Tensor, count: int, degree: int = 3) -> Tensor:
    """B-splines by the recursion on their degree, (..., I) -> (..., I, count).

    B_k,0 is 1 from knot k to the next; B_k,p = (x - t_k) / (t_k+p - t_k) B_k,p-1
    + (t_k+p+1 - x) / (t_k+p+1 - t_k+1) B_k+1,p-1 (de Boor, A Practical Guide to Splines, IX),
    each degree for all splines at once, as KAN codes commonly have it. The same splines as
    :func:`kfusion.kan.cubic_basis`.
    """
    at = torch.arange(-degree, count + 1, device=x.device, dtype=x.dtype)
    t = low[:, None] + step[:, None] * at  # (I, count + degree + 1)
    x = x.unsqueeze(-1)
    bases = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
    for p in range(1, degree + 1):
        rise = (x - t[:, : -p - 1]) / (t[:, p:-1] - t[:, : -p - 1])
        fall = (t[:, p + 1 :] - x) / (t[:, p + 1 :] - t[:, 1:-p])
        bases = rise * bases[..., :-1] + fall * bases[..., 1:]
    return bases


def measure_splines(device: str, seconds: float, frames: int = 480, grid: int = 8) -> Splines:
    """On (frames, 136) values around a grid of -3..3; forward, and forward with backward."""
    generator = torch.Generator().manual_seed(0)
    x = (1.5 * torch.randn(frames, 136, generator=generator)).to(device)
    leaf = x.clone().requires_grad_()
    low, step = torch.full((136,), -3.0, device=device), torch.full((136,), 6 / grid, device=device)
    ways = (cubic_basis, cox_de_boor)
    closed, recursion = (way(x, low, step, grid + 3) for way in ways)
    difference = float((closed - recursion).abs().max())
    if not difference <= TOLERANCE:
        raise BenchmarkError(
            f"the closed form and the recursion differ by {difference:.2g}; wanted {TOLERANCE:.0e}"
        )
    weight = torch.randn(closed.shape, generator=generator).to(device)

    def forward(way: Callable[..., Tensor]) -> Callable[[], None]:
        return synchronised(device, lambda: way(x, low, step, grid + 3))

    def backward(way: Callable[..., Tensor]) -> Callable[[], None]:
        return synchronised(
            device,
            lambda: torch.autograd.grad(way(leaf, low, step, grid + 3), leaf, weight),
        )

    calls = [forward(way) for way in ways] + [backward(way) for way in ways]
    c, r, cb, rb = (median(t) for t in in_turns(calls, seconds))
    return Splines((frames, 136), grid, difference, c, r, r / c, cb, rb, rb / cb)
