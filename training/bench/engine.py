"""What is measured: a preset's checkpoint, the engine that opens it and the windows it is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from kfusion.checkpoint import save_model
from kfusion.config import PRESETS
from kfusion.errors import MissingExtra
from kfusion.layers.wav2vec2 import load_transformers
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS, Engine, OnnxEngine, TorchEngine
from training.bench.timing import BenchmarkError
from training.export import inputs

ENGINES: Final = ("onnx", "torch")


def windows(rows: int) -> tuple[Any, Any, Any]:
    """(audio, identity, emotion) as an engine takes them, float32."""
    audio, identity, emotion = (part.astype(np.float32) for part in inputs(rows, rows))
    return audio, identity, emotion


def open_engine(name: str, checkpoint: Path, threads: int, device: str) -> Engine:
    if name == "onnx":
        return OnnxEngine(checkpoint.with_suffix(".onnx"), threads)
    return TorchEngine(checkpoint, device, threads)


def preload_transformers() -> None:
    """Where it is installed, wav2vec2's code too, so that no cell pays for the import."""
    with suppress(MissingExtra):
        _ = load_transformers().Wav2Vec2Model


def checkpoints(presets: Sequence[str], folder: Path) -> dict[str, Path]:
    """A file for each preset: the bundled one, or random weights written into ``folder``."""
    found: dict[str, Path] = {}
    for preset in presets:
        if preset not in PRESETS:
            wanted = " or ".join(PRESETS)
            raise BenchmarkError(f"preset {preset!r} is unknown; wanted {wanted}")
        if preset == "compact":
            found[preset] = WEIGHTS
        else:
            base = json.dumps(load_transformers().Wav2Vec2Config().to_diff_dict())
            found[preset] = folder / f"{preset}.safetensors"
            torch.manual_seed(0)
            save_model(found[preset], KFusion(replace(PRESETS[preset], wav2vec2=base)), {})
    return found
