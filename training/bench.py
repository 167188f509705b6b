"""Measures what runs, on this machine::

    python -m training.bench model [--presets compact paper] [--batches 1 4 16 64] [--json OUT.json]

A time alone says little: beside each cell stands a float32 matrix product, measured in turns with
it so that a busy or throttled machine slows both.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from kfusion.checkpoint import save_model
from kfusion.config import PRESETS, WINDOW
from kfusion.encoder import LogMel
from kfusion.errors import KFusionError
from kfusion.kan import KANLayer, cubic_basis
from kfusion.mel import N_FFT, STRIDE
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS, Engine, OnnxEngine, TorchEngine
from kfusion.wav2vec2 import Wav2Vec2
from training.export import inputs

ENGINES: Final = ("onnx", "torch")
YARDSTICK: Final = 1024
"""The yardstick is (N, N) @ (N, N) in float32."""
TURN: Final = 0.05
"""Seconds that calls keep the machine before the next ones get it."""
SPLINE_FLOPS: Final = 13
"""Of one spline of :func:`kfusion.kan.cubic_basis`: |z| 2, 2 - z and 1 - z clamped 4, two cubes 4,
4 b, a - b and / 6."""
TOLERANCE: Final = 1e-5
"""Between the closed form of the splines and the recursion, of values up to 2/3."""


class BenchmarkError(KFusionError):
    """A benchmark that does not exist or cannot be run here."""


@dataclass(frozen=True)
class Flops:
    """Of one window, a multiply-add being two. Elementwise work and norms are left out.

    ``counted`` is torch's own count: matrix products, convolutions, attention. What it does not
    see is analytic: ``lstm`` 8 H (I + H) a step, ``fft`` 2.5 N log2 N a real transform (half of
    the usual 5 N log2 N), ``splines`` the bases of the KAN.
    """

    counted: int
    lstm: int
    fft: int
    splines: int

    @property
    def total(self) -> int:
        return self.counted + self.lstm + self.fft + self.splines


@dataclass(frozen=True)
class Network:
    """``shares`` of a step's time by part, in torch at the largest batch; None without torch."""

    preset: str
    parameters: int
    checkpoint_bytes: int
    window_flops: int
    flops: Flops
    shares: dict[str, float] | None


@dataclass(frozen=True)
class Cell:
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
class Alone:
    """wav2vec2 by itself beside the whole network, a window at a time, in eager torch."""

    preset: str
    wav2vec2_ms: float
    whole_ms: float
    ratio: float


@dataclass(frozen=True)
class Splines:
    """The cubic B-splines of a batch's frames: closed form against the textbook recursion."""

    shape: tuple[int, int]
    grid: int
    largest_difference: float
    closed_ms: float
    recursion_ms: float
    ratio: float
    closed_backward_ms: float
    recursion_backward_ms: float
    backward_ratio: float


@dataclass(frozen=True)
class Report:
    machine: dict[str, str]
    yardstick: str
    networks: list[Network]
    cells: list[Cell]
    alone: list[Alone]
    splines: Splines
    notes: list[str]


def cox_de_boor(x: Tensor, low: Tensor, step: Tensor, count: int, degree: int = 3) -> Tensor:
    """B-splines by the recursion on their degree, (..., I) -> (..., I, count).

    B_k,0 is 1 from knot k to the next; B_k,p = (x - t_k) / (t_k+p - t_k) B_k,p-1
    + (t_k+p+1 - x) / (t_k+p+1 - t_k+1) B_k+1,p-1 (de Boor, A Practical Guide to Splines, IX),
    each degree for all splines at once, as KAN codes commonly have it. The same splines as
    :func:`kfusion.kan.cubic_basis`.
    """
    at = torch.arange(-degree, count + 1, device=x.device, dtype=x.dtype)
    t = low[:, None] + step[:, None] * at  # (I, count + degree + 1)
    x = x.unsqueeze(-1)
    bases = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
    for p in range(1, degree + 1):
        rise = (x - t[:, : -p - 1]) / (t[:, p:-1] - t[:, : -p - 1])
        fall = (t[:, p + 1 :] - x) / (t[:, p + 1 :] - t[:, 1:-p])
        bases = rise * bases[..., :-1] + fall * bases[..., 1:]
    return bases


def count_flops(model: KFusion) -> Flops:
    """Of one window, by running it once where the network lies."""
    lstm = fft = splines = seen = 0

    def before(*_: Any) -> None:
        nonlocal seen
        seen = counter.get_total_flops()

    def after_lstm(module: nn.LSTM, given: tuple[Tensor], _: Any) -> None:
        nonlocal lstm, unwanted
        unwanted += counter.get_total_flops() - seen  # some backends are seen, some are not
        rows, steps, _width = given[0].shape
        lstm += rows * steps * 8 * module.hidden_size * (module.input_size + module.hidden_size)

    def after_mel(_: LogMel, given: tuple[Tensor], __: Any) -> None:
        nonlocal fft
        fft += int(given[0].shape[1] // STRIDE * 2.5 * N_FFT * math.log2(N_FFT))

    def after_kan(layer: KANLayer, given: tuple[Tensor], _: Any) -> None:
        nonlocal splines
        splines += given[0].numel() * (2 + layer.splines * SPLINE_FLOPS)

    unwanted = 0
    hooks: list[Any] = []
    for module in model.modules():
        if isinstance(module, nn.LSTM):
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(after_lstm))
        elif isinstance(module, LogMel):
            hooks.append(module.register_forward_hook(after_mel))
        elif isinstance(module, KANLayer):
            hooks.append(module.register_forward_hook(after_kan))
    device = next(model.parameters()).device
    window = (torch.zeros(1, *s, device=device) for s in ((WINDOW,), (68, 2), (8,)))
    # The fused attention of the CPU is not counted; its plain form is, and is the same work.
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            with FlopCounterMode(display=False) as counter:
                model.displacement(*window)
    finally:
        for hook in hooks:
            hook.remove()
    return Flops(counter.get_total_flops() - unwanted, lstm, fft, splines)


