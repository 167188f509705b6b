"""What training minimises: squared error of landmarks, their velocity, and the lips' shape.

All in the network's units (canonical pixels / unit_px). Where the truth is unknown (mask 0) nothing
counts, and sums are divided by what a full batch has, so that the mean over processes is the
loss of their batches together.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from kfusion.landmarks import INNER_LOWER, INNER_UPPER
from kfusion.layers.kan import KAN
from training.data.batch import Batch
from training.models.training_network import Outputs
from training.phones import UNKNOWN

LATE: Final = 18
"""The first of the frames that a live stream can show: with look-ahead 6 and hop 6, frame 18."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms. The defaults are the paper's loss, the mean square error."""

    mouth: float = 1.0  # of each of the 20 mouth points against the other 48
    velocity: float = 0.0
    gap: float = 0.0  # of the inner lips
    width: float = 0.0  # of the mouth
    late: float = 1.0  # of each of the frames from LATE on against those before
    swing: float = 0.0  # of how far the inner-lip gap swings in a window
    phones: float = 0.0
    kan_l1: float = 0.0  # of the KAN's sparsification


Losses = tuple[Tensor, dict[str, Tensor]]
"""The total, and each of its terms without its weight and gradient."""


def training_loss(
    outputs: Outputs, batch: Batch, unit_px: float, weights: LossWeights, kan: KAN | None
) -> Losses:
    """The loss of a step: of landmarks, of phones where learned, and of the KAN's edges."""
    total, terms = landmark_loss(
        outputs.displacement / unit_px, batch.target / unit_px, batch.mask, weights
    )
    if outputs.phones is not None:
        phones = phone_loss(outputs.phones, batch.phones)
        total, terms["phones"] = total + weights.phones * phones, phones.detach()
    if weights.kan_l1 and kan is not None and outputs.fused is not None:
        sparsity = kan.regularisation(outputs.fused.float().flatten(0, 1)[::8])
        total, terms["kan_l1"] = total + weights.kan_l1 * sparsity, sparsity.detach()
    return total, terms


def landmark_loss(predicted: Tensor, target: Tensor, mask: Tensor, weights: LossWeights) -> Losses:
    """(B, 30, 68, 2) against the same, mask (B, 30)."""
    points = torch.ones(68, 1, device=predicted.device)
    points[48:] = weights.mouth
    points = points / points.mean()
    frames = torch.ones(predicted.shape[1], device=predicted.device)
    frames[LATE:] = weights.late
    points = points * (frames / frames.mean())[:, None, None]

    error = (predicted - target) * mask[:, :, None, None]
    both = (mask[:, 1:] * mask[:, :-1])[:, :, None, None]
    change = (error[:, 1:] - error[:, :-1]) * both
    width = error[:, :, 54, 0] - error[:, :, 48, 0]
    terms = {
        "position": (error.square() * points).mean(),
        "velocity": (change.square() * points[1:]).mean(),
        "gap": _gap(error).square().mean(),
        "width": width.square().mean(),
        "swing": (_swing(predicted, mask) - _swing(target, mask)).square().mean(),
    }
    total = (
        terms["position"]
        + weights.velocity * terms["velocity"]
        + weights.gap * terms["gap"]
        + weights.width * terms["width"]
        + weights.swing * terms["swing"]
    )
    return total, {name: term.detach() for name, term in terms.items()}


def _gap(points: Tensor) -> Tensor:
    """(..., 68, 2) -> height of the inner lips' opening (...)."""
    lower, upper = points[..., list(INNER_LOWER), 1], points[..., list(INNER_UPPER), 1]
    return lower.mean(-1) - upper.mean(-1)


def _swing(points: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of the inner-lip gap over a window's known frames, (B,)."""
    gap, count = _gap(points) * mask, mask.sum(1).clamp(min=1)
    mean = gap.sum(1) / count
    spread = ((gap - mean[:, None]) * mask).square().sum(1) / count
    return (spread + 1e-4).sqrt()


def phone_loss(logits: Tensor, phones: Tensor) -> Tensor:
    """Cross entropy of (B, S, 40) against phones (B, S), those unknown (255) left out; divided
    by what a full batch has.
    """
    per_step = F.cross_entropy(
        logits.float().transpose(1, 2), phones, ignore_index=UNKNOWN, reduction="sum"
    )
    return per_step / phones.numel()
