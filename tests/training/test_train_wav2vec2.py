"""Training with a wav2vec2: frozen or not, from stored features, and what a run keeps of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from kfusion import config
from kfusion.checkpoint import load_model
from kfusion.errors import DataError
from kfusion.layers.wav2vec2 import Wav2Vec2
from kfusion.model import KFusion
from tests.kfusion.test_model import PAPER, TINY_WAV2VEC2, Wav2Vec2Model
from tests.training.corpora import one_speaker
from tests.training.test_train import run, run_until_killed, same_bits
from training import train
from training.models.networks import load_network, save_network

pytestmark = pytest.mark.usefixtures("paper")
Steps = list[str]


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset ``paper`` is a small network."""
    monkeypatch.setitem(config.PRESETS, "paper", PAPER)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_speaker(tmp_path_factory.mktemp("data") / "c")


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(3)
    Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(folder)
    return folder


@pytest.fixture
def more(wav2vec2: Path) -> Steps:
    return ["--preset", "paper", "--wav2vec2", str(wav2vec2), "--save-every", "100"]


def of_wav2vec2(names: Any) -> list[str]:
    return [name for name in names if "wav2vec2" in name]


def test_a_frozen_wav2vec2_is_named_by_the_checkpoint_and_kept_by_no_file_of_the_run(
    corpus: Path, tmp_path: Path, wav2vec2: Path, more: Steps
) -> None:
    out = tmp_path / "out"
    checkpoint = run(corpus, out, 2, *more, "--ema", "0.9")
    with safe_open(checkpoint, framework="pt") as file:
        named = json.loads(file.metadata()["wav2vec2"])
        assert named["source"] == str(wav2vec2) and not of_wav2vec2(file.keys())
    state = torch.load(out / "state.pt", weights_only=True)
    assert not of_wav2vec2([*state["student"], *state["average"]])
    own = load_file(checkpoint)
    assert set(state["average"]) == set(own)
    model, _ = load_model(checkpoint)
    pretrained = load_file(wav2vec2 / "model.safetensors")
    name = "feature_projection.projection.weight"
    assert torch.equal(model.state_dict()[f"wav2vec2.model.{name}"], pretrained[name])
    # A further run begins from it, with the same wav2vec2.
    further = run(corpus, tmp_path / "further", 1, "--init", str(checkpoint), "--lr", "1e-12")
    again = load_file(further)
    assert again.keys() == own.keys()
    assert all(torch.allclose(again[k], own[k], atol=1e-6) for k in own)


def test_a_baselines_checkpoint_names_its_wav2vec2_too(
    corpus: Path, tmp_path: Path, more: Steps
) -> None:
    checkpoint = run(corpus, tmp_path / "out", 1, *more, "--network", "chen")
    with safe_open(checkpoint, framework="pt") as file:
        assert not of_wav2vec2(file.keys())
    network, _ = load_network(checkpoint)
    save_network(tmp_path / "again.safetensors", network, {})
    assert load_file(tmp_path / "again.safetensors").keys() == load_file(checkpoint).keys()


@pytest.mark.parametrize("option", ["--ema=0.9", "--finetune"])
def test_a_run_with_wav2vec2_is_resumed_with_the_same_bits(
    corpus: Path, tmp_path: Path, more: Steps, option: str
) -> None:
    more, killed = [*more, option, "--save-every", "2"], tmp_path / "killed"
    whole = run(corpus, tmp_path / "whole", 3, *more)
    run_until_killed(corpus, killed, 3, *more, at=3)
    assert same_bits(whole, run(corpus, killed, 3, *more))


def test_a_finetuned_wav2vec2_is_stored(
    corpus: Path, tmp_path: Path, wav2vec2: Path, more: Steps
) -> None:
    tensors = load_file(run(corpus, tmp_path / "free", 2, *more, "--finetune"))
    pretrained = load_file(wav2vec2 / "model.safetensors")
    name = "feature_projection.projection.weight"
    assert not torch.equal(tensors[f"wav2vec2.model.{name}"], pretrained[name])
    # Frozen from here on, it is nobody's published one: stored again.
    frozen = run(corpus, tmp_path / "on", 1, "--init", str(tmp_path / "free/model.safetensors"))
    assert torch.equal(
        load_file(frozen)[f"wav2vec2.model.{name}"], tensors[f"wav2vec2.model.{name}"]
    )


def test_a_run_is_not_resumed_with_another_wav2vec2(
    corpus: Path, tmp_path: Path, more: Steps
) -> None:
    source = tmp_path / "wav2vec2"
    more = [*more, "--wav2vec2", str(source)]
    for seed in (1, 2):
        torch.manual_seed(seed)
        Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(source)
        if seed == 1:
            run(corpus, tmp_path / "out", 1, *more)
    with pytest.raises(DataError, match="was begun with wav2vec2_sha256"):
        run(corpus, tmp_path / "out", 1, *more)


@pytest.mark.parametrize(
    "options", [(), ("--network=chen", "--augment", "mirror", "face", "--start-every=4")]
)
def test_training_from_stored_features_gives_what_training_from_sound_gives(
    corpus: Path,
    tmp_path: Path,
    more: Steps,
    options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = [*more, *options, "--lr", "1e-3"]
    plain = load_file(run(corpus, tmp_path / "plain", 3, *more))
    folder = str(tmp_path / "features")
    first = run(corpus, tmp_path / "first", 3, *more, "--features", folder)

    def forward(*_: object) -> torch.Tensor:
        raise AssertionError("the features are there")

    monkeypatch.setattr(Wav2Vec2, "forward", forward)
    second = run(corpus, tmp_path / "second", 3, *more, "--features", folder, "--workers", "1")
    assert same_bits(first, second)
    stored = load_file(second)
    step = 2e-3  # three of Adam's, of about the learning rate each
    for name, value in plain.items():
        assert (stored[name] - value).norm() <= 0.05 * step * value.numel() ** 0.5, name
    figures = [
        [float(v) for v in (tmp_path / run / "validation.csv").read_text().split()[-1].split(",")]
        for run in ("plain", "second")
    ]
    assert figures[0] == pytest.approx(figures[1], rel=1e-3)


def test_stored_features_train_in_bfloat16_with_fitted_grids(
    corpus: Path, tmp_path: Path, more: Steps
) -> None:
    more = [*more, "--features", str(tmp_path / "features"), "--kan-grid-at", "1"]
    whole = load_file(run(corpus, tmp_path / "whole", 1, *more))
    half = load_file(run(corpus, tmp_path / "half", 1, *more, "--bf16"))
    assert all(half[k].dtype == torch.float32 and half[k].isfinite().all() for k in whole)
    assert any(not torch.equal(half[k], whole[k]) for k in whole)
    assert not torch.equal(whole["head.inner.low"], KFusion(PAPER).head.state_dict()["inner.low"])


def test_stored_features_are_refused_where_they_would_be_wrong(
    corpus: Path, tmp_path: Path, more: Steps
) -> None:
    more = [*more, "--features", str(tmp_path / "features")]
    for options, says in {
        ("--augment", "mirror", "gain=0.1"): "--augment gain changes the sound",
        ("--finetune",): "--finetune changes the wav2vec2",
        ("--preset", "compact"): "wanted --preset paper",
        ("--start-every", "0"): "wanted 1 or more",
    }.items():
        with pytest.raises(DataError, match=says):
            run(corpus, tmp_path / "out", 1, *more, *options)
    assert not (tmp_path / "features").exists()
    assert train.arguments(["--data", "d", "--out", "o"]).features is None
