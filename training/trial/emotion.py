"""What an emotion does to a face, in five figures, and to how far its lips swing: on real faces, in
the table, in a model.

The figures are of faces in canonical pixels. Of a clip each is the median over its frames, and of
an emotion the difference to the same person's neutral clip (real faces) or to the same speech
with the emotion neutral (a model).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from kfusion.emotion import EMOTIONS, articulation, displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import BROWS, NEUTRAL, align, lip_gap, to_canonical
from training.corpus.clips import Clip, face_at_rest, read_points
from training.scores.metrics import STILL_PX, correlation
from training.trial.model import Subject
from training.trial.report import Check, Lines, Section

FIGURES: Final = (
    "brow height",
    "brow distance",
    "mouth width",
    "corner height",
    "eye opening",
)
"""Up is positive. Brow distance is between the inner ends, heights are above the eye corners'."""
FELT: Final = tuple(e for e in EMOTIONS if e != "neutral")
CLEAR_PX: Final = 0.5
"""What a change must reach in each speaker for them to agree on its sign."""
CLEAR_SWING: Final = 0.05
"""The same of the lips' swing, as a share of that in the neutral clip."""

T = TypeVar("T")
U = TypeVar("U")

Figures = NDArray[np.float64]
"""(5,) in the order of :data:`FIGURES`, canonical pixels."""


def figures(faces: NDArray[Any]) -> NDArray[np.float64]:
    """Faces (..., 68, 2) in canonical pixels -> (..., 5)."""
    x, y = faces[..., 0], faces[..., 1]
    eyes = y[..., [36, 39, 42, 45]].mean(axis=-1)
    return np.stack(
        [
            eyes - y[..., BROWS].mean(axis=-1),
            x[..., 22] - x[..., 21],
            x[..., 54] - x[..., 48],
            eyes - y[..., [48, 54]].mean(axis=-1),
            y[..., [41, 40, 47, 46]].mean(axis=-1) - y[..., [37, 38, 43, 44]].mean(axis=-1),
        ],
        axis=-1,
    )


def clip_figures(frames: NDArray[Any], identity: NDArray[Any]) -> Figures:
    """Medians over frames (T, 68, 2), each aligned to ``identity`` and brought to the canonical
    crop.
    """
    canonical = to_canonical(identity).apply(align(frames, identity))
    return np.median(figures(canonical), axis=0)


