"""The mean of checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kfusion.checkpoint import load_model, save_model
from kfusion.errors import CheckpointError
from kfusion.model import KFusion
from tests.test_model import SMALL
from training.soup import main, soup


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        save_model(path, KFusion(SMALL), {"seed": seed, "licence": "mine"})
    return paths


def test_a_mean_is_between_its_parts_by_their_shares(parts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean.safetensors"
    soup(parts, [1.0, 3.0], out, "python -m training.soup")
    (a, _), (b, _), (mean, said) = (load_model(path) for path in (*parts, out))
    for name, value in mean.state_dict().items():
        wanted = 0.25 * a.state_dict()[name] + 0.75 * b.state_dict()[name]
        torch.testing.assert_close(value, wanted)
    assert said["licence"] == "mine" and said["command"] == "python -m training.soup"
    assert [(p["share"], p["seed"]) for p in said["mean"]] == [(0.25, 0), (0.75, 1)]


def test_the_mean_of_one_is_itself(parts: list[Path], tmp_path: Path) -> None:
    assert main([str(parts[0]), "--out", str(tmp_path / "same.safetensors")]) == 0
    (was, _), (same, _) = load_model(parts[0]), load_model(tmp_path / "same.safetensors")
    assert all(torch.equal(v, same.state_dict()[name]) for name, v in was.state_dict().items())


def test_what_cannot_be_averaged_is_told(
    parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    save_model(other, KFusion(replace(SMALL, kan_hidden=SMALL.kan_hidden + 1)), {})
    with pytest.raises(CheckpointError, match="is another network than"):
        soup([parts[0], other], [1.0, 1.0], tmp_path / "mean.safetensors")
    names = list(map(str, parts))
    for shares in (["1"], ["1", "-1"], ["0", "0"]):
        out = str(tmp_path / "mean.safetensors")
        assert main([*names, "--out", out, "--shares", *shares]) == 2
        assert "wanted 2 numbers from 0 on, not all 0" in capsys.readouterr().err
    assert not (tmp_path / "mean.safetensors").exists()
