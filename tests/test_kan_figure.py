"""The picture of the KAN: which edges it takes, in which order, and what it calls them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from kfusion.checkpoint import save_model
from kfusion.kan import KANLayer
from kfusion.model import KFusion
from tests.conftest import voice
from tests.test_model import SMALL, perturbed
from training.kan_figure import activity, heard_by, label, main, strongest


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_model(path, perturbed(SMALL), {})
    return path


def layer_of(inputs: int, outputs: int) -> KANLayer:
    torch.manual_seed(3)
    layer = KANLayer(inputs, outputs, 8, 2.0)
    torch.nn.init.normal_(layer.coef)
    return layer


def test_edges_come_by_their_activity() -> None:
    layer = layer_of(5, 4)
    heard = torch.randn(1000, 5)
    edges = strongest(layer, 20, heard)
    sizes = [edge.activity for edge in edges]
    assert sizes == sorted(sizes, reverse=True)
    assert len({(edge.inputs, edge.outputs) for edge in edges}) == 20
    exact = layer.edges(heard).abs().mean(0).detach()
    for edge in edges:
        assert edge.activity == pytest.approx(float(exact[edge.outputs, edge.inputs]), rel=1e-4)


def test_few_edges_are_the_first_of_many() -> None:
    layer = layer_of(5, 4)
    few, many = strongest(layer, 3), strongest(layer, 20)
    assert [(e.inputs, e.outputs) for e in few] == [(e.inputs, e.outputs) for e in many[:3]]


def test_what_is_heard_decides_and_not_the_grid() -> None:
    layer = layer_of(2, 1)
    torch.nn.init.zeros_(layer.base)
    torch.nn.init.zeros_(layer.coef)
    with torch.no_grad():
        layer.coef[0, 0, 5] = 1.0  # a bump in the middle of its grid
        layer.coef[0, 1] = 0.1  # flat
    assert strongest(layer, 1)[0].inputs == 0
    beside_the_bump = torch.full((10, 2), 1.9)
    assert strongest(layer, 1, beside_the_bump)[0].inputs == 1


def test_a_curve_is_the_layer_and_its_parts_sum_to_it() -> None:
    layer = layer_of(3, 2)
    layer.low.copy_(torch.tensor([-2.0, 0.5, -9.0]))
    for edge in strongest(layer, 6):
        assert float(edge.x[0]) == float(layer.low[edge.inputs])
        x = torch.zeros(len(edge.x), 3)
        x[:, edge.inputs] = edge.x
        phi = layer.edges(x)[:, edge.outputs, edge.inputs]
        torch.testing.assert_close(edge.base + edge.spline, phi)


def test_activity_in_chunks_is_activity_at_once() -> None:
    layer = layer_of(3, 2)
    heard = torch.randn(1300, 3)
    torch.testing.assert_close(activity(layer, heard), layer.edges(heard).abs().mean(0))


def test_an_edge_is_called_by_its_landmark_and_its_hidden_unit() -> None:
    edge = replace(strongest(layer_of(2, 2), 1)[0], inputs=2 * 57 + 1, outputs=7)
    assert label(edge, "inner") == "y57 mouth → h7"
    assert label(replace(edge, inputs=7, outputs=2 * 8), "outer") == "h7 → x8 jaw"


def test_what_a_layer_hears_is_every_frame_of_the_sound(checkpoint: Path, tmp_path: Path) -> None:
    sound = tmp_path / "voice.wav"
    soundfile.write(sound, voice(2.0), 16_000)
    inner, outer = (heard_by(checkpoint, layer, sound) for layer in ("inner", "outer"))
    assert inner.shape[1] == 136 and outer.shape[1] == SMALL.kan_hidden
    assert len(inner) == len(outer) >= 60 and len(inner) % 30 == 0


@pytest.mark.parametrize("layer", ["inner", "outer"])
def test_a_figure_is_written(layer: str, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "kan.png"
    command = ["--checkpoint", str(checkpoint), "--out", str(out), "--layer", layer]
    assert main([*command, "--edges", "4"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_figure_of_real_inputs_is_written(checkpoint: Path, tmp_path: Path) -> None:
    sound, out = tmp_path / "voice.wav", tmp_path / "kan.png"
    soundfile.write(sound, voice(1.5), 16_000)
    command = ["--checkpoint", str(checkpoint), "--out", str(out), "--audio", str(sound)]
    assert main([*command, "--edges", "3"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_head_without_kan_is_a_plain_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mlp.safetensors"
    save_model(path, KFusion(replace(SMALL, head="mlp")), {})
    assert main(["--checkpoint", str(path), "--out", str(tmp_path / "kan.png")]) == 2
    assert "its head is 'mlp'; wanted a kan" in capsys.readouterr().err
    assert not (tmp_path / "kan.png").exists()
