"""What training minimises: squared error of landmarks, their velocity, and the lips' shape.

All in the network's units (canonical pixels / unit_px). Where the truth is unknown (mask 0) nothing
counts, and sums are divided by what a full batch has, so that the mean over processes is the
loss of their batches together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kfusion.landmarks import INNER_LOWER, INNER_UPPER


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. The defaults are the paper's loss, the mean square error."""

    mouth: float = 1.0  # of each of the 20 mouth points against the other 48
    velocity: float = 0.0
    gap: float = 0.0  # of the inner lips
    width: float = 0.0  # of the mouth


def loss(
    predicted: Tensor, target: Tensor, mask: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """(B, 30, 68, 2) against the same, mask (B, 30) -> {"total", and each term}."""
    points = torch.ones(68, 1, device=predicted.device)
    points[48:] = weights.mouth
    points = points / points.mean()

    error = (predicted - target) * mask[:, :, None, None]
    both = (mask[:, 1:] * mask[:, :-1])[:, :, None, None]
    change = (error[:, 1:] - error[:, :-1]) * both
    gap = error[:, :, list(INNER_LOWER), 1].mean(-1) - error[:, :, list(INNER_UPPER), 1].mean(-1)
    width = error[:, :, 54, 0] - error[:, :, 48, 0]
    terms = {
        "position": (error.square() * points).mean(),
        "velocity": (change.square() * points).mean(),
        "gap": gap.square().mean(),
        "width": width.square().mean(),
    }
    total = (
        terms["position"]
        + weights.velocity * terms["velocity"]
        + weights.gap * terms["gap"]
        + weights.width * terms["width"]
    )
    return {"total": total, **terms}
