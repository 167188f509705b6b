from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kfusion.checkpoint import FORMAT, load_model, normalisation, save_model
from kfusion.config import PRESETS
from kfusion.errors import CheckpointError
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS
from tests.kfusion.test_model import SMALL, inputs, perturbed

HERE = Path(__file__).parents[1] / "data"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, perturbed(SMALL), {"seed": 7})
    return path


def test_a_checkpoint_comes_back_with_its_provenance(saved: Path) -> None:
    model, provenance = load_model(saved)
    assert provenance == {"seed": 7} and model.config == SMALL and not model.training
    torch.testing.assert_close(
        model.displacement(*inputs(2)), perturbed(SMALL).displacement(*inputs(2))
    )


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None], **meta: str) -> None:
    tensors = load_file(path)
    change(tensors)
    metadata = {
        "format": FORMAT,
        "config": json.dumps(SMALL.to_dict()),
        "normalisation": json.dumps(normalisation()),
        "provenance": "{}",
    }
    save_file(tensors, path, {**metadata, **meta})


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["head.inner.base"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["extra.weight"] = torch.zeros(1)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.inner.base"] = torch.zeros(3, 3)


def poison(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.inner.base"] = tensors["head.inner.base"] * torch.nan


def halve(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.inner.base"] = tensors["head.inner.base"].half()


def nothing(tensors: dict[str, torch.Tensor]) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "meta", "says"),
    [
        (drop, {}, "missing head.inner.base"),
        (add, {}, "unknown extra.weight"),
        (reshape, {}, r"head.inner.base is \[3, 3\]"),
        (poison, {}, "not finite"),
        (halve, {}, "wanted float32"),
        (nothing, {"format": "other"}, "format is 'other'"),
        (nothing, {"config": "{"}, "broken metadata: config"),
        (nothing, {"config": "[]"}, "no object"),
        (nothing, {"provenance": "?"}, "broken metadata: provenance"),
        (nothing, {"normalisation": "{}"}, "another normalisation: centre is None"),
        (
            nothing,
            {"normalisation": json.dumps({**normalisation(), "scale": 1.0})},
            r"scale is 1\.0, here 64\.0",
        ),
        (nothing, {"config": '{"head": "arms"}'}, "wanted kan or mlp"),
        (nothing, {"config": '{"width": -4}'}, "wanted 0 to 1e6"),
        (nothing, {"config": '{"width": 7, "heads": 2}'}, "does not divide"),
        (nothing, {"config": '{"heads": 0}'}, "no network"),
        (nothing, {"config": '{"wings": 2}'}, "unknown fields wings"),
        (nothing, {"config": '{"width": "wide"}'}, "wanted int"),
        (nothing, {"config": json.dumps(replace(SMALL, width=64).to_dict())}, "differences"),
    ],
)
def test_what_does_not_fit_is_named(
    saved: Path,
    change: Callable[[dict[str, torch.Tensor]], None],
    meta: dict[str, str],
    says: str,
) -> None:
    rewrite(saved, change, **meta)
    with pytest.raises(CheckpointError, match=says):
        load_model(saved)


def test_files_that_are_no_checkpoint_are_clear_errors(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / "none.safetensors")
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable"):
        load_model(saved)
    evil = tmp_path / "evil.safetensors"
    evil.write_bytes(pickle.dumps({"format": FORMAT}))
    with pytest.raises(CheckpointError, match="not a readable"):
        load_model(evil)


def test_a_file_of_the_first_version_still_loads_and_answers_the_same() -> None:
    model, provenance = load_model(HERE / "kfusion-1.safetensors")
    assert provenance["command"] == "tests/data/make_checkpoint.py"
    answer = model.displacement(*inputs(2, seed=11)).numpy()
    np.testing.assert_allclose(answer[:, ::10], np.load(HERE / "kfusion-1.npy"), atol=1e-4)


def test_the_bundled_model_says_where_it_came_from() -> None:
    model, provenance = load_model(WEIGHTS)
    assert model.config == replace(PRESETS["compact"], dropout=0.0)
    assert WEIGHTS.stat().st_size < 20_000_000
    assert {"command", "data", "sha256", "seed", "split", "licence", "steps"} <= set(provenance)
    assert "CC BY 4.0" in provenance["licence"]
    assert sum(p.numel() for p in KFusion(model.config).parameters()) > 1_000_000
