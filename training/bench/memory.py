"""The memory of one model at one batch size, in a process that does nothing else."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import torch

from training.bench.engine import open_engine, preload_transformers, windows
from training.bench.timing import BenchmarkError


def peak_memory(
    checkpoint: Path, engine: str, batch: int, threads: int, device: str
) -> float | None:
    """MiB that loading a model and running a batch takes, in a process of its own.

    On the CPU: how far its peak resident memory rises above that with the libraries loaded
    (Linux only, else None); on CUDA: the most that was allocated there.
    """
    arguments = ["--checkpoint", str(checkpoint), "--engine", engine, "--batch", str(batch)]
    arguments += ["--threads", str(threads), "--device", device]
    done = subprocess.run(
        [sys.executable, "-m", "training.bench", "memory", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    if done.returncode:
        raise BenchmarkError(f"memory of {engine} at batch {batch}: exit {done.returncode}")
    return json.loads(done.stdout)["peak_mib"]


def resident(field: str) -> float | None:
    """VmRSS or VmHWM of this process in MiB. (getrusage's peak begins with the parent's.)"""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == field + ":")


def own_peak(checkpoint: Path, engine: str, batch: int, threads: int, device: str) -> float | None:
    """What :func:`peak_memory` starts: the same, of this process."""
    if engine == "onnx":
        importlib.import_module("onnxruntime")
    else:
        preload_transformers()
    before = resident("VmRSS")
    open_engine(engine, checkpoint, threads, device).step(*windows(batch))
    after = resident("VmHWM")
    if engine == "torch" and device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return None if before is None or after is None else after - before
