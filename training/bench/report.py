"""A benchmark's report for readers: as Markdown and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from training.bench.model import Report


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
