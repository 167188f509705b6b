"""How near a model is to real speech, compared with faces that never move."""

import re
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpus.clips import Clip, read_track
from training.corpus.splits import split_of_clip
from training.scores.scoring import (
    Result,
    Row,
    mean_displacement,
    predict_offline,
    references,
    score_predictor,
    score_predictors,
)
from training.trial.emotion import EXPRESSIONS
from training.trial.model import HOP, LOOKAHEAD, SETS, TrialModel
from training.trial.report import Check, Section, Table

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
"""At look-ahead 3. On grid_s1 M-LVD is also held under every reference face's."""


_MEAD: Final = re.compile(r"_level_([123])_([a-z]+)_")


def measure(model: TrialModel) -> Section:
    section = Section(
        "accuracy",
        "Aligned, in pixels of the 256 crop, means over clips; hop 3, the emotion neutral, bounds "
        "at look-ahead 3. Ratios are to the M-LD of copy-identity, a face that never moves; the "
        "best constant is grid_s1's mean displacement in training. Least correlation is that of "
        "the worst clip; lag is without its sign. MEAD clips are scored once more with their own "
        "emotion given, a third for each level.",
    )
    constant = training_mean(model)
    rows: list[list[str | float]] = []
    columns: list[str] = []
    for name in SETS:
        clips = model.clips(name)
        closures = model.closures if name == "grid_s1" else None
        faces = reference_rows(clips, constant)
        for lookahead in LOOKAHEADS:
            predict = partial(predict_offline, model.animator, hop=HOP, lookahead=lookahead)
            values = compared(score_predictor(clips, predict, closures), *faces)
            rows.append([name, len(clips), lookahead, *values.values()])
            columns = list(values)
            if lookahead == LOOKAHEAD:
                section.checks += checks_of(name, values, *faces)
        labelled = [clip for clip in clips if mead_emotion(clip)]
        if labelled:
            result = score_predictor(
                labelled, lambda c: model.animate(c.audio, c.identity, mead_emotion(c))
            )
            values = compared(result, *reference_rows(labelled, constant))
            title = f"{name}, its emotion given"
            rows.append([title, len(labelled), LOOKAHEAD, *values.values()])
    head = ["set", "clips", "look-ahead", *columns]
    section.tables.append(Table("Every figure, by look-ahead (frames):", head, rows))
    return section


def mead_emotion(clip: Clip) -> dict[str, float]:
    """The emotion in the name of a MEAD clip, a third for each level; none where there is none."""
    match = _MEAD.search(clip.name)
    if match is None or match[2] not in EXPRESSIONS:
        return {}
    return {match[2]: int(match[1]) / 3}


def reference_rows(clips: Sequence[Clip], constant: NDArray[np.float64]) -> tuple[Row, Row]:
    """Of copy-identity and of the best constant."""
    results = score_predictors(clips, references(constant))
    return results["copy identity"].row, results["best constant"].row


def compared(result: Result, copied: Row, constant: Row) -> dict[str, float]:
    """The table's columns for a model's result, by name."""
    row = result.row
    return {
        "M-LD": row["m_ld"],
        "M-LD ratio": row["m_ld"] / copied["m_ld"],
        "best constant's ratio": constant["m_ld"] / copied["m_ld"],
        "M-LVD": row["m_lvd"],
        "copy-identity's M-LVD": copied["m_lvd"],
        "F-LD": row["f_ld"],
        "lip correlation": row["correlation"],
        "least correlation": min(clip.metrics.correlation for clip in result.clips),
        "gain": row["gain"],
        "lag, frames": row["abs_lag"],
        "closure recall": row["closure"],
    }


def checks_of(name: str, values: dict[str, float], copied: Row, constant: Row) -> list[Check]:
    checks = [
        Check(f"{name}: {column}", values[column], low, high)
        for column, (low, high) in BOUNDS[name].items()
    ]
    if name == "grid_s1":
        least = min(copied["m_lvd"], constant["m_lvd"])
        checks.append(Check(f"{name}: M-LVD", values["M-LVD"], high=least, unit="px"))
    return checks


def training_mean(model: TrialModel) -> NDArray[np.float64]:
    """The mean displacement of grid_s1's training side, canonical pixels (68, 2)."""
    tracks = sorted((model.data / "grid_s1").glob("*.npz"))
    return mean_displacement(read_track(t) for t in tracks if split_of_clip(t.stem) == "train")
