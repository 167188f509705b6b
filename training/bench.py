"""Measures what runs, on this machine::

    python -m training.bench model [--presets compact paper] [--batches 1 4 16 64] [--json OUT.json]

A time alone says little: beside each cell stands a float32 matrix product, measured in turns with
it so that a busy or throttled machine slows both.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
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
from kfusion.errors import KFusionError, MissingExtra
from kfusion.kan import KANLayer, cubic_basis
from kfusion.mel import N_FFT, STRIDE
from kfusion.model import KFusion
from kfusion.runtime import WEIGHTS, Engine, OnnxEngine, TorchEngine
from kfusion.wav2vec2 import Wav2Vec2
from training.export import inputs

ENGINES: Final = ("onnx", "torch")
YARDSTICK: Final = 1024
"""The yardstick is (N, N) @ (N, N) in float32."""
TURN: Final = 0.15
"""Seconds that calls keep the machine before the next ones get it, and that they run unmeasured
first: ONNX Runtime's threads spin for about 0.1 s after their last work, and slow what follows."""
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
    """``shares`` of a step's time by part, in torch at the smallest batch; None without torch."""

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
    lstm = fft = splines = seen = unwanted = 0

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

    counter = FlopCounterMode(display=False)
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
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model.displacement(*window)
    finally:
        for hook in hooks:
            hook.remove()
    return Flops(counter.get_total_flops() - unwanted, lstm, fft, splines)


