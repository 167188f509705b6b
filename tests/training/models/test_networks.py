"""The baselines and the ablations: shapes, what each hears, and their checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kfusion.errors import CheckpointError
from kfusion.model import KFusion
from tests.kfusion.test_model import PAPER, TINY_WAV2VEC2, Wav2Vec2Model, inputs
from tests.training.small_train import TINY
from training.models.baselines import (
    Baseline,
    Chen,
    Eskimez,
    GraphConv,
    PrincipalComponents,
)
from training.models.networks import (
    ABLATIONS,
    BASELINES,
    CHOICES,
    build,
    load_engine,
    load_network,
    network_name,
    save_network,
)

EVERY = [*ABLATIONS, *CHOICES, *BASELINES]


@pytest.mark.parametrize("name", EVERY)
def test_every_network_trains_on_sound_and_remembers_what_it_is(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(name, replace(TINY, direct=True, dropout=0.0))
    network_inputs = inputs(3)
    target = 4 * torch.randn(3, 1, 68, 2).expand(-1, 30, -1, -1)
    if isinstance(network, Baseline):
        some = target[:, 0].flatten(1).repeat(50, 1) / TINY.unit_px
        network.fit(some + 0.1 * torch.randn_like(some))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses: list[float] = []
    for _ in range(12):
        y = network.displacement(*network_inputs, torch.tensor([0.9, 1.0, 1.1]))
        assert y.shape == (3, 30, 68, 2)
        loss = (y - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses) < 0.98 * losses[0]
    assert all(p.grad is not None for p in network.parameters())  # nothing is there for nothing

    assert network_name(network) == name
    file = tmp_path / "model.safetensors"
    save_network(file, network, {"steps": 8})
    loaded, provenance = load_network(file)
    assert network_name(loaded) == name and provenance == {"steps": 8}
    said = load_engine(file).step(*(part.numpy() for part in network_inputs))
    np.testing.assert_allclose(
        said, network.eval().displacement(*network_inputs).detach().numpy(), atol=1e-4
    )


@pytest.mark.parametrize("name", BASELINES)
def test_rows_of_a_batch_do_not_meet(name: str) -> None:
    torch.manual_seed(1)
    network = build(name, TINY).eval()
    if isinstance(network, PrincipalComponents):
        network.fit(torch.randn(200, 136))
    audio, identity, emotion = inputs(3)
    together = network.displacement(audio, identity, emotion)
    alone = network.displacement(audio[1:2], identity[1:2], emotion[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_the_encoder_of_the_content_domain(name: str) -> None:
    ours, theirs = build("kfusion", TINY), build(name, TINY)
    assert isinstance(ours, KFusion) and isinstance(theirs, Baseline)
    domain = ours.content_domain
    for part in ("stem", "script"):
        shapes = [
            {n: p.shape for n, p in getattr(owner, part).named_parameters()}
            for owner in (domain, theirs.sound)
        ]
        assert shapes[0] == shapes[1] and shapes[0]
    audio = inputs(2)[0]
    torch.testing.assert_close(theirs.features(audio)[1], ours.features(audio)[1])


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_of_the_paper_preset_hears_through_wav2vec2(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(tmp_path)
    network = build(name, PAPER, str(tmp_path)).eval()
    assert isinstance(network, Baseline) and network.wav2vec2 is not None
    if isinstance(network, PrincipalComponents):
        network.fit(torch.randn(200, 136))
    audio, identity, emotion = inputs(2)
    sound, content = network.features(audio)
    torch.testing.assert_close(content, network.wav2vec2(audio))
    y = network.displacement(audio, identity, emotion)
    torch.testing.assert_close(network.decode(sound, content, identity, emotion), y)
    quiet = network.displacement(torch.zeros_like(audio), identity, emotion)
    assert (quiet - y).abs().max() > 1e-4


def test_the_speech_that_is_about_to_come_moves_the_lstm_of_eskimez() -> None:
    torch.manual_seed(0)
    network = Eskimez(TINY).eval()
    x = torch.randn(1, 30, network.sound.hidden)
    v, e = torch.zeros(1, 136), torch.zeros(1, 8)
    later = x.clone()
    later[:, 15] += 1
    change = (network.predict(later, v, e) - network.predict(x, v, e)).abs().amax(-1)[0]
    assert not change[: 15 - Eskimez.DELAY].any() and change[15 - Eskimez.DELAY] > 0


def test_neighbours_in_the_graph_are_neighbours_of_the_face() -> None:
    adjacency = GraphConv(1, 1).adjacency
    assert torch.equal(adjacency, adjacency.T) and (adjacency.diagonal() > 0).all()
    assert adjacency[48, 59] > 0 and adjacency[48, 49] > 0 and adjacency[60, 67] > 0
    assert adjacency[48, 52] == 0 and adjacency[36, 45] == 0
    reach = torch.linalg.matrix_power((adjacency > 0).float(), 68)
    assert (reach > 0).all()  # one graph, not several


def test_principal_components_are_those_of_the_targets() -> None:
    torch.manual_seed(0)
    network = Chen(TINY)
    basis, _ = torch.linalg.qr(torch.randn(136, 6))
    targets = torch.randn(500, 6) @ torch.diag(torch.arange(6.0, 0, -1)) @ basis.T + 3
    network.fit(targets)
    back = (targets - network.middle) @ torch.linalg.pinv(network.components) @ network.components
    torch.testing.assert_close(back + network.middle, targets, atol=1e-3, rtol=0)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_network(tmp_path / "nothing.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="not a usable checkpoint"):
        load_network(tmp_path / "junk.safetensors")
    file = tmp_path / "model.safetensors"
    save_network(file, build("cao", TINY), {})
    file.write_bytes(file.read_bytes().replace(b'"cao', b'"abc'))
    with pytest.raises(CheckpointError, match="abc"):
        load_network(file)
