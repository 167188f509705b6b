"""Accuracy against latency: one model at several hops and look-aheads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from kfusion.config import SAMPLE_RATE
from kfusion.runtime import Animator
from kfusion.stream import latency_ms
from training.corpus.clips import Clip
from training.scores.figures import TITLES, Estimate, bootstrap_estimates
from training.scores.scoring import Model, score_predictors
from training.scores.tables import markdown_table

SETTINGS: Final = (
    (3, 0),
    (3, 2),
    (3, 3),
    (3, 6),
    (6, 0),
    (6, 3),
    (6, 6),
    (15, 0),
    (15, 6),
    (30, 0),
)
"""Hop and look-ahead in frames; hop 30 with look-ahead 0 is the paper's own mode."""
COLUMNS: Final = ("m_ld", "m_lvd", "f_ld", "f_lvd", "shape", "correlation", "gain")
SHOWN: Final = ("m_ld", "m_lvd", "shape", "correlation", "gain")
"""Columns of the Markdown table."""


def latency_sweep(
    animators: Mapping[str, Animator], clips: Callable[[], Iterable[Clip]]
) -> list[dict[str, Any]]:
    """A line a model and setting: aligned metrics with their intervals."""
    lines: list[dict[str, Any]] = []
    for hop, lookahead in tqdm(SETTINGS, desc="latency", disable=None):
        rows = {name: Model(x, hop, lookahead) for name, x in animators.items()}
        for name, result in score_predictors(clips(), rows).items():
            found = bootstrap_estimates(result.clips)
            line: dict[str, Any] = {"row": name, "hop": hop, "lookahead": lookahead}
            line["latency_ms"] = latency_ms(SAMPLE_RATE, hop, lookahead)
            for k in COLUMNS:
                line |= {k: found[k].value, f"{k}_low": found[k].low, f"{k}_high": found[k].high}
            lines.append(line)
    return lines


def latency_table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, the lowest latency first."""
    head = ["row", "hop", "look-ahead", "latency, ms", *(TITLES[k] for k in SHOWN)]
    out: list[list[str]] = []
    for line in sorted(lines, key=lambda x: (x["row"], x["latency_ms"], x["hop"])):
        cells = [Estimate(line[k], line[f"{k}_low"], line[f"{k}_high"]).text() for k in SHOWN]
        whole = [str(line["hop"]), str(line["lookahead"]), f"{line['latency_ms']:.0f}"]
        out.append([line["row"], *whole, *cells])
    return markdown_table(head, out)


def draw_latency(lines: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Two panels over latency: aligned M-LD and lip correlation; a line a model and hop; PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, squeeze=False)[0]
    rows = list(dict.fromkeys(line["row"] for line in lines))
    hops = sorted({line["hop"] for line in lines})
    for panel, key, label in (
        (panels[0], "m_ld", "M-LD, aligned, px (lower is better)"),
        (panels[1], "correlation", "lip correlation (higher is better)"),
    ):
        for r, row in enumerate(rows):
            for h, hop in enumerate(hops):
                series = [x for x in lines if (x["row"], x["hop"]) == (row, hop)]
                series.sort(key=lambda x: x["latency_ms"])
                name = f"{row}, hop {hop}" if len(rows) > 1 else f"hop {hop}"
                style = {"marker": "osD^v"[h % 5], "ls": ("-", "--", ":", "-.")[r % 4]}
                at, values = [x["latency_ms"] for x in series], [x[key] for x in series]
                panel.plot(at, values, color=f"C{h}", label=name, ms=5, lw=1.4, **style)
                for x in series:
                    panel.annotate(
                        f"{x['lookahead']}", (x["latency_ms"], x[key]), fontsize=7.5,
                        xytext=(4, 4), textcoords="offset points", color=f"C{h}",
                    )  # fmt: skip
        panel.set_xlim(left=0)
        panel.set_xlabel("buffering from a sample to a frame that needs it, ms")
        panel.set_ylabel(label)
        panel.grid(alpha=0.25)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.suptitle(f"{title}; beside each point its look-ahead in frames", fontsize=11)
    figure.savefig(path, dpi=140, format="png")
