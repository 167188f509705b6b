"""Figures -> PNG. The only module that needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from client.loadtest.report import Array, FrameLatencies, Report
from kfusion.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS: Final = 20_000  # drawn over time; the histogram has all frames


def check() -> None:
    """Raises :class:`~kfusion.errors.MissingExtra` where no chart can be drawn."""
    try:
        import matplotlib  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise MissingExtra(
            "matplotlib is not installed; --plot needs pip install matplotlib"
        ) from None


def _figure(columns: int) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * columns, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def draw_run(r: Report, frames: FrameLatencies, bound_ms: float | None, path: Path) -> None:
    """A histogram of the latencies, and the latencies over time."""
    figure, (shares, times) = _figure(2)
    total, beyond = 1000 * frames.total, 1000 * frames.beyond
    for delays, name in ((total, "total"), (beyond, "beyond the window")):
        _shares(shares, delays, name)
    shares.set_xlabel("latency (ms)")
    shares.set_ylabel("share of frames")
    shares.set_ylim(0, 1)
    shares.set_xlim(left=0)
    if bound_ms is not None:
        shares.axvline(bound_ms, color="0.4", linestyle=":", label=f"{bound_ms:g} ms")
    shares.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    step = -(-len(total) // MAX_POINTS) or 1
    order = np.argsort(frames.at)[::step]
    times.plot(frames.at[order], total[order], ".", markersize=2, alpha=0.4)
    times.plot(frames.at[order], beyond[order], ".", markersize=2, alpha=0.4)
    times.set_xlabel("time of the frame (s)")
    times.set_ylabel("latency (ms)")
    times.set_ylim(bottom=0)
    times.set_title(f"{r.load.streams} streams at {r.load.rate} Hz, starts {r.load.starts}")
    figure.savefig(path, dpi=130, format="png")


def _shares(axes: Any, delays: Array, name: str) -> None:
    """A histogram, and over it the cumulative share of frames."""
    if not len(delays):
        return
    weights = np.full(len(delays), 1 / len(delays))
    _, _, bars = axes.hist(delays, bins=80, weights=weights, alpha=0.5)
    ranks = np.linspace(0, 1, min(len(delays), 1000))
    colour = bars[0].get_facecolor()[:3]
    axes.plot(np.quantile(delays, ranks), ranks, color=colour, label=name)


def draw_search(trials: Sequence[Report], bound_ms: float, most: int, path: Path) -> None:
    """p95 against the number of streams, trial by trial."""
    figure, axes = _figure(1)
    for held, mark in ((True, "o"), (False, "x")):
        shown = [
            (r.load.streams, r.total_ms.p95)
            for r in trials
            if r.total_ms is not None and (not r.failures(bound_ms)) is held
        ]
        if shown:
            label = "held" if held else "did not hold"
            axes.plot(*zip(*sorted(shown), strict=True), mark, label=label)
    axes.axhline(bound_ms, color="0.4", linestyle=":", label=f"{bound_ms:g} ms")
    axes.set_xlabel("streams")
    axes.set_ylabel("p95 of the total latency (ms)")
    if axes.get_ylim()[1] > 10 * bound_ms:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_title(f"{most} streams hold")
    axes.legend(loc="lower right", frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130, format="png")
