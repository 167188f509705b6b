"""The network of both presets, with every switch of the paper's Table 2."""

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kfusion.checkpoint import load_model, save_model
from kfusion.config import PRESETS, ModelConfig
from kfusion.errors import CheckpointError
from kfusion.landmarks import NEUTRAL
from kfusion.layers.torchaudio_python import torchaudio
from kfusion.model import KFusion

torchaudio()  # transformers imports it, and its extension may not load
from transformers import Wav2Vec2Config, Wav2Vec2Model  # noqa: E402

TINY_WAV2VEC2 = Wav2Vec2Config(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    conv_dim=(16, 16, 16, 16, 16, 16, 16),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=2,
)
SIZES = {
    "width": 32, "heads": 2, "feedforward": 48, "lstm_width": 24, "bottleneck": 16, "kan_hidden": 12
}  # fmt: skip
SMALL = replace(PRESETS["compact"], **SIZES)
PAPER = replace(
    PRESETS["paper"],
    wav2vec2=json.dumps(TINY_WAV2VEC2.to_diff_dict()),
    freeze_wav2vec2=False,
    **SIZES,
)
PAPER_DIRECT = replace(
    PRESETS["paper-direct"],
    wav2vec2=PAPER.wav2vec2,
    freeze_wav2vec2=False,
    global_layers=1,
    **SIZES,
)
SWITCHES: dict[str, dict[str, Any]] = {
    "proposed": {},
    "without KFusion": {"fusion": False, "head": "none"},
    "without LSTM": {"lstm": False},
    "without Global": {"global_domain": False},
    "MLP for KAN": {"head": "mlp"},
}
VARIANTS = {
    f"{preset} {name}": replace(base, **switch)
    for preset, base in (("compact", SMALL), ("paper", PAPER))
    for name, switch in SWITCHES.items()
}
VARIANTS["paper-direct"] = PAPER_DIRECT
VARIANTS["compact as in older files"] = replace(SMALL, direct=False)
VARIANTS["compact without KFusion as in older files"] = replace(SMALL, fusion=False)