def in_turns(calls: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Milliseconds of each call, the calls taking turns until ``seconds`` are over.

    Each is warmed up first. A turn begins with an unmeasured call, where calls are short: thread
    pools keep spinning for a while after their last work and would slow the next library's. Three
    measurements at least.
    """
    times: list[list[float]] = [[] for _ in calls]
    last = [0.0] * len(calls)
    for k, call in enumerate(calls):
        for _ in range(2):
            start = perf_counter()
            call()
            last[k] = perf_counter() - start
            if last[k] > 1:
                break
    end = perf_counter() + seconds
    while len(times[0]) < 3 or perf_counter() < end:
        for k, call in enumerate(calls):
            if last[k] < TURN:
                call()
            turn = perf_counter()
            while True:
                start = perf_counter()
                call()
                stop = perf_counter()
                last[k] = stop - start
                times[k].append(1e3 * last[k])
                if stop - turn > TURN:
                    break
    return times


def synchronised(device: str, call: Callable[[], object]) -> Callable[[], None]:
    """The call, over only when its work on the device is."""

    def run() -> None:
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return run


def yardstick(device: str) -> Callable[[], None]:
    a, b = torch.randn(2, YARDSTICK, YARDSTICK, device=device)
    out = torch.empty_like(a)
    return synchronised(device, lambda: torch.mm(a, b, out=out))


def windows(rows: int) -> tuple[Any, Any, Any]:
    """(audio, identity, emotion) as an engine takes them, float32."""
    audio, identity, emotion = (part.astype(np.float32) for part in inputs(rows, rows))
    return audio, identity, emotion


def open_engine(name: str, checkpoint: Path, threads: int, device: str) -> Engine:
    if name == "onnx":
        return OnnxEngine(checkpoint.with_suffix(".onnx"), threads)
    return TorchEngine(checkpoint, device, threads)


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
    for _ in range(4):
        spent.update(dict.fromkeys(parts, 0.0))
        start = perf_counter()
        engine.step(*rows)
        whole = perf_counter() - start
        taken.append({part: s / whole for part, s in spent.items()})
    for hook in hooks:
        hook.remove()
    shares = {part: median(t[part] for t in taken[1:]) for part in parts}  # the first warms up
    return shares | {"other": max(0.0, 1 - sum(shares.values()))}


def measure_alone(preset: str, engine: TorchEngine, encoder: Wav2Vec2, seconds: float) -> Alone:
    audio, identity, emotion = windows(1)

    def alone() -> None:
        with (
            torch.inference_mode(),
            torch.autocast(engine.device.type, torch.bfloat16, enabled=engine.bfloat16),
        ):
            encoder(torch.from_numpy(audio).to(engine.device)).float().cpu()

    whole, part = in_turns([lambda: engine.step(audio, identity, emotion), alone], seconds)
    return Alone(preset, median(part), median(whole), median(whole) / median(part))


def measure_splines(device: str, seconds: float, frames: int = 480, grid: int = 8) -> Splines:
    """On (frames, 136) values around a grid of -3..3; forward, and forward with backward."""
    generator = torch.Generator().manual_seed(0)
    x = (1.5 * torch.randn(frames, 136, generator=generator)).to(device)
    leaf = x.clone().requires_grad_()
    low, step = torch.full((136,), -3.0, device=device), torch.full((136,), 6 / grid, device=device)
    ways = (cubic_basis, cox_de_boor)
    closed, recursion = (way(x, low, step, grid + 3) for way in ways)
    difference = float((closed - recursion).abs().max())
    if not difference <= TOLERANCE:
        raise BenchmarkError(
            f"the closed form and the recursion differ by {difference:.2g}; wanted {TOLERANCE:.0e}"
        )
    weight = torch.randn(closed.shape, generator=generator).to(device)

    def forward(way: Callable[..., Tensor]) -> Callable[[], None]:
        return synchronised(device, lambda: way(x, low, step, grid + 3))

    def backward(way: Callable[..., Tensor]) -> Callable[[], None]:
        return synchronised(
            device,
            lambda: torch.autograd.grad(way(leaf, low, step, grid + 3), leaf, weight),
        )

    calls = [forward(way) for way in ways] + [backward(way) for way in ways]
    c, r, cb, rb = (median(t) for t in in_turns(calls, seconds))
    return Splines((frames, 136), grid, difference, c, r, r / c, cb, rb, rb / cb)


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
        cwd=Path(__file__).resolve().parents[1],
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


def memory(a: argparse.Namespace) -> int:
    """What :func:`peak_memory` starts."""
    if a.engine == "onnx":
        import onnxruntime  # pyright: ignore[reportUnusedImport] # noqa: F401
    else:
        import transformers.models.wav2vec2.modeling_wav2vec2  # pyright: ignore[reportUnusedImport] # noqa: F401
    before = resident("VmRSS")
    open_engine(a.engine, a.checkpoint, a.threads, a.device).step(*windows(a.batch))
    after = resident("VmHWM")
    if a.engine == "torch" and a.device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = None if before is None or after is None else after - before
    print(json.dumps({"peak_mib": peak}))
    return 0
