"""Engines that run a network behind one interface: PyTorch, ONNX Runtime, or a synthetic one."""

from pathlib import Path

from kfusion.engines.base import ENGINES, EXPORTED, WEIGHTS, Engine, EngineName
from kfusion.engines.onnx import OnnxEngine
from kfusion.engines.synthetic import SyntheticEngine
from kfusion.engines.torch import TorchEngine
from kfusion.errors import MissingExtra

__all__ = [
    "ENGINES", "EXPORTED", "WEIGHTS", "Engine", "EngineName", "OnnxEngine", "SyntheticEngine",
    "TorchEngine", "make_engine",
]  # fmt: skip


def make_engine(
    name: EngineName = "auto",
    checkpoint: Path | None = None,
    device: str = "auto",
    threads: int = 0,
) -> Engine:
    """The engine ``name`` for a checkpoint, by default the bundled one.

    ``auto`` is torch on CUDA if there is a GPU, else ONNX Runtime on the CPU if the checkpoint has
    its .onnx beside it, else torch on the CPU.

    Raises :class:`~kfusion.errors.MissingExtra` without the engine's package and
    :class:`~kfusion.errors.CheckpointError` for a file that is not a usable model.
    """
    if name == "synthetic":
        return SyntheticEngine()
    checkpoint = checkpoint or WEIGHTS
    exported = checkpoint.with_suffix(".onnx")
    if name == "onnx":
        return OnnxEngine(exported, threads)
    on_cuda = device.startswith("cuda") or (device == "auto" and _has_cuda())
    if name == "auto" and not on_cuda and exported.is_file():
        try:
            return OnnxEngine(exported, threads)
        except MissingExtra:
            pass  # torch may be installed
    if device == "auto":
        device = "cuda" if on_cuda else "cpu"
    return TorchEngine(checkpoint, device, threads)


def _has_cuda() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()
