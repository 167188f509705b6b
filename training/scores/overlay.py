"""A figure of predicted over true landmarks, like the paper's Fig. 4: a row a method and clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FPS
from kfusion.landmarks import MOUTH, align, lip_gap
from training.corpus.clips import Clip
from training.corpus.format import Corpus, Entry, Subset, select_entries
from training.scores.metrics import landmark_distance

PARTS: Final = (
    (range(17), False),  # jaw
    (range(17, 22), False),
    (range(22, 27), False),  # brows
    (range(27, 31), False),
    (range(31, 36), False),  # nose
    (range(36, 42), True),
    (range(42, 48), True),  # eyes
    (range(48, 60), True),
    (range(60, 68), True),  # lips
)
"""Lines through the 68 points; True: closed."""
COLUMNS: Final = 8
TRUTH, PREDICTION = "#1f4fd8", "#d81f2a"


@dataclass(frozen=True)
class OverlayRow:
    """A method's frames of a clip, (T, 68, 2)."""

    method: str
    clip: Clip
    predicted: NDArray[Any]


def pick_clips(corpora: Sequence[Corpus], split: Subset, count: int) -> list[tuple[Corpus, Entry]]:
    """``count`` clips evenly over the speakers and emotions, where there are several."""
    every = select_entries(corpora, split)
    firsts: dict[tuple[str, str | None], tuple[Corpus, Entry]] = {}
    for corpus, entry in every:
        firsts.setdefault((entry.speaker, entry.emotion), (corpus, entry))
    candidates = list(firsts.values()) if len(firsts) >= count else every
    places = np.linspace(0, len(candidates) - 1, min(count, len(candidates)))
    return [candidates[round(float(p))] for p in places]


def overlay_frames(clip: Clip, count: int = COLUMNS) -> list[int]:
    """Frames evenly over the time in which the mouth moves, else over the whole clip."""
    gap = lip_gap(align(clip.points, clip.identity))
    moving = np.flatnonzero(gap - gap.min() > 0.2 * np.ptp(gap)) if np.ptp(gap) > 1 else []
    first, last = (int(moving[0]), int(moving[-1])) if len(moving) else (0, len(gap) - 1)
    return [round(float(n)) for n in np.linspace(first, last, count)]


def face_lines(points: NDArray[Any]) -> list[NDArray[Any]]:
    """The face's lines (K, 2) of (68, 2) points."""
    return [points[[*part, part[0]] if closed else list(part)] for part, closed in PARTS]


def draw_overlay(rows: Sequence[OverlayRow], path: Path) -> None:
    """Blue truth under red prediction, both aligned to the clip's identity; PNG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(1.55 * COLUMNS + 1.2, 1.95 * len(rows) + 0.7), layout="constrained")
    panels = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for row, axes in zip(rows, panels, strict=True):
        count = min(len(row.predicted), len(row.clip.points))
        truth = align(row.clip.points[:count], row.clip.identity)
        predicted = align(row.predicted[:count], row.clip.identity)
        low, high = truth.min(axis=(0, 1)) - 8, truth.max(axis=(0, 1)) + 8
        frames = [min(n, count - 1) for n in overlay_frames(row.clip)]
        for panel, n in zip(axes, frames, strict=True):
            _draw_pair(panel, truth[n], predicted[n])
            panel.set_xlim(low[0], high[0])
            panel.set_ylim(high[1], low[1])
            off = landmark_distance(predicted[n, MOUTH], truth[n, MOUTH])
            panel.set_xlabel(f"{n / FPS:.2f} s, M-LD {off:.1f}", fontsize=7.5, labelpad=2)
        emotion = f"\n{row.clip.emotion}" if row.clip.emotion else ""
        label = f"{row.method}\n{row.clip.name}{emotion}"
        axes[0].set_ylabel(label, fontsize=8.5, rotation=0, ha="right", va="center")
    handles = [Line2D([], [], color=TRUTH, label="truth"),
               Line2D([], [], color=PREDICTION, label="prediction")]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150, format="png")


def _draw_pair(panel: Any, truth: NDArray[Any], predicted: NDArray[Any]) -> None:
    for face, colour in ((truth, TRUTH), (predicted, PREDICTION)):
        for line in face_lines(face):
            panel.plot(line[:, 0], line[:, 1], color=colour, lw=0.9)
        panel.scatter(face[:, 0], face[:, 1], s=1.6, color=colour, zorder=3, linewidths=0)
    panel.set_aspect("equal")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_color("0.85")
