"""The engines behind one interface: same frames, same name for the same weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kfusion.checkpoint import save_model
from kfusion.config import ModelConfig
from kfusion.errors import CheckpointError
from kfusion.runtime import EXPORTED, WEIGHTS, OnnxEngine, SyntheticEngine, TorchEngine, make_engine
from kfusion.system import file_sha256
from tests.conftest import voice
from tests.kfusion.test_model import PAPER, SMALL, perturbed
from training.export import export, random_inputs


def test_onnx_runtime_gives_what_torch_gives() -> None:
    onnx, torch = OnnxEngine(), TorchEngine()
    for rows in (1, 3, 16):
        row = random_inputs(rows, rows)
        np.testing.assert_allclose(onnx.step(*row), torch.step(*row), atol=1e-4)
    speech = np.stack([voice(1.0, seed=k) for k in range(4)])
    _, faces, emotion = random_inputs(4, 9)
    np.testing.assert_allclose(
        onnx.step(speech, faces, emotion), torch.step(speech, faces, emotion), atol=1e-4
    )


def test_both_name_the_same_weights() -> None:
    assert OnnxEngine().sha256 == TorchEngine().sha256 == file_sha256(WEIGHTS)
    assert OnnxEngine().name == "compact-onnx" and TorchEngine().name == "compact-torch"
    assert EXPORTED.stat().st_size < 20_000_000


def test_auto_is_onnx_runtime_for_the_bundled_model_on_the_cpu() -> None:
    assert isinstance(make_engine("auto", device="cpu"), OnnxEngine)
    assert isinstance(make_engine("torch", device="cpu"), TorchEngine)
    assert isinstance(make_engine("synthetic"), SyntheticEngine)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_model(path, perturbed(SMALL), {})
    return path


def test_a_checkpoint_of_ones_own_is_exported_and_found(pair: Path) -> None:
    assert isinstance(make_engine("auto", pair, "cpu"), TorchEngine)
    export(pair)
    engine = make_engine("auto", pair, "cpu")
    assert isinstance(engine, OnnxEngine) and engine.sha256 == file_sha256(pair)


def test_a_pair_that_does_not_match_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "compact.safetensors", perturbed(SMALL), {})
    shutil.copy(EXPORTED, tmp_path / "compact.onnx")
    with pytest.raises(CheckpointError, match="exported from other weights"):
        make_engine("auto", tmp_path / "compact.safetensors", "cpu")


def test_files_that_are_no_export_are_plain_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        OnnxEngine(tmp_path / "none.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(EXPORTED.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="not a readable ONNX model"):
        OnnxEngine(cut)


def test_only_networks_that_hear_log_mel_are_exported(tmp_path: Path) -> None:
    path = tmp_path / "paper.safetensors"
    save_model(path, perturbed(PAPER), {})
    with pytest.raises(CheckpointError, match="only mel exports"):
        export(path)
    assert not path.with_suffix(".onnx").exists()


@pytest.mark.parametrize("config", [SMALL, PAPER], ids=["compact", "paper"])
def test_bfloat16_stays_near_float32_and_keeps_rows_apart(
    config: ModelConfig, tmp_path: Path
) -> None:
    pair = tmp_path / "model.safetensors"
    save_model(pair, perturbed(config), {})
    exact, rough = TorchEngine(pair), TorchEngine(pair, bfloat16=True)
    row = random_inputs(5, 1)
    together = rough.step(*row)
    assert together.dtype == np.float32
    assert np.abs(together - exact.step(*row)).max() < 1.0
    for k in range(5):
        alone = rough.step(*(part[k : k + 1] for part in row))
        np.testing.assert_allclose(alone[0], together[k], atol=0.05)


def test_a_compiled_engine_fills_batches_up_and_gives_the_same(
    pair: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    sizes: list[int] = []

    def note(function: Callable[..., torch.Tensor], **_: object) -> Callable[..., torch.Tensor]:
        def run(audio: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            sizes.append(len(audio))
            return function(audio, *rest)

        return run

    monkeypatch.setattr(torch, "compile", note)
    plain, compiled = TorchEngine(pair), TorchEngine(pair, compiled=True)
    for rows in (1, 3, 5, 16):
        row = random_inputs(rows, rows)
        np.testing.assert_allclose(compiled.step(*row), plain.step(*row), atol=1e-4)
    assert sizes == [1, 4, 8, 16]


def test_a_device_that_is_not_there_is_a_plain_error() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(CheckpointError, match="cannot be used"):
        TorchEngine(WEIGHTS, "cuda")


def test_the_synthetic_mouth_opens_with_loudness() -> None:
    engine = SyntheticEngine()
    audio, faces, emotion = random_inputs(2, 0)
    audio = np.zeros_like(audio)
    audio[1, 8000:] = 0.3 * np.sin(np.arange(8000))
    emotion = np.eye(8)[[5, 5]]
    output = engine.step(audio, faces, emotion)
    assert not output[0].any()
    assert output[1, 25, 66, 1] > 3 and not output[1, :12].any()
