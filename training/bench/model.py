"""Measures networks: speed in each engine and batch size, work, and each part's share of time."""

import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import torch
from torch import nn

from kfusion.layers.wav2vec2 import Wav2Vec2
from kfusion.runtime import TorchEngine
from training.bench.engine import (
    ENGINES,
    open_engine,
    peak_memory,
    preload_transformers,
    windows,
)
from training.bench.flops import Flops, count_flops
from training.bench.timing import YARDSTICK, BenchmarkError, interleaved, synchronised, yardstick

PARTS: Final = ("front", "global", "content", "kfusion", "other")


@dataclass(frozen=True)
class Network:
    """``shares`` of a step's time by part, in torch at the smallest batch; None without torch."""

    preset: str
    parameters: int
    checkpoint_bytes: int
    window_flops: int
    flops: Flops
    shares: dict[str, float] | None


@dataclass(frozen=True)
class Measurement:
    """A preset in an engine at a batch size. Times are medians of ``repetitions``."""

    preset: str
    engine: str
    batch: int
    repetitions: int
    step_ms: float
    windows_per_s: float
    gflops_per_s: float
    yardstick_gflops_per_s: float
    of_yardstick_percent: float
    peak_mib: float | None


@dataclass(frozen=True)
class EncoderTime:
    """wav2vec2 by itself beside the whole network, a window at a time, in eager torch."""

    preset: str
    wav2vec2_ms: float
    whole_ms: float
    ratio: float


@dataclass(frozen=True)
class Report:
    machine: dict[str, str]
    yardstick: str
    networks: list[Network]
    cells: list[Measurement]
    alone: list[EncoderTime]
    notes: list[str]


def shares_of_time(engine: TorchEngine, batch: int) -> dict[str, float]:
    """Of a step, by forward hooks around its parts; ``other`` is what lies between them."""
    model = engine.model
    parts: dict[str, tuple[nn.Module | None, ...]] = {
        "front": (model.mel, model.wav2vec2),
        "global": (model.global_domain,),
        "content": (model.content_domain,),
        "kfusion": (model.fusion, model.head),
    }
    spent = dict.fromkeys(parts, 0.0)
    begun: dict[nn.Module, float] = {}
    synchronise = synchronised(engine.device.type, lambda: None)

    def before(module: nn.Module, _: Any) -> None:
        synchronise()
        begun[module] = perf_counter()

    def after(part: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, _: Any, __: Any) -> None:
            synchronise()
            spent[part] += perf_counter() - begun[module]

        return hook

    hooks: list[Any] = []
    for part, modules in parts.items():
        for module in filter(None, modules):
            hooks += [
                module.register_forward_pre_hook(before),
                module.register_forward_hook(after(part)),
            ]
    rows = windows(batch)
    taken: list[dict[str, float]] = []
    for _ in range(10):
        spent.update(dict.fromkeys(parts, 0.0))
        start = perf_counter()
        engine.step(*rows)
        whole = perf_counter() - start
        taken.append({part: s / whole for part, s in spent.items()})
    for hook in hooks:
        hook.remove()
    shares = {part: median(t[part] for t in taken[1:]) for part in parts}  # the first warms up
    return shares | {"other": max(0.0, 1 - sum(shares.values()))}


def measure_encoder(
    preset: str, engine: TorchEngine, encoder: Wav2Vec2, seconds: float
) -> EncoderTime:
    audio, identity, emotion = windows(1)

    def alone() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(engine.device.type, torch.bfloat16, enabled=engine.bfloat16),
        ):
            encoder(torch.from_numpy(audio).to(engine.device)).float().cpu()

    whole, part = interleaved([lambda: engine.step(audio, identity, emotion), alone], seconds)
    return EncoderTime(preset, median(part), median(whole), median(whole) / median(part))


def measure(
    networks: dict[str, Path],
    engines: Sequence[str] = ENGINES,
    batches: Sequence[int] = (1, 4, 16, 64),
    threads: int = 2,
    seconds: float = 3.0,
    device: str = "cpu",
) -> Report:
    """Everything about the checkpoints that ``networks`` names; ``seconds`` are a cell's.

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
    matrix = f"({YARDSTICK}x{YARDSTICK})"
    reference = f"{matrix} @ {matrix} float32, torch on {device}"
    report = Report(describe(threads, device), reference, [], [], [], [])
    product = yardstick(device)
    for preset, checkpoint in networks.items():
        eager = TorchEngine(checkpoint, device, threads, compiled=False)
        model = eager.model
        flops = count_flops(model)
        shares = shares_of_time(eager, min(batches)) if "torch" in engines else None
        parameters = sum(p.numel() for p in model.parameters())
        size = checkpoint.stat().st_size
        report.networks.append(Network(preset, parameters, size, flops.total, flops, shares))
        if model.wav2vec2 is not None and "torch" in engines:
            report.alone.append(measure_encoder(preset, eager, model.wav2vec2, seconds))
        for name in engines:
            exported = checkpoint.with_suffix(".onnx")
            if name == "onnx" and not exported.is_file():
                report.notes.append(f"{preset} in onnx: left out, there is no {exported.name}")
                continue
            engine = open_engine(name, checkpoint, threads, device)
            for batch in batches:
                step = partial(engine.step, *windows(batch))
                times, reference_times = interleaved([step, product], seconds)
                rate = 1e3 * batch / median(times)
                best = 2 * YARDSTICK**3 / median(reference_times) / 1e6
                reached = rate * flops.total / 1e9
                peak = peak_memory(checkpoint, name, batch, threads, device)
                report.cells.append(Measurement(
                    preset, name, batch, len(times), median(times), rate, reached, best,
                    100 * reached / best, peak,
                ))  # fmt: skip
    return report


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
