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


Tensors = dict[str, torch.Tensor]
BASE = "head.inner.base"


def rewrite(path: Path, changed: Callable[[Tensors], Tensors], **meta: str) -> None:
    metadata = {
        "format": FORMAT,
        "config": json.dumps(SMALL.to_dict()),
        "normalisation": json.dumps(normalisation()),
        "provenance": "{}",
    }
    save_file(changed(load_file(path)), path, {**metadata, **meta})


TENSORS: list[tuple[Callable[[Tensors], Tensors], str]] = [
    (lambda t: {k: v for k, v in t.items() if k != BASE}, "missing head.inner.base"),
    (lambda t: t | {"extra.weight": torch.zeros(1)}, "unknown extra.weight"),
    (lambda t: t | {BASE: torch.zeros(3, 3)}, r"head.inner.base is \[3, 3\]"),
    (lambda t: t | {BASE: t[BASE] * torch.nan}, "not finite"),
    (lambda t: t | {BASE: t[BASE].half()}, "wanted float32"),
]
METADATA: list[tuple[dict[str, str], str]] = [
    ({"format": "other"}, "format is 'other'"),
    ({"config": "{"}, "broken metadata: config"),
    ({"config": "[]"}, "no object"),
    ({"provenance": "?"}, "broken metadata: provenance"),
    ({"normalisation": "{}"}, "another normalisation: centre is None"),
    (
        {"normalisation": json.dumps({**normalisation(), "scale": 1.0})},
        r"scale is 1\.0, here 64\.0",
    ),
    ({"config": '{"head": "arms"}'}, "wanted kan or mlp"),
    ({"config": '{"width": -4}'}, "wanted 0 to 1e6"),
    ({"config": '{"width": 7, "heads": 2}'}, "does not divide"),
    ({"config": '{"heads": 0}'}, "no network"),
    ({"config": '{"wings": 2}'}, "unknown fields wings"),
    ({"config": '{"width": "wide"}'}, "wanted int"),
    ({"config": json.dumps(replace(SMALL, width=64).to_dict())}, "differences"),
]


@pytest.mark.parametrize(("changed", "says"), TENSORS)
def test_tensors_that_do_not_fit_are_named(
    saved: Path, changed: Callable[[Tensors], Tensors], says: str
) -> None:
    rewrite(saved, changed)
    with pytest.raises(CheckpointError, match=says):
        load_model(saved)


@pytest.mark.parametrize(("meta", "says"), METADATA)
def test_metadata_that_does_not_fit_is_named(saved: Path, meta: dict[str, str], says: str) -> None:
    rewrite(saved, lambda tensors: tensors, **meta)
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
