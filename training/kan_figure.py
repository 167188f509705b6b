"""Draws what the KAN of a checkpoint has learned: the functions of one variable on its edges::

    python -m training.kan_figure --out kan.png [--layer outer] [--audio speech.wav]

The most active edges first. An edge's activity is the mean of |phi| over the values that come in:
over real ones with --audio, else over the edge's own grid.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kfusion.checkpoint import load_model
from kfusion.errors import CheckpointError, KFusionError
from kfusion.kan import KAN, KANLayer
from kfusion.landmarks import BROWS, EYES, JAW, MOUTH, NOSE
from kfusion.runtime import WEIGHTS, Animator, TorchEngine

Layer = Literal["inner", "outer"]
POINTS = 200
"""Abscissae of a curve."""
CHUNK = 512
"""Values at a time: all edges of all of them lie in memory."""
REGIONS = {"jaw": JAW, "brows": BROWS, "nose": NOSE, "eyes": EYES, "mouth": MOUTH}


@dataclass(frozen=True)
class Edge:
    """``x`` (POINTS,) over the input's grid -> ``base`` + ``spline``, the learned phi.

    ``usual`` holds the 5 % and 95 % quantiles of the real input, where there is any.
    """

    inputs: int
    outputs: int
    activity: float
    x: Tensor
    base: Tensor
    spline: Tensor
    usual: tuple[float, float] | None


def grid_of(layer: KANLayer) -> Tensor:
    """Evenly over each input's own grid: (POINTS, inputs)."""
    along = torch.linspace(0, layer.splines - 3, POINTS, device=layer.low.device)
    return layer.low + along[:, None] * layer.step


def activity(layer: KANLayer, x: Tensor) -> Tensor:
    """Mean |phi_oi| over the values x (N, inputs): (outputs, inputs)."""
    total = sum(layer.edges(part).abs().sum(0) for part in x.split(CHUNK))
    return torch.as_tensor(total) / len(x)


@torch.no_grad()
def strongest(layer: KANLayer, count: int, heard: Tensor | None = None) -> list[Edge]:
    """The ``count`` most active edges, the most active first.

    ``heard`` (N, inputs) are the values that came in; without them the grid stands for them.
    """
    x = grid_of(layer)
    active = activity(layer, x if heard is None else heard)
    order = active.flatten().argsort(descending=True, stable=True)[:count].tolist()
    whole = layer.edges(x)  # (POINTS, outputs, inputs)
    found: list[Edge] = []
    for place in order:
        o, i = divmod(place, active.shape[1])
        base = layer.base[o, i] * F.silu(x[:, i])
        usual = None
        if heard is not None:
            low, high = torch.quantile(heard[:, i], torch.tensor([0.05, 0.95])).tolist()
            usual = (low, high)
        size = float(active[o, i])
        found.append(Edge(i, o, size, x[:, i], base, whole[:, o, i] - base, usual))
    return found


def head_of(model: Any, source: Path) -> KAN:
    if not isinstance(model.head, KAN):
        raise CheckpointError(f"{source}: its head is {model.config.head!r}; wanted a kan")
    return model.head


def heard_by(checkpoint: Path, layer: Layer, audio: Path) -> Tensor:
    """What comes into a layer while the model speaks a sound file: (N, inputs)."""
    engine = TorchEngine(checkpoint)
    seen: list[Tensor] = []

    def keep(_: Any, given: tuple[Tensor]) -> None:
        seen.append(given[0].flatten(0, -2).clone())

    of = head_of(engine.model, checkpoint)
    (of.inner if layer == "inner" else of.outer).register_forward_pre_hook(keep)
    Animator(engine).animate(audio, hop=30, lookahead=0)
    return torch.cat(seen)


def coordinate(feature: int) -> str:
    """A feature's name: its axis, its landmark and where that lies."""
    point, axis = divmod(feature, 2)
    region = next(name for name, part in REGIONS.items() if part.start <= point < part.stop)
    return f"{'xy'[axis]}{point} {region}"


def label(edge: Edge, layer: Layer) -> str:
    """From what to what: a landmark's coordinate and a hidden unit h of the KAN."""
    if layer == "inner":
        return f"{coordinate(edge.inputs)} → h{edge.outputs}"
    return f"h{edge.inputs} → {coordinate(edge.outputs)}"


def draw(edges: list[Edge], layer: Layer, title: str, path: Path) -> None:
    """A panel an edge, all on one scale of phi; PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(6, len(edges))
    rows = ceil(len(edges) / columns)
    size = (max(6.0, 2.2 * columns), 1.9 * rows + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
    for panel, edge in zip(panels, edges, strict=False):
        if edge.usual is not None:
            panel.axvspan(*edge.usual, color="0.92", lw=0, label="5-95 % of the input")
        panel.axhline(0, color="0.75", lw=0.6)
        panel.plot(edge.x, edge.base + edge.spline, color="black", lw=2.2, label="phi, their sum")
        panel.plot(edge.x, edge.base, color="tab:blue", lw=0.9, label="base")
        panel.plot(edge.x, edge.spline, color="tab:orange", lw=0.9, label="spline")
        panel.set_title(f"{label(edge, layer)}\nmean |phi| {edge.activity:.2g}", fontsize=8.5)
        panel.set_xlim(float(edge.x[0]), float(edge.x[-1]))
        panel.tick_params(labelsize=7)
    for panel in panels[len(edges) :]:
        panel.set_visible(False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.supylabel("phi(x)", fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=140, format="png")


def kan_figure(checkpoint: Path, out: Path, layer: Layer, count: int, audio: Path | None) -> None:
    """Raises :class:`~kfusion.errors.CheckpointError` where there is no KAN to be drawn."""
    kan = head_of(load_model(checkpoint)[0], checkpoint)
    chosen = kan.inner if layer == "inner" else kan.outer
    edges = strongest(chosen, count, heard_by(checkpoint, layer, audio) if audio else None)
    over = audio.name if audio else "the grid"
    title = (
        f"KAN of {checkpoint.name}, {layer} layer: "
        f"the {len(edges)} most active of {chosen.base.numel()} edges over {over}"
    )
    draw(edges, layer, title, out)


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m training.kan_figure", description=__doc__)
    p.add_argument("--checkpoint", type=Path, default=WEIGHTS)
    p.add_argument("--out", type=Path, required=True, metavar="kan.png")
    p.add_argument("--layer", choices=("inner", "outer"), default="inner")
    p.add_argument("--edges", type=int, default=24)
    p.add_argument("--audio", type=Path, help="a sound file whose values weigh the edges")
    a = p.parse_args(arguments)
    try:
        if not 1 <= a.edges <= 120:
            p.error(f"--edges is {a.edges}; wanted 1 to 120")
        kan_figure(a.checkpoint, a.out, a.layer, a.edges, a.audio)
    except KFusionError as error:
        print(f"kan_figure: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
