"""Measures networks: speed in each engine and batch size, arithmetic work, and memory."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from kfusion.layers.wav2vec2 import Wav2Vec2
from kfusion.runtime import TorchEngine
from training.bench.engine import (
    ENGINES,
    open_engine,
    peak_memory,
    preload_transformers,
    windows,
)
from training.bench.flops import count_flops
from training.bench.timing import YARDSTICK, BenchmarkError, interleaved, yardstick
from training.scores.tables import markdown_table


def model_tables(
    networks: dict[str, Path],
    engines: Sequence[str],
    batches: Sequence[int],
    threads: int,
    seconds: float,
    device: str,
) -> str:
    """Markdown of the checkpoints that ``networks`` names; each cell is measured for ``seconds``.

    Raises :class:`BenchmarkError` and :class:`~kfusion.errors.CheckpointError`.
    """
    for engine in engines:
        if engine not in ENGINES:
            raise BenchmarkError(f"engine {engine!r} is unknown; wanted {' or '.join(ENGINES)}")
    if min(*batches, threads, seconds) <= 0:
        raise BenchmarkError("batches, threads and seconds must be above 0")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchmarkError(f"device {device!r} cannot be used: {error}") from None
    torch.set_num_threads(threads)
    preload_transformers()
    blocks = ["; ".join(f"{k}: {v}" for k, v in describe(threads, device).items()) + "."]
    product = yardstick(device)
    rows: list[list[str]] = []
    yardsticks: list[float] = []
    encoders: list[list[str]] = []
    notes: list[str] = []
    for preset, checkpoint in networks.items():
        eager = TorchEngine(checkpoint, device, threads, compiled=False)
        flops = count_flops(eager.model)
        if eager.model.wav2vec2 is not None and "torch" in engines:
            encoders.append([preset, *encoder_cells(eager, eager.model.wav2vec2, seconds)])
        for name in engines:
            exported = checkpoint.with_suffix(".onnx")
            if name == "onnx" and not exported.is_file():
                notes.append(f"{preset} in onnx: left out, there is no {exported.name}")
                continue
            engine = open_engine(name, checkpoint, threads, device)
            for batch in batches:
                step = partial(engine.step, *windows(batch))
                times, reference_times = interleaved([step, product], seconds)
                rate = 1e3 * batch / median(times)
                yardsticks.append(2 * YARDSTICK**3 / median(reference_times) / 1e6)
                reached = rate * flops / 1e9
                share = f"{100 * reached / yardsticks[-1]:.0f} %"
                peak = peak_memory(checkpoint, name, batch, threads, device)
                rows.append([
                    f"{preset}, {name}", f"{batch}", f"{median(times):.2f}", f"{rate:.1f}",
                    f"{flops / 1e9:.3f}", f"{reached:.1f}", f"{yardsticks[-1]:.1f}",
                    share, "" if peak is None else f"{peak:.0f}",
                ])  # fmt: skip
    if rows:
        head = ["", "batch", "ms/step", "windows/s", "GFLOP/window", "GFLOP/s", "yardstick GFLOP/s"]
        blocks.append(markdown_table([*head, "of yardstick", "peak MiB"], rows))
        low, high = min(yardsticks), max(yardsticks)
        state = "the machine was quiet" if low > 0.8 * high else "other work disturbed these times"
        blocks.append(
            f"Yardstick: ({YARDSTICK}x{YARDSTICK}) @ ({YARDSTICK}x{YARDSTICK}) float32, torch on "
            f"{device}, in turns with each cell, {low:.0f} to {high:.0f} GFLOP/s: {state}."
        )
    if encoders:
        head = ["batch 1", "wav2vec2 alone ms", "whole network ms", "ratio"]
        blocks.append(markdown_table(head, encoders))
    return "\n\n".join(blocks + notes)


def encoder_cells(engine: TorchEngine, encoder: Wav2Vec2, seconds: float) -> list[str]:
    """Milliseconds of wav2vec2 alone and of the whole network, batch 1, and the ratio."""
    audio, identity, emotion = windows(1)

    def encode() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(engine.device.type, torch.bfloat16, enabled=engine.bfloat16),
        ):
            encoder(torch.from_numpy(audio).to(engine.device)).float().cpu()

    times = interleaved([lambda: engine.step(audio, identity, emotion), encode], seconds)
    whole, alone = (median(t) for t in times)
    return [f"{alone:.2f}", f"{whole:.2f}", f"{whole / alone:.2f}"]


def describe(threads: int, device: str) -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [n for n in cpuinfo.read_text().splitlines() if n.startswith("model name")]
        processor = names[0].split(":", 1)[1].strip() if names else processor
    machine = {
        "processor": f"{processor}, {os.cpu_count()} cores",
        "threads": str(threads),
        "device": device,
        "torch": torch.__version__,
    }
    if device.startswith("cuda"):
        machine["device"] += f" ({torch.cuda.get_device_name(device)}), bfloat16"
    if sys.platform != "win32":
        machine["load before"] = f"{os.getloadavg()[0]:.2f}"
    return machine
