"""How near a model is to real speech, beside faces that never move."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpus.clips import Clip, read_track
from training.corpus.splits import split_of_clip
from training.scores.scoring import Row, Scored, evaluate, mean_displacement, predict_offline, still
from training.trial.emotion import FELT
from training.trial.model import HOP, LOOKAHEAD, SETS, Subject
from training.trial.report import Check, Lines, Section

LOOKAHEADS: Final = (0, 2, 3, 6)

Bounds = dict[str, tuple[float, float]]
BOUNDS: Final[dict[str, Bounds]] = {
    "grid_s1": {
        "M-LD ratio": (-inf, 0.55),
        "lip correlation": (0.90, inf),
        "gain": (0.8, 1.2),
        "lag, frames": (-inf, 1),
        "closure recall": (0.8, inf),
    },
    "grid_others": {
        "M-LD ratio": (-inf, 0.55),
        "lip correlation": (0.80, inf),
        "gain": (0.6, inf),
    },
    "mead_speech": {
        "M-LD ratio": (-inf, 0.75),
        "lip correlation": (0.62, inf),
        "gain": (0.6, inf),
    },
    "speakers": {
        "M-LD ratio": (-inf, 0.88),
        "lip correlation": (0.45, inf),
        "least correlation": (0.30, inf),
        "gain": (0.6, inf),
    },
}
"""At look-ahead 3. On grid_s1 M-LVD is also held under every still face's."""


def accuracy(subject: Subject) -> Section:
    section = Section(
        "accuracy",
        "Aligned, in pixels of the 256 crop, means over clips; hop 3, the emotion neutral, bounds "
        "at look-ahead 3. Ratios are to the M-LD of copy-identity, a face that never moves; the "
        "best constant is grid_s1's mean displacement in training. Least correlation is that of "
        "the worst clip; lag is without its sign. MEAD clips are scored once more with their own "
        "emotion given, a third for each level.",
    )
    constant = constant_of(subject)
    rows: list[list[str | float]] = []
    for name in SETS:
        clips = subject.clips(name)
        phones = subject.phones if name == "grid_s1" else None
        copied, held = stills(clips, constant)
        for lookahead in LOOKAHEADS:
            predict = partial(predict_offline, subject.animator, hop=HOP, lookahead=lookahead)
            figures = figures_of(*evaluate(clips, predict, phones), copied, held)
            rows.append([name, len(clips), lookahead, *figures.values()])
            if lookahead == LOOKAHEAD:
                section.checks += checks_of(name, figures, copied, held)
        felt = [clip for clip in clips if felt_in(clip)]
        if felt:
            told = evaluate(felt, partial(with_own_emotion, subject))
            figures = figures_of(*told, *stills(felt, constant))
            rows.append([f"{name}, its emotion given", len(felt), LOOKAHEAD, *figures.values()])
    head = ["set", "clips", "look-ahead", *FIGURES]
    section.tables.append(Lines("Every figure, by look-ahead (frames):", head, rows))
    return section


FIGURES: Final = (
    "M-LD",
    "M-LD ratio",
    "best constant's ratio",
    "M-LVD",
    "copy-identity's M-LVD",
    "F-LD",
    "lip correlation",
    "least correlation",
    "gain",
    "lag, frames",
    "closure recall",
)


_MEAD: Final = re.compile(r"_level_([123])_([a-z]+)_")


def felt_in(clip: Clip) -> dict[str, float]:
    """The emotion in the name of a MEAD clip, a third for each level; none where there is none."""
    found = _MEAD.search(clip.name)
    if found is None or found[2] not in FELT:
        return {}
    return {found[2]: int(found[1]) / 3}


def with_own_emotion(subject: Subject, clip: Clip) -> NDArray[np.float64]:
    return subject.said(clip.audio, clip.identity, felt_in(clip))


def stills(clips: Sequence[Clip], constant: NDArray[np.float64]) -> tuple[Row, Row]:
    """Of copy-identity and of the best constant."""
    copied, _ = evaluate(clips, partial(still, displacement=0.0))
    held, _ = evaluate(clips, partial(still, displacement=constant))
    return copied, held


def figures_of(row: Row, each: Sequence[Scored], copied: Row, held: Row) -> dict[str, float]:
    values = (
        row["m_ld"],
        row["m_ld"] / copied["m_ld"],
        held["m_ld"] / copied["m_ld"],
        row["m_lvd"],
        copied["m_lvd"],
        row["f_ld"],
        row["correlation"],
        min(s.scores.correlation for s in each),
        row["gain"],
        row["abs_lag"],
        row["closure"],
    )
    return dict(zip(FIGURES, values, strict=True))


def checks_of(name: str, figures: dict[str, float], copied: Row, held: Row) -> list[Check]:
    checks = [
        Check(f"{name}: {what}", figures[what], low, high)
        for what, (low, high) in BOUNDS[name].items()
    ]
    if name == "grid_s1":
        stillest = min(copied["m_lvd"], held["m_lvd"])
        checks.append(Check(f"{name}: M-LVD", figures["M-LVD"], high=stillest, unit="px"))
    return checks


def constant_of(subject: Subject) -> NDArray[np.float64]:
    """The mean displacement of grid_s1's training side, canonical pixels (68, 2)."""
    tracks = sorted((subject.data / "grid_s1").glob("*.npz"))
    taught = (read_track(t) for t in tracks if split_of_clip(t.stem) == "train")
    return mean_displacement(taught)
