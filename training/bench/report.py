"""A benchmark's report as Markdown."""

from dataclasses import asdict

from training.bench.model import PARTS, Report
from training.scores.tables import markdown_table


def markdown(report: Report) -> str:
    work = {n.preset: n.window_flops for n in report.networks}
    cells = [
        [
            f"{c.preset}, {c.engine}",
            str(c.batch),
            f"{c.step_ms:.2f}",
            f"{c.windows_per_s:.1f}",
            f"{work[c.preset] / 1e9:.3f}",
            f"{c.gflops_per_s:.1f}",
            f"{c.yardstick_gflops_per_s:.1f}",
            f"{c.of_yardstick_percent:.0f} %",
            "" if c.peak_mib is None else f"{c.peak_mib:.0f}",
        ]
        for c in report.cells
    ]
    networks = [
        [
            n.preset,
            f"{n.parameters / 1e6:.2f} M",
            f"{n.checkpoint_bytes / 1e6:.1f} MB",
            *(f"{x / 1e6:.1f}" for x in asdict(n.flops).values()),
            *(f"{n.shares[p]:.0%}" if n.shares else "" for p in PARTS),
        ]
        for n in report.networks
    ]
    blocks = ["; ".join(f"{k}: {v}" for k, v in report.machine.items()) + "."]
    if cells:
        head = ["", "batch", "ms/step", "windows/s", "GFLOP/window", "GFLOP/s", "yardstick GFLOP/s"]
        blocks.append(markdown_table([*head, "of yardstick", "peak MiB"], cells))
        reached = [c.yardstick_gflops_per_s for c in report.cells]
        quiet = min(reached) > 0.8 * max(reached)
        blocks.append(
            f"Yardstick: {report.yardstick}, in turns with each cell, which reached "
            f"{min(reached):.0f} to {max(reached):.0f} GFLOP/s: "
            + ("the machine was quiet." if quiet else "other work disturbed these times.")
        )
    if networks:
        head = ["", "parameters", "checkpoint", "MFLOP counted", "LSTM", "FFT", "splines"]
        blocks.append(markdown_table([*head, *(f"time: {part}" for part in PARTS)], networks))
    if report.alone:
        rows = [
            [f"{a.preset}, batch 1", f"{a.wav2vec2_ms:.1f}", f"{a.whole_ms:.1f}", f"{a.ratio:.2f}"]
            for a in report.alone
        ]
        blocks.append(markdown_table(["", "wav2vec2 alone ms", "whole network ms", "ratio"], rows))
    return "\n\n".join(blocks + report.notes)
