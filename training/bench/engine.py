"""What is measured: a preset's checkpoint, the engine that opens it, its input and its memory."""

import importlib
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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
from training.export import random_inputs

ENGINES: Final = ("onnx", "torch")
MEMORY_TIMEOUT_S: Final = 600


def windows(rows: int) -> tuple[Any, Any, Any]:
    """(audio, identity, emotion) as an engine takes them, float32."""
    audio, identity, emotion = (part.astype(np.float32) for part in random_inputs(rows, rows))
    return audio, identity, emotion


def open_engine(name: str, checkpoint: Path, threads: int, device: str) -> Engine:
    if name == "onnx":
        return OnnxEngine(checkpoint.with_suffix(".onnx"), threads)
    return TorchEngine(checkpoint, device, threads)


def preload_transformers() -> None:
    """Imports wav2vec2's code where it is installed, so that no measurement includes the import."""
    with suppress(MissingExtra):
        _ = load_transformers().Wav2Vec2Model


def checkpoints(presets: Sequence[str], folder: Path) -> dict[str, Path]:
    """A file for each preset: the bundled one, or random weights written into ``folder``."""
    files: dict[str, Path] = {}
    for preset in presets:
        if preset not in PRESETS:
            wanted = " or ".join(PRESETS)
            raise BenchmarkError(f"preset {preset!r} is unknown; wanted {wanted}")
        if preset == "compact":
            files[preset] = WEIGHTS
        else:
            base = json.dumps(load_transformers().Wav2Vec2Config().to_diff_dict())
            files[preset] = folder / f"{preset}.safetensors"
            torch.manual_seed(0)
            save_model(files[preset], KFusion(replace(PRESETS[preset], wav2vec2=base)), {})
    return files


def peak_memory(
    checkpoint: Path, engine: str, batch: int, threads: int, device: str
) -> float | None:
    """MiB that loading a model and running a batch takes, in a process that does nothing else.

    On the CPU: how far its peak resident memory rises above that with the libraries loaded
    (Linux only, else None); on CUDA: the most that was allocated there.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        peak = pool.submit(_own_peak, checkpoint, engine, batch, threads, device)
        try:
            return peak.result(MEMORY_TIMEOUT_S)
        except BrokenProcessPool:
            raise BenchmarkError(f"memory of {engine} at batch {batch}: the process died") from None


def _own_peak(checkpoint: Path, engine: str, batch: int, threads: int, device: str) -> float | None:
    """:func:`peak_memory` of this process."""
    if engine == "onnx":
        importlib.import_module("onnxruntime")
    else:
        preload_transformers()
    before = _resident("VmRSS")
    open_engine(engine, checkpoint, threads, device).step(*windows(batch))
    after = _resident("VmHWM")
    if engine == "torch" and device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return None if before is None or after is None else after - before


def _resident(field: str) -> float | None:
    """VmRSS or VmHWM of this process in MiB. (getrusage's peak begins with the parent's.)"""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == field + ":")
