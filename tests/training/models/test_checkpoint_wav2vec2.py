"""Checkpoints of networks with wav2vec2: frozen, they name it instead of repeating its weights."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kfusion.checkpoint import ENCODER, SOURCE, load_model, save_model
from kfusion.errors import CheckpointError
from kfusion.layers.wav2vec2 import Origin, weights_sha256
from kfusion.model import KFusion
from tests.kfusion.test_model import PAPER, TINY_WAV2VEC2, Wav2Vec2Model, inputs
from training import export

FROZEN = replace(PAPER, freeze_wav2vec2=True)


def wav2vec2(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(folder)
    return folder


def network(folder: Path) -> KFusion:
    model = KFusion.with_wav2vec2(FROZEN, folder)
    assert model.wav2vec2 is not None
    model.wav2vec2.come_from(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return wav2vec2(tmp_path / "wav2vec2", 3)


@pytest.fixture
def saved(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, network(folder), {"data": "none"})
    return path


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def same(one: KFusion, other: KFusion) -> bool:
    return torch.equal(one.displacement(*inputs(2)), other.displacement(*inputs(2)))


def test_a_frozen_wav2vec2_is_named_and_read_from_where_it_came_from(
    saved: Path, folder: Path, tmp_path: Path
) -> None:
    assert not [name for name in load_file(saved) if name.startswith(ENCODER)]
    model, _ = load_model(saved)
    pretrained = Wav2Vec2Model.from_pretrained(folder).state_dict()
    assert json.loads(metadata(saved)["wav2vec2"]) == {
        "source": str(folder), "sha256": weights_sha256(pretrained), "prefix": "wav2vec2.model."
    }  # fmt: skip
    assert model.wav2vec2 is not None
    for name, value in model.wav2vec2.model.state_dict().items():
        assert torch.equal(value, pretrained[name]), name
    again = tmp_path / "again.safetensors"
    save_model(again, model, {"data": "none"})
    assert metadata(again) == metadata(saved)
    assert load_file(again).keys() == load_file(saved).keys()


def test_a_file_may_be_made_whole(saved: Path, folder: Path, tmp_path: Path) -> None:
    model, provenance = load_model(saved)
    whole = tmp_path / "whole.safetensors"
    assert export.main(["--checkpoint", str(saved), "--whole", str(whole)]) == 0
    folder.rename(tmp_path / "gone")
    again, kept = load_model(whole)
    assert (
        same(again, model)
        and kept == provenance
        and again.wav2vec2 is not None
        and again.wav2vec2.origin is None
    )


def test_weights_of_unknown_origin_or_finetuned_ones_are_stored(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    unknown = KFusion(FROZEN).eval()
    finetuned = KFusion.with_wav2vec2(PAPER, folder).eval()
    assert finetuned.wav2vec2 is not None
    finetuned.wav2vec2.origin = Origin(str(folder), "of what it began as")
    for model in (unknown, finetuned):
        save_model(path, model, {})
        assert "wav2vec2" not in metadata(path) and same(load_model(path)[0], model)


def test_a_wav2vec2_that_was_moved_is_found_where_it_is_said_to_be(
    saved: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = load_model(saved)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="without wav2vec2's weights") as raised:
        load_model(saved)
    for part in (str(saved), f"trained with {folder}", SOURCE, "cannot be loaded", "sha256 "):
        assert part in str(raised.value)
    assert same(load_model(saved, moved)[0], model)
    monkeypatch.setenv(SOURCE, str(moved))
    assert same(load_model(saved)[0], model)


def test_another_wav2vec2_is_refused(saved: Path, tmp_path: Path) -> None:
    other = wav2vec2(tmp_path / "other", 4)
    with pytest.raises(CheckpointError, match=f"{other} has others .sha256 .*trained with "):
        load_model(saved, other)


def test_a_broken_note_of_the_wav2vec2_is_named(saved: Path) -> None:
    for text in ('{"source": "x"}', '{"source": 1, "sha256": "x"}', "?"):
        save_file(load_file(saved), saved, {**metadata(saved), "wav2vec2": text})
        with pytest.raises(CheckpointError, match="broken metadata: wav2vec2"):
            load_model(saved)


def test_the_mask_that_is_never_used_is_no_part_of_the_weights(folder: Path) -> None:
    weights = Wav2Vec2Model.from_pretrained(folder).state_dict()
    assert "masked_spec_embed" in weights
    other = weights | {"masked_spec_embed": weights["masked_spec_embed"] + 1}
    assert weights_sha256(other) == weights_sha256(weights)
    name = "encoder.layer_norm.bias"
    assert weights_sha256(weights | {name: weights[name] + 1}) != weights_sha256(weights)


def test_a_name_of_the_hub_is_looked_for_in_the_cache_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Wav2Vec2Model.from_pretrained
    cached, asked = True, list[bool]()

    def from_pretrained(name: str, *, local_files_only: bool = False) -> Wav2Vec2Model:
        asked.append(local_files_only)
        if local_files_only and not cached:
            raise OSError("not in the cache")
        return read(folder)

    monkeypatch.setattr(Wav2Vec2Model, "from_pretrained", from_pretrained)
    KFusion.with_wav2vec2(PAPER, "someone/wav2vec2")
    assert asked == [True]
    cached = False
    KFusion.with_wav2vec2(PAPER, "someone/wav2vec2")
    assert asked == [True, True, False]
