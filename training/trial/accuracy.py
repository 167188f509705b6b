"""How near a model is to real speech, compared with faces that never move."""

import re
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.corpus.clips import Clip, read_track
from training.corpus.splits import split_of_clip
from training.scores.figures import Row, ranges
from training.scores.scoring import (
    Model,
    Result,
    mean_displacement,
    references,
    score_predictor,
    score_predictors,
)
from training.trial.emotion import EXPRESSIONS
from training.trial.model import HOP, LOOKAHEAD, SETS, TrialModel
from training.trial.report import Check, Section, Table, number

MEASURED: Final = (*SETS, "grid_more")
DEVELOPMENT: Final = ("grid_others", "mead_speech", "speakers")
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
"""At look-ahead 3. On grid_s1 M-LVD is also held under that of every face that never moves."""
COLUMNS: Final = {
    "M-LD": "m_ld",
    "M-LD ratio": "ratio",
    "centred": "centred",
    "shape": "shape",
    "lip correlation": "correlation",
    "gain": "gain",
    "width correlation": "width_correlation",
    "swing": "swing",
    "closure precision": "closure_precision",
    "closure recall": "closure_recall",
    "closure F1": "closure_f1",
    "M-LVD": "m_lvd",
    "F-LD": "f_ld",
    "lag, frames": "abs_lag",
}
"""Columns by title; :data:`training.scores.figures.ABOUT` says what they are."""
OF_FACES: Final = ("M-LD", "M-LD ratio", "centred", "shape", "M-LVD", "F-LD")
OF_CLIPS: Final = ("M-LD ratio", "centred", "shape", "lip correlation", "gain", "width correlation",
                   "swing")  # fmt: skip

_MEAD: Final = re.compile(r"_level_([123])_([a-z]+)_")


def measure(model: TrialModel) -> Section:
    section = Section(
        "accuracy",
        "Aligned, in pixels of the 256 crop; hop 3, the emotion neutral, bounds at look-ahead 3. "
        "M-LD's ratio is to that of copy-identity, a face that never moves. Centred: the same with "
        "each point's mean over the clip taken off prediction and truth, over that of no motion; "
        "shape: with the mouth's centroid taken off each frame too. Gain and swing: standard "
        "deviation of the gap and of the width over the true one, medians over clips. Closure "
        "precision: of runs of frames with a gap under 1.5 px; recall: of p, b and m. Least "
        "correlation is that of the worst clip; lag is without its sign. MEAD clips are scored "
        "once more with their own emotion given, a third for each level. "
        f"{', '.join(DEVELOPMENT)} are development sets: choices were made on them.",
    )
    constant = training_mean(model)
    rows: list[list[str | float]] = []
    faces: list[list[str | float]] = []
    of_clips: list[list[str | float]] = []
    for name in MEASURED:
        clips = model.clips(name)
        closures = model.closures if name == "grid_s1" else None
        still = score_predictors(clips, references(constant), closures)
        for face, result in still.items():
            faces.append([name, face, *(result.row[COLUMNS[c]] for c in OF_FACES)])
        for lookahead in LOOKAHEADS:
            result = score_predictor(clips, Model(model.animator, HOP, lookahead), closures)
            values = figures(result)
            rows.append([name, len(clips), lookahead, *values.values()])
            if lookahead == LOOKAHEAD:
                section.checks += checks_of(name, values, still)
                of_clips.append([name, *range_cells(result)])
        labelled = [clip for clip in clips if mead_emotion(clip)]
        if labelled:
            values = figures(score_predictor(
                labelled, lambda c: model.animate(c.audio, c.identity, mead_emotion(c))
            ))  # fmt: skip
            title = f"{name}, its emotion given"
            rows.append([title, len(labelled), LOOKAHEAD, *values.values()])
    head = ["set", "clips", "look-ahead", *COLUMNS, "least correlation"]
    section.tables += [
        Table("Every figure, by look-ahead (frames):", head, rows),
        Table("Faces that need no network. Best constant: grid_s1's mean displacement in training; "
              "still at own mean: at the mean of the clip's own true frames; floor: the truth "
              "rounded to whole pixels.", ["set", "face", *OF_FACES], faces, text=2),
        Table("The least and the most of a clip, at look-ahead 3:", ["set", *OF_CLIPS], of_clips),
    ]  # fmt: skip
    return section


def mead_emotion(clip: Clip) -> dict[str, float]:
    """The emotion in the name of a MEAD clip, a third for each level; none where there is none."""
    match = _MEAD.search(clip.name)
    if match is None or match[2] not in EXPRESSIONS:
        return {}
    return {match[2]: int(match[1]) / 3}


def figures(result: Result) -> dict[str, float]:
    """The table's columns for a model's result, by title."""
    row: Row = result.row
    least = min(clip.metrics.correlation for clip in result.clips)
    return {**{title: row[name] for title, name in COLUMNS.items()}, "least correlation": least}


def range_cells(result: Result) -> list[str]:
    """The least and the most of a clip for each of :data:`OF_CLIPS`."""
    found = ranges(result.clips, [COLUMNS[c] for c in OF_CLIPS])
    ends = [found.get(COLUMNS[c], (np.nan, np.nan)) for c in OF_CLIPS]
    return [f"{number(low)} to {number(high)}" for low, high in ends]


def checks_of(name: str, values: dict[str, float], still: dict[str, Result]) -> list[Check]:
    checks = [
        Check(f"{name}: {column}", values[column], low, high)
        for column, (low, high) in BOUNDS.get(name, {}).items()
    ]
    if name == "grid_s1":
        least = min(still[face].row["m_lvd"] for face in ("copy identity", "best constant"))
        checks.append(Check(f"{name}: M-LVD", values["M-LVD"], high=least, unit="px"))
    return checks


def training_mean(model: TrialModel) -> NDArray[np.float64]:
    """The mean displacement of grid_s1's training side, canonical pixels (68, 2)."""
    tracks = sorted((model.data / "grid_s1").glob("*.npz"))
    return mean_displacement(read_track(t) for t in tracks if split_of_clip(t.stem) == "train")