def in_turns(calls: Sequence[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Milliseconds of each call, the calls taking turns until ``seconds`` are over.

    Each is warmed up first, and again as a turn begins where calls are shorter than a turn. Three
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
            turn = perf_counter()
            while last[k] < TURN and perf_counter() - turn < TURN:
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


def load_transformers() -> None:
    """Where it is installed. It imports torchaudio, whose extension may be one that cannot load."""
    with suppress(ImportError):
        importlib.import_module("kfusion.torchaudio_python").torchaudio()
    with suppress(ImportError):
        importlib.import_module("transformers.models.wav2vec2.modeling_wav2vec2")


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
        importlib.import_module("onnxruntime")
    else:
        load_transformers()
    before = resident("VmRSS")
    open_engine(a.engine, a.checkpoint, a.threads, a.device).step(*windows(a.batch))
    after = resident("VmHWM")
    if a.engine == "torch" and a.device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = None if before is None or after is None else after - before
    print(json.dumps({"peak_mib": peak}))
    return 0


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
            load_transformers()
            try:
                from transformers import Wav2Vec2Config
            except ImportError:
                raise MissingExtra(
                    f"preset {preset!r} needs transformers; pip install transformers"
                ) from None
            base = json.dumps(Wav2Vec2Config().to_diff_dict())
            found[preset] = folder / f"{preset}.safetensors"
            torch.manual_seed(0)
            save_model(found[preset], KFusion(replace(PRESETS[preset], wav2vec2=base)), {})
    return found


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
    load_transformers()
    report = Report(
        describe(threads, device),
        f"({YARDSTICK}x{YARDSTICK}) @ ({YARDSTICK}x{YARDSTICK}) float32, torch on {device}",
        [],
        [],
        [],
        measure_splines(device, seconds),
        [],
    )
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
            report.alone.append(measure_alone(preset, eager, model.wav2vec2, seconds))
        for name in engines:
            exported = checkpoint.with_suffix(".onnx")
            if name == "onnx" and not exported.is_file():
                report.notes.append(f"{preset} in onnx: left out, there is no {exported.name}")
                continue
            engine = open_engine(name, checkpoint, threads, device)
            for batch in batches:
                rows = windows(batch)
                step, beside = in_turns([lambda e=engine, r=rows: e.step(*r), product], seconds)
                rate = 1e3 * batch / median(step)
                best = 2 * YARDSTICK**3 / median(beside) / 1e6
                reached = rate * flops.total / 1e9
                peak = peak_memory(checkpoint, name, batch, threads, device)
                report.cells.append(
                    Cell(
                        preset,
                        name,
                        batch,
                        len(step),
                        median(step),
                        rate,
                        reached,
                        best,
                        100 * reached / best,
                        peak,
                    )
                )
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
    if hasattr(os, "getloadavg"):
        machine["load before"] = f"{os.getloadavg()[0]:.2f}"
    return machine


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(report: Report) -> str:
    """The report as Markdown."""
    of = {n.preset: n for n in report.networks}
    cells = [
        [
            f"{c.preset}, {c.engine}",
            str(c.batch),
            f"{c.step_ms:.2f}",
            f"{c.windows_per_s:.1f}",
            f"{of[c.preset].window_flops / 1e9:.3f}",
            f"{c.gflops_per_s:.1f}",
            f"{c.yardstick_gflops_per_s:.1f}",
            f"{c.of_yardstick_percent:.0f} %",
            "" if c.peak_mib is None else f"{c.peak_mib:.0f}",
        ]
        for c in report.cells
    ]
    parts = ("front", "global", "content", "kfusion", "other")
    networks = [
        [
            n.preset,
            f"{n.parameters / 1e6:.2f} M",
            f"{n.checkpoint_bytes / 1e6:.1f} MB",
            *(f"{x / 1e6:.1f}" for x in asdict(n.flops).values()),
            *(f"{n.shares[p]:.0%}" if n.shares else "" for p in parts),
        ]
        for n in report.networks
    ]
    s = report.splines
    splines = [
        ["forward", f"{s.closed_ms:.2f}", f"{s.recursion_ms:.2f}", f"{s.ratio:.1f}"],
        [
            "forward and backward",
            f"{s.closed_backward_ms:.2f}",
            f"{s.recursion_backward_ms:.2f}",
            f"{s.backward_ratio:.1f}",
        ],
    ]
    blocks = ["; ".join(f"{k}: {v}" for k, v in report.machine.items()) + "."]
    if cells:
        head = ["", "batch", "ms/step", "windows/s", "GFLOP/window", "GFLOP/s", "yardstick GFLOP/s"]
        blocks.append(markdown([*head, "of yardstick", "peak MiB"], cells))
        reached = [c.yardstick_gflops_per_s for c in report.cells]
        quiet = min(reached) > 0.8 * max(reached)
        blocks.append(
            f"Yardstick: {report.yardstick}, in turns with each cell, which reached "
            f"{min(reached):.0f} to {max(reached):.0f} GFLOP/s: "
            + ("the machine was quiet." if quiet else "other work disturbed these times.")
        )
    if networks:
        head = ["", "parameters", "checkpoint", "MFLOP counted", "LSTM", "FFT", "splines"]
        blocks.append(markdown([*head, *(f"time: {part}" for part in parts)], networks))
    if report.alone:
        rows = [
            [f"{a.preset}, batch 1", f"{a.wav2vec2_ms:.1f}", f"{a.whole_ms:.1f}", f"{a.ratio:.2f}"]
            for a in report.alone
        ]
        blocks.append(markdown(["", "wav2vec2 alone ms", "whole network ms", "ratio"], rows))
    head = [f"splines of {s.shape}, grid {s.grid}", "closed form ms", "Cox-de Boor ms", "ratio"]
    blocks.append(markdown(head, splines))
    blocks.append(f"They differ by {s.largest_difference:.1e} at most.")
    return "\n\n".join(blocks + report.notes)


def chart(report: Report, path: Path) -> None:
    """Windows per second over the batch size, and where a step's time goes; PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    speed, time = figure.subplots(1, 2)
    for series in dict.fromkeys((c.preset, c.engine) for c in report.cells):
        cells = [c for c in report.cells if (c.preset, c.engine) == series]
        speed.plot([c.batch for c in cells], [c.windows_per_s for c in cells], "o-")
        last = cells[-1]
        speed.annotate(
            ", ".join(series),
            (last.batch, last.windows_per_s),
            xytext=(-4, 6),
            textcoords="offset points",
            ha="right",
        )
    batches = sorted({c.batch for c in report.cells})
    speed.set_xscale("log", base=2)
    speed.set_yscale("log")
    speed.set_xticks(batches, [str(b) for b in batches])
    speed.margins(0.08, 0.15)
    speed.set_xlabel("batch (windows)")
    speed.set_ylabel("windows per second")
    speed.grid(alpha=0.3)
    shared = [(n.preset, n.shares) for n in report.networks if n.shares]
    left = [0.0] * len(shared)
    for part in shared[0][1] if shared else ():
        widths = [100 * shares[part] for _, shares in shared]
        bars = time.barh([preset for preset, _ in shared], widths, 0.5, left=left, label=part)
        time.bar_label(bars, [f"{w:.0f}" if w >= 4 else "" for w in widths], label_type="center")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    time.set_xlabel("share of a step's time in torch (%)")
    if shared:
        time.set_xlim(0, 100)
        time.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    figure.savefig(path, dpi=130, format="png")


def model(a: argparse.Namespace) -> int:
    device = a.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        files = checkpoints(a.presets, Path(folder))
        report = measure(files, a.engines, a.batches, a.threads, a.seconds, device)
    print(table(report))
    if a.json:
        a.json.write_text(json.dumps(asdict(report), indent=1) + "\n")
    if a.chart:
        chart(report, a.chart)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m training.bench", description=__doc__)
    what = p.add_subparsers(required=True, metavar="WHAT")
    m = what.add_parser("model", help="speed, work and memory of a step")
    m.set_defaults(run=model)
    m.add_argument("--presets", nargs="+", default=list(PRESETS), help="of " + ", ".join(PRESETS))
    m.add_argument("--engines", nargs="+", default=list(ENGINES), help="of " + ", ".join(ENGINES))
    m.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    m.add_argument("--threads", type=int, default=2)
    m.add_argument("--seconds", type=float, default=3.0, help="of measuring, a cell")
    m.add_argument("--device", default="auto", help="of torch: auto, cpu or cuda")
    m.add_argument("--json", type=Path, metavar="OUT.json")
    m.add_argument("--chart", type=Path, metavar="OUT.png")
    r = what.add_parser("memory", help="of one cell alone, as `model` measures it")
    r.set_defaults(run=memory)
    r.add_argument("--checkpoint", type=Path, default=WEIGHTS)
    r.add_argument("--engine", choices=ENGINES, default="torch")
    r.add_argument("--batch", type=int, default=1)
    r.add_argument("--threads", type=int, default=2)
    r.add_argument("--device", default="cpu")
    a = p.parse_args(arguments)
    try:
        return a.run(a)
    except KFusionError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
