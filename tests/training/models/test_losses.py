"""The paper's loss, the terms that only some recipes ask for, and what does not count."""

import torch

from kfusion.landmarks import INNER_LOWER
from training.models.losses import LATE, LossWeights, landmark_loss, phone_loss
from training.phones import UNKNOWN


def losses(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, weights: LossWeights
) -> dict[str, torch.Tensor]:
    total, terms = landmark_loss(predicted, target, mask, weights)
    return {"total": total, **terms}


def speaking(size: float) -> torch.Tensor:
    """(1, 30, 68, 2): lower lips that go up and down."""
    points = torch.zeros(1, 30, 68, 2)
    wave = size * torch.sin(torch.arange(30) * 0.7)
    points[:, :, list(INNER_LOWER), 1] = wave[None, :, None]
    return points


def test_frames_that_a_live_stream_shows_can_count_more() -> None:
    target = torch.zeros(1, 30, 68, 2)
    early, late = target.clone(), target.clone()
    early[:, LATE - 1] = 1
    late[:, LATE] = 1
    mask = torch.ones(1, 30)
    for weight in (1.0, 3.0):
        weights = LossWeights(late=weight)
        before, after = (float(losses(p, target, mask, weights)["position"]) for p in (early, late))
        assert abs(after / before - weight) < 1e-5
    # An error on every frame weighs what it weighed.
    wrong = torch.ones(1, 30, 68, 2)
    assert abs(float(losses(wrong, target, mask, LossWeights(late=3))["position"]) - 1) < 1e-5


def test_swing_is_what_averaging_takes_away() -> None:
    mask, weights = torch.ones(1, 30), LossWeights(swing=1.0)
    target = speaking(1.0)
    swings = [float(losses(speaking(k), target, mask, weights)["swing"]) for k in (1.0, 0.7, 0.4)]
    assert swings[0] < 1e-9 < swings[1] < swings[2]
    # Of the same swing at another time or height it says nothing.
    elsewhere = speaking(1.0).flip(1) + 3
    assert float(losses(elsewhere, target, mask, weights)["swing"]) < 1e-4
    # What is not known does not count.
    mask[:, 10:] = 0
    hidden = target.clone()
    hidden[:, 10:] *= 5
    assert float(losses(hidden, target, mask, weights)["swing"]) < 1e-9


def test_a_still_mouth_has_a_finite_gradient() -> None:
    still = torch.zeros(1, 30, 68, 2, requires_grad=True)
    losses(still, speaking(1.0), torch.ones(1, 30), LossWeights(swing=1.0))["total"].backward()
    assert still.grad is not None and bool(still.grad.isfinite().all())


def test_phones_that_are_not_known_do_not_count() -> None:
    logits = torch.zeros(2, 50, 40, requires_grad=True)
    phones = torch.full((2, 50), UNKNOWN)
    assert float(phone_loss(logits, phones).detach()) == 0
    phones[0, :25] = 7
    quarter = phone_loss(logits, phones)
    torch.testing.assert_close(quarter, torch.log(torch.tensor(40.0)) / 4)
    quarter.backward()
    assert logits.grad is not None and not logits.grad[1].any() and logits.grad[0, :25].any()


def test_the_loss_counts_only_what_is_known() -> None:
    target = torch.zeros(1, 30, 68, 2)
    predicted = torch.zeros(1, 30, 68, 2)
    predicted[:, :10] = 5
    mask = torch.ones(1, 30)
    mask[:, :11] = 0
    weights = LossWeights(mouth=4, velocity=1, gap=1, width=1)
    assert float(losses(predicted, target, mask, weights)["total"]) == 0
    assert float(losses(predicted, target, torch.ones(1, 30), weights)["velocity"]) > 0.5


def test_the_papers_loss_is_the_mean_square() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 30, 68, 2), torch.randn(2, 30, 68, 2)
    total = losses(predicted, target, torch.ones(2, 30), LossWeights())["total"]
    torch.testing.assert_close(total, torch.nn.functional.mse_loss(predicted, target))


def test_the_loss_of_two_halves_is_that_of_the_whole() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(4, 30, 68, 2), torch.randn(4, 30, 68, 2)
    mask = (torch.rand(4, 30) > 0.3).float()
    weights = LossWeights(mouth=4, velocity=2, gap=1, width=1)
    whole = losses(predicted, target, mask, weights)["total"]
    parts = [losses(predicted[s], target[s], mask[s], weights)["total"]
             for s in (slice(2), slice(2, 4))]  # fmt: skip
    torch.testing.assert_close(whole, sum(parts) / 2)