def inputs(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    face = torch.tensor(NEUTRAL, dtype=torch.float32)
    return (
        0.3 * torch.randn(rows, 16_000, generator=g),
        face + 2 * torch.randn(rows, 68, 2, generator=g),
        torch.softmax(torch.randn(rows, 8, generator=g), -1),
    )


@lru_cache
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


def test_direct_paths_start_at_the_identity_and_carry_gradients() -> None:
    """At the first step the last layers learn; without direct paths only the head's last does."""
    assert KFusion(SMALL).content_domain.who is not None
    names: dict[bool, set[str]] = {}
    for direct in (True, False):
        torch.manual_seed(0)
        model = KFusion(replace(SMALL, direct=direct))
        y = model.displacement(*inputs(4))
        assert not y.any()
        (y - 1).square().mean().backward()
        names[direct] = {
            n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()
        }
    assert "fusion.residual.weight" in names[True] and "fusion.mouth_residual.weight" in names[True]
    assert all(name.startswith("head.") for name in names[False])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_input_matters_at_batch_one(name: str) -> None:
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


# No gradient reaches these: wav2vec2's mask embedding stands in for masked steps, and nothing is
# masked here; a bias of keys adds the same to every score of a query, which softmax cancels.
UNREACHED = ("masked_spec_embed", "k_proj.bias")


@pytest.mark.parametrize("name", VARIANTS)
def test_after_one_step_every_parameter_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = KFusion(VARIANTS[name])
    audio, identity, emotion = inputs(4)
    target = torch.randn(4, 30, 68, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.eval()  # no dropout; gradients flow all the same
    gradients: dict[str, torch.Tensor | None] = {}
    for _ in range(2):
        optimizer.zero_grad()
        (model.displacement(audio, identity, emotion) - target).square().mean().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        optimizer.step()
    sizes = {n: 0.0 if g is None else float(g.abs().max()) for n, g in gradients.items()}
    largest = max(sizes.values())
    dead = {n for n, size in sizes.items() if size <= 1e-8 * largest}
    assert all(n.endswith(UNREACHED) for n in dead), sorted(dead)
    for n, g in gradients.items():  # a fused key bias is a part of its tensor, not one of its own
        if n.endswith("kv.bias") and g is not None:
            assert g.chunk(2)[0].abs().max() <= 1e-6 * largest


@pytest.mark.parametrize("preset", ["compact", "paper"])
def test_each_switch_changes_exactly_what_it_names(preset: str) -> None:
    shapes = {
        name: {
            n: tuple(p.shape) for n, p in KFusion(VARIANTS[f"{preset} {name}"]).named_parameters()
        }
        for name in SWITCHES
    }
    whole = shapes["proposed"]

    def changed(name: str) -> set[str]:
        other = shapes[name]
        names = {n for n in set(whole) | set(other) if whole.get(n) != other.get(n)}
        return {".".join(n.split(".")[:2]) for n in names}

    compact = preset == "compact"
    head = {"head.inner", "head.outer"}
    fusion = {"fusion.mouth", "fusion.face", "fusion.residual"}
    recurrent = {"content_domain.face_lstm", "content_domain.mouth_lstm"}
    sound = {f"global_domain.{part}" for part in ("stem", "encoder", "face", "mouth")}
    if compact:
        fusion |= {"fusion.mouth_residual"}
        recurrent |= {
            f"content_domain.{part}" for part in ("to_frames", "face_out", "mouth_out", "who")
        }
        sound |= {"global_domain.conv"}
    assert changed("MLP for KAN") == head
    # A linear layer is all that is left of the fusion and the KAN.
    assert changed("without KFusion") == fusion | head | ({"fusion.mix"} if compact else set())
    # What a domain no longer gives, the fusion no longer takes in.
    assert changed("without LSTM") == fusion | recurrent
    assert changed("without Global") == fusion | sound
    for name in ("without KFusion", "without LSTM", "without Global"):
        sizes = [sum(np.prod(s) for s in shapes[k].values()) for k in (name, "proposed")]
        assert sizes[0] < sizes[1]


# wav2vec2 from weights saved here, through the calls that read it from a hub


@pytest.fixture(scope="module")
def wav2vec2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(3)
    Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(folder)
    return folder


def test_the_paper_preset_takes_its_wav2vec2_from_a_folder(wav2vec2_folder: Path) -> None:
    model = KFusion.with_wav2vec2(PAPER, wav2vec2_folder).eval()
    theirs = Wav2Vec2Model.from_pretrained(wav2vec2_folder).eval()
    audio, identity, emotion = inputs(2)
    _, features = model.features(audio)
    scaled = (audio - audio.mean(1, keepdim=True)) / audio.std(1, keepdim=True, correction=0)
    with torch.no_grad():
        expected = theirs(scaled).last_hidden_state
    assert features.shape == (2, 49, 24)
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-3)
    # The features can be cached and decoded later.
    torch.testing.assert_close(
        model.decode(audio, features, identity, emotion),
        model.displacement(audio, identity, emotion),
    )


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_wav2vec2_does_not_learn_and_a_free_one_does(
    wav2vec2_folder: Path, frozen: bool
) -> None:
    model = KFusion.with_wav2vec2(replace(PAPER, freeze_wav2vec2=frozen), wav2vec2_folder).train()
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        model.displacement(*inputs(2)).sub(1).square().mean().backward()
        optimizer.step()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    of_wav2vec2 = {n for n in moved if n.startswith("wav2vec2.")}
    assert bool(of_wav2vec2) is not frozen and moved - of_wav2vec2
    assert model.wav2vec2 is not None and model.wav2vec2.model.training is not frozen


def test_the_whole_paper_preset_is_saved_and_loaded(wav2vec2_folder: Path, tmp_path: Path) -> None:
    model = KFusion.with_wav2vec2(PAPER, wav2vec2_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    path = tmp_path / "paper.safetensors"
    save_model(path, model, {"data": "none"})
    again, _ = load_model(path)  # without the folder, without a hub
    torch.testing.assert_close(
        again.displacement(*inputs(2)), model.eval().displacement(*inputs(2))
    )


def test_a_wav2vec2_that_is_not_there_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        KFusion.with_wav2vec2(PAPER, tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="wav2vec2 is empty"):
        KFusion(replace(PAPER, wav2vec2=""))
    with pytest.raises(CheckpointError, match="no architecture"):
        KFusion(replace(PAPER, wav2vec2="{"))
