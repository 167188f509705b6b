from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kfusion.config import ModelConfig
from kfusion.emotion import vector
from kfusion.landmarks import NEUTRAL
from kfusion.model import KFusion

SMALL = ModelConfig(width=32, heads=2, feedforward=48, lstm_width=24, bottleneck=16, kan_hidden=12)
VARIANTS = {
    "proposed": SMALL,
    "without KFusion": replace(SMALL, fusion=False),
    "without LSTM": replace(SMALL, lstm=False),
    "without Global": replace(SMALL, global_domain=False),
    "MLP for KAN": replace(SMALL, head="mlp"),
}


def inputs(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    face = torch.tensor(NEUTRAL, dtype=torch.float32)
    return (
        0.3 * torch.randn(rows, 16_000, generator=g),
        face + 2 * torch.randn(rows, 68, 2, generator=g),
        torch.softmax(torch.randn(rows, 8, generator=g), -1),
    )


def perturbed(config: ModelConfig, seed: int = 0) -> KFusion:
    """A network none of whose layers is at zero."""
    torch.manual_seed(seed)
    model = KFusion(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_an_untrained_network_answers_the_identity(name: str) -> None:
    audio, identity, emotion = inputs(2)
    out = KFusion(VARIANTS[name]).eval()(audio, identity, emotion)
    torch.testing.assert_close(out, identity[:, None].expand(2, 30, 68, 2), atol=0, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_input_matters(name: str) -> None:
    model = perturbed(VARIANTS[name])
    one, other = inputs(1, 1), inputs(1, 2)
    base = model.displacement(*one)
    assert base.shape == (1, 30, 68, 2)
    for k in range(3):
        changed = [other[i] if i == k else one[i] for i in range(3)]
        assert (model.displacement(*changed) - base).abs().max() > 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_a_row_alone_gives_what_it_gives_in_a_batch(name: str) -> None:
    model = perturbed(VARIANTS[name])
    batch = inputs(5)
    together = model.displacement(*batch)
    for k in range(5):
        alone = model.displacement(*(part[k : k + 1] for part in batch))
        torch.testing.assert_close(alone[0], together[k], atol=1e-4, rtol=0)


def test_the_emotion_changes_its_own_row_and_no_other() -> None:
    model = perturbed(SMALL)
    audio, identity, emotion = inputs(3)
    before = model.displacement(audio, identity, emotion)
    emotion[1] = torch.from_numpy(vector({"happy": 1.0}))
    after = model.displacement(audio, identity, emotion)
    assert (after[1] - before[1]).abs().max() > 1e-3
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-5, rtol=0)


def test_the_switches_change_what_they_name() -> None:
    sizes = {name: sum(p.numel() for p in KFusion(c).parameters()) for name, c in VARIANTS.items()}
    assert len(set(sizes.values())) == len(sizes)
    for name in ("without LSTM", "without Global"):
        assert sizes[name] < sizes["proposed"]
    names = {n for n, _ in KFusion(VARIANTS["without LSTM"]).named_parameters()}
    assert not any("lstm" in n for n in names)
    names = {n for n, _ in KFusion(VARIANTS["without Global"]).named_parameters()}
    assert not any(n.startswith("global_domain") for n in names)


def test_the_compact_preset_is_small_enough_to_bundle() -> None:
    assert sum(p.numel() for p in KFusion(ModelConfig()).parameters()) <= 4_800_000


def test_one_batch_can_be_learned() -> None:
    torch.manual_seed(0)
    model = KFusion(replace(SMALL, dropout=0.0))
    audio, identity, emotion = inputs(4)
    target = (4 * torch.randn(68, 2)).expand(4, 30, 68, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses: list[float] = []
    for _ in range(100):
        loss = (model.displacement(audio, identity, emotion) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