def real_tracks(folder: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """{speaker: {emotion: faces}} of ready-made tracks ``SPEAKER_front_EMOTION_levelN_NNN.npz``.

    Raises :class:`~kfusion.errors.DataError` for a speaker without a neutral clip, and where
    there is none.
    """
    tracks: dict[str, dict[str, NDArray[np.float64]]] = {}
    for path in sorted(folder.glob("*_front_*.npz")):
        speaker, _, emotion = path.stem.split("_")[:3]
        tracks.setdefault(speaker, {})[emotion] = read_points(path)[0]
    if not tracks:
        raise DataError(f"{folder}: no SPEAKER_front_EMOTION_levelN_NNN.npz")
    for speaker, of_emotion in tracks.items():
        if "neutral" not in of_emotion:
            raise DataError(f"{folder}: {speaker} has no neutral clip to compare with")
    return tracks


def against_neutral(
    tracks: Mapping[str, Mapping[str, NDArray[np.float64]]],
    measure: Callable[[NDArray[np.float64], NDArray[np.float64]], T],
    compare: Callable[[T, T], U],
) -> dict[str, dict[str, U]]:
    """{emotion: {speaker: compare(felt, neutral)}} of what ``measure`` says of a clip's faces and
    the speaker's face at rest in the neutral clip.
    """
    found: dict[str, dict[str, U]] = {e: {} for e in FELT}
    for speaker, of_emotion in tracks.items():
        rest = face_at_rest(of_emotion["neutral"])
        neutral = measure(of_emotion["neutral"], rest)
        for emotion in FELT:
            if emotion in of_emotion:
                found[emotion][speaker] = compare(measure(of_emotion[emotion], rest), neutral)
    return found


def real_changes(folder: Path) -> dict[str, dict[str, Figures]]:
    """{emotion: {speaker: change}} of :func:`real_tracks`."""
    return against_neutral(real_tracks(folder), clip_figures, operator.sub)


def swing(faces: NDArray[Any]) -> float:
    """How far the inner-lip gap of frames (T, 68, 2) swings: its standard deviation."""
    return float(lip_gap(faces).std())


def real_swings(folder: Path) -> dict[str, dict[str, float]]:
    """{emotion: {speaker: swing of the lips' gap over that in the neutral clip}} of
    :func:`real_tracks`; nan where lips do not move in the neutral clip.
    """
    return against_neutral(
        real_tracks(folder),
        lambda faces, rest: swing(align(faces, rest)),
        lambda felt, neutral: felt / neutral if neutral > STILL_PX else float("nan"),
    )


def table_changes() -> dict[str, Figures]:
    """{emotion: change} of the canonical face by the table of :mod:`kfusion.emotion`."""
    rest = figures(NEUTRAL)
    return {e: figures(NEUTRAL + displacement(vector({e: 1.0}))) - rest for e in FELT}


def agreed_sign(changes: Sequence[float], clear: float = CLEAR_PX) -> int:
    """The sign that all of them have, each at least ``clear``; 0 where they have none."""
    if changes and min(changes) >= clear:
        return 1
    return -1 if changes and max(changes) <= -clear else 0


# A model's

CLIPS: Final = 12
FALL: Final = 0.05
SEEN_PX: Final = 0.1
SEEN_SWING: Final = 0.02
"""A model's change under these has no sign."""
HALF: Final = (0.25, 0.75)
"""Share of the full change that an intensity of 0.5 is to give, of the figure that moves most."""
MIXTURE: Final = {"happy": 0.5, "surprised": 0.5}


def dial(subject: Subject) -> Section:
    section = Section(
        "dial",
        f"Emotions given to the model on {CLIPS} grid_s1 validation clips: five figures in "
        "canonical pixels (medians over a clip's frames), against the same speech with the "
        "emotion neutral, means over clips. Beside them the same of three MEAD speakers "
        "(mead_expressions), each against the own neutral clip; other sentences, so what speech "
        f"does to the mouth is in them too. Where all three agree on a sign (each {CLEAR_PX} px "
        "or more), the model's is to be the same. An intensity of 0.5 is to give a change "
        f"between none and the full one, the mixture ({mixture_text()}) one between those of its "
        f"emotions, both with {CLEAR_PX} px to spare, and of the figure that moves most about "
        "half. Swing: the standard deviation of the inner-lip gap over that with the emotion "
        "neutral (of MEAD over the neutral clip's); where all three agree that it grows or falls "
        f"(by {CLEAR_SWING:.0%} or more), so is the model's. Fall: of the correlation with the "
        "true lip gap.",
    )
    clips = subject.some(CLIPS)
    felt = {"neutral": {}, **{e: {e: 1.0} for e in FELT}, **{f"half {e}": {e: 0.5} for e in FELT}}
    seen = {name: with_emotion(subject, clips, weights)
            for name, weights in {**felt, "mixture": MIXTURE}.items()}  # fmt: skip
    plain = seen["neutral"]
    change = {name: felt.figures - plain.figures for name, felt in seen.items()}
    swings = {name: felt.swing / plain.swing for name, felt in seen.items()}
    real, taught = real_changes(subject.data / "mead_expressions"), table_changes()
    for emotion in FELT:
        of_speakers = list(real[emotion].values())
        for k, figure in enumerate(FIGURES):
            sign = agreed_sign([float(r[k]) for r in of_speakers])
            if sign:
                low, high = (SEEN_PX, np.inf) if sign > 0 else (-np.inf, -SEEN_PX)
                what = f"{emotion}: {figure}"
                section.checks.append(Check(what, float(change[emotion][k]), low, high, "px"))
    real_swing = real_swings(subject.data / "mead_expressions")
    for emotion in FELT:
        sign = agreed_sign([v - 1 for v in real_swing[emotion].values()], CLEAR_SWING)
        if sign:
            low, high = (1 + SEEN_SWING, np.inf) if sign > 0 else (-np.inf, 1 - SEEN_SWING)
            section.checks.append(
                Check(f"{emotion}: swing of the lips", swings[emotion], low, high)
            )
    for emotion in FELT:
        fall = plain.lips - seen[emotion].lips
        section.checks.append(Check(f"{emotion}: fall of lip correlation", fall, high=FALL))
    nothing = np.zeros(len(FIGURES))
    for emotion in FELT:
        half, full = change[f"half {emotion}"], change[emotion]
        what = f"half {emotion}: beyond none and full"
        most = beyond(half, nothing, full)
        section.checks.append(Check(what, most, high=CLEAR_PX, unit="px"))
        k = int(np.abs(full).argmax())
        share = float(half[k] / full[k]) if full[k] else float("nan")
        section.checks.append(Check(f"half {emotion}: share of its {FIGURES[k]}", share, *HALF))
    most = beyond(change["mixture"], *(change[e] for e in MIXTURE))
    section.checks.append(Check("mixture: beyond its two", most, high=CLEAR_PX, unit="px"))
    section.tables += [changes_table(change, real, taught), swings_table(swings, real_swing)]
    return section


def mixture_text() -> str:
    return ", ".join(f"{name} {weight}" for name, weight in MIXTURE.items())


@dataclass(frozen=True)
class Seen:
    """Of a model with one emotion, means over clips: the five figures, the correlation of its lip
    gap with the true one, and how far the gap swings (px).
    """

    figures: Figures
    lips: float
    swing: float


def with_emotion(subject: Subject, clips: Sequence[Clip], weights: Mapping[str, float]) -> Seen:
    seen: list[Figures] = []
    lips: list[float] = []
    swings: list[float] = []
    for clip in clips:
        frames = subject.said(clip.audio, clip.identity, weights)
        seen.append(clip_figures(frames, clip.identity))
        count = min(len(frames), len(clip.points))
        truth = lip_gap(align(clip.points[:count], clip.identity))
        lips.append(correlation(lip_gap(frames[:count]), truth))
        swings.append(swing(frames))
    return Seen(np.mean(seen, axis=0), float(np.mean(lips)), float(np.mean(swings)))


def beyond(value: Figures, one_end: Figures, other_end: Figures) -> float:
    """How far the figure that is furthest out lies beyond the span of the two; 0 inside."""
    low, high = np.minimum(one_end, other_end), np.maximum(one_end, other_end)
    return float(np.maximum(np.maximum(low - value, value - high), 0).max())


def changes_table(
    change: Mapping[str, Figures],
    real: Mapping[str, Mapping[str, Figures]],
    taught: Mapping[str, Figures],
) -> Lines:
    speakers = sorted({s for of_one in real.values() for s in of_one})
    nothing = np.full(len(FIGURES), np.nan)
    rows: list[list[str | float]] = []
    for emotion in FELT:
        for k, figure in enumerate(FIGURES):
            measured = [float(real[emotion].get(s, nothing)[k]) for s in speakers]
            row = change[emotion][k], change[f"half {emotion}"][k], taught[emotion][k]
            rows.append([emotion, figure, *map(float, row), *measured])
    for k, figure in enumerate(FIGURES):
        blank = [float("nan")] * (2 + len(speakers))
        rows.append([f"mixture ({mixture_text()})", figure, float(change["mixture"][k]), *blank])
    head = ["emotion", "figure", "model at 1", "at 0.5", "kfusion.emotion", *speakers]
    return Lines("Changes, canonical px:", head, rows, text=2)


def swings_table(swings: Mapping[str, float], real: Mapping[str, Mapping[str, float]]) -> Lines:
    speakers = sorted({s for of_one in real.values() for s in of_one})
    rows = [
        [e, swings[e], swings[f"half {e}"], 1 + float(articulation(vector({e: 1.0}))),
         *(real[e].get(s, float("nan")) for s in speakers)]
        for e in FELT
    ]  # fmt: skip
    head = ["emotion", "model at 1", "at 0.5", "kfusion.emotion", *speakers]
    return Lines("Swing of the inner-lip gap, times that with the emotion neutral:", head, rows)
