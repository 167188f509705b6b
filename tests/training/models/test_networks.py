"""The baselines and the ablations: shapes, what each hears, and their checkpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kfusion.errors import CheckpointError
from kfusion.layers.mel import FRAME, STRIDE
from tests.kfusion.test_model import inputs
from tests.training.small_train import TINY
from training.models.baselines import Baseline, Chen, around_frames
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
    assert losses[-1] < 0.95 * losses[0]
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
    if isinstance(network, Chen):
        network.fit(torch.randn(200, 136))
    audio, identity, emotion = inputs(3)
    together = network.displacement(audio, identity, emotion)
    alone = network.displacement(audio[1:2], identity[1:2], emotion[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    assert not torch.equal(together[0], together[1])


def test_the_steps_around_a_frame_are_those_of_its_time() -> None:
    steps = torch.arange(100.0)[None, :, None]
    times = ((steps + 1) * STRIDE - FRAME / 2) / 16_000  # the middle of each step
    for count, delay in ((1, 0), (4, 3), (28, 0)):
        taken = around_frames(times, count, delay)
        assert taken.shape == (1, 30, count, 1)
        for frame in range(5, 25 - delay):
            assert abs(float(taken[0, frame].mean()) - (frame + delay) / 30) < 0.0051
    assert not around_frames(times, 28)[0, 29, -1].any()  # beyond the window there is nothing


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
