"""What training minimises: squared error of landmarks, their velocity, and the lips' shape.

All in the network's units (canonical pixels / unit_px), masked where the truth is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kfusion.landmarks import INNER_LOWER, INNER_UPPER


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the paper's loss is position alone with mouth = 1."""

    mouth: float = 4.0  # of the 20 mouth points against the other 48
    velocity: float = 4.0
    gap: float = 1.0
    width: float = 0.5


def loss(
    predicted: Tensor, target: Tensor, mask: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """(B, 30, 68, 2) against the same, mask (B, 30) -> {"total", and each term}."""
    points = torch.ones(68, device=predicted.device)
    points[48:] = weights.mouth
    points = points / points.mean()

    def mean(squares: Tensor, where: Tensor) -> Tensor:
        return (squares * where).sum() / where.sum().clamp(min=1)

    error = predicted - target
    terms = {"position": mean((error.square().sum(-1) * points).mean(-1), mask)}
    both = mask[:, 1:] * mask[:, :-1]
    change = error[:, 1:] - error[:, :-1]
    terms["velocity"] = mean((change.square().sum(-1) * points).mean(-1), both)
    gap = error[:, :, list(INNER_LOWER), 1].mean(-1) - error[:, :, list(INNER_UPPER), 1].mean(-1)
    terms["gap"] = mean(gap.square(), mask)
    width = error[:, :, 54, 0] - error[:, :, 48, 0]
    terms["width"] = mean(width.square(), mask)
    total = (
        terms["position"]
        + weights.velocity * terms["velocity"]
        + weights.gap * terms["gap"]
        + weights.width * terms["width"]
    )
    return {"total": total, **terms}
