"""How emotions change a face and the swing of its lips: in real faces, in the table, in a model.

Five measures of a face are taken in canonical pixels. Of a clip each is the median over its frames.
Of an emotion it is the difference to the same person's neutral clip (real faces) or to the same
speech with the emotion neutral (a model).
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from kfusion.emotion import EMOTIONS, articulation, displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import BROWS, NEUTRAL, align, lip_gap, to_canonical
from training.corpus.clips import Clip, face_at_rest, read_points
from training.scores.metrics import STILL_PX, correlation
from training.trial.model import TrialModel
from training.trial.report import Check, Section, Table

MEASURES: Final = (
    "brow height",
    "brow distance",
    "mouth width",
    "corner height",
    "eye opening",
)
"""Up is positive. Brow distance is between the inner ends, heights are above the eye corners'."""
EXPRESSIONS: Final = tuple(e for e in EMOTIONS if e != "neutral")
CLEAR_PX: Final = 0.5
"""What a change must reach in each speaker for them to agree on its sign."""
CLEAR_SWING: Final = 0.05
"""The same of the lips' swing, as a share of that in the neutral clip."""

T = TypeVar("T")
U = TypeVar("U")

Measures = NDArray[np.float64]
"""(5,) in the order of :data:`MEASURES`, canonical pixels."""


def measures_of(faces: NDArray[Any]) -> NDArray[np.float64]:
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


def clip_measures(frames: NDArray[Any], identity: NDArray[Any]) -> Measures:
    """Medians over frames (T, 68, 2), aligned to ``identity``, in the canonical crop."""
    canonical = to_canonical(identity).apply(align(frames, identity))
    return np.median(measures_of(canonical), axis=0)


def real_tracks(folder: Path) -> dict[str, dict[str, NDArray[np.float64]]]:
    """{speaker: {emotion: faces}} of tracks ``SPEAKER_front_EMOTION_levelN_NNN.npz``."""
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
    """{emotion: {speaker: compare(of the expressive clip, of the neutral clip)}}."""
    compared: dict[str, dict[str, U]] = {e: {} for e in EXPRESSIONS}
    for speaker, of_emotion in tracks.items():
        rest = face_at_rest(of_emotion["neutral"])
        neutral = measure(of_emotion["neutral"], rest)
        for emotion in EXPRESSIONS:
            if emotion in of_emotion:
                compared[emotion][speaker] = compare(measure(of_emotion[emotion], rest), neutral)
    return compared


def real_changes(folder: Path) -> dict[str, dict[str, Measures]]:
    """{emotion: {speaker: change}} of :func:`real_tracks`."""
    return against_neutral(real_tracks(folder), clip_measures, operator.sub)


def swing(faces: NDArray[Any]) -> float:
    """How far the inner-lip gap of frames (T, 68, 2) swings: its standard deviation."""
    return float(lip_gap(faces).std())


def real_swings(folder: Path) -> dict[str, dict[str, float]]:
    """{emotion: {speaker: swing over that in the neutral clip, or nan}}."""
    return against_neutral(
        real_tracks(folder),
        lambda faces, rest: swing(align(faces, rest)),
        lambda expressive, neutral: expressive / neutral if neutral > STILL_PX else nan,
    )


def table_changes() -> dict[str, Measures]:
    """{emotion: change} of the canonical face by the table of :mod:`kfusion.emotion`."""
    rest = measures_of(NEUTRAL)
    return {e: measures_of(NEUTRAL + displacement(vector({e: 1.0}))) - rest for e in EXPRESSIONS}


def agreed_sign(changes: Sequence[float], clear: float = CLEAR_PX) -> int:
    """The sign that all of them have, each at least ``clear``; 0 where they have none."""
    if changes and min(changes) >= clear:
        return 1
    return -1 if changes and max(changes) <= -clear else 0


# A model

CLIPS: Final = 12
FALL: Final = 0.05
LEAST_CHANGE_PX: Final = 0.1
LEAST_SWING: Final = 0.02
"""A model's change under these has no sign."""
HALF: Final = (0.25, 0.75)
"""Share of the full change that an intensity of 0.5 is to give, of the measure that moves most."""
MIXTURE: Final = {"happy": 0.5, "surprised": 0.5}
MIXTURE_TEXT: Final = ", ".join(f"{name} {weight}" for name, weight in MIXTURE.items())


@dataclass(frozen=True)
class Response:
    """A model's with one emotion, means over clips; ``swing`` in px."""

    measures: Measures
    correlation: float
    swing: float


def measure(model: TrialModel) -> Section:
    clips = model.subset(CLIPS)
    weights: dict[str, dict[str, float]] = {"neutral": {}, "mixture": MIXTURE}
    weights |= {e: {e: 1.0} for e in EXPRESSIONS} | {f"half {e}": {e: 0.5} for e in EXPRESSIONS}
    responses = {name: response(model, clips, w) for name, w in weights.items()}
    neutral = responses["neutral"]
    changes = {name: r.measures - neutral.measures for name, r in responses.items()}
    swings = {name: r.swing / neutral.swing for name, r in responses.items()}
    real = real_changes(model.data / "mead_expressions")
    real_swing = real_swings(model.data / "mead_expressions")
    falls = {e: neutral.correlation - responses[e].correlation for e in EXPRESSIONS}
    return Section(
        "emotion",
        f"Emotions given to the model on {CLIPS} grid_s1 validation clips: five figures in "
        "canonical pixels (medians over a clip's frames), against the same speech with the "
        "emotion neutral, means over clips. Beside them the same of three MEAD speakers "
        "(mead_expressions), each against the own neutral clip; other sentences, so what speech "
        f"does to the mouth is in them too. Where all three agree on a sign (each {CLEAR_PX} px "
        "or more), the model's is to be the same. An intensity of 0.5 is to give a change "
        f"between none and the full one, the mixture ({MIXTURE_TEXT}) one between those of its "
        f"emotions, both with {CLEAR_PX} px to spare, and of the figure that moves most about "
        "half. Swing: the standard deviation of the inner-lip gap over that with the emotion "
        "neutral (of MEAD over the neutral clip's); where all three agree that it grows or falls "
        f"(by {CLEAR_SWING:.0%} or more), so is the model's. Fall: of the correlation with the "
        "true lip gap.",
        [
            *sign_checks(changes, real),
            *swing_checks(swings, real_swing),
            *(Check(f"{e}: fall of lip correlation", f, high=FALL) for e, f in falls.items()),
            *intensity_checks(changes),
        ],
        [changes_table(changes, real), swings_table(swings, real_swing)],
    )


def response(model: TrialModel, clips: Sequence[Clip], weights: Mapping[str, float]) -> Response:
    measured: list[Measures] = []
    correlations: list[float] = []
    swings: list[float] = []
    for clip in clips:
        frames = model.animate(clip.audio, clip.identity, weights)
        measured.append(clip_measures(frames, clip.identity))
        count = min(len(frames), len(clip.points))
        truth = lip_gap(align(clip.points[:count], clip.identity))
        correlations.append(correlation(lip_gap(frames[:count]), truth))
        swings.append(swing(frames))
    return Response(np.mean(measured, axis=0), float(np.mean(correlations)), float(np.mean(swings)))


def sign_checks(
    changes: Mapping[str, Measures], real: Mapping[str, Mapping[str, Measures]]
) -> Iterator[Check]:
    """The model's change has the sign on which real speakers agree."""
    for emotion in EXPRESSIONS:
        for k, name in enumerate(MEASURES):
            sign = agreed_sign([float(change[k]) for change in real[emotion].values()])
            if sign:
                low, high = (LEAST_CHANGE_PX, inf) if sign > 0 else (-inf, -LEAST_CHANGE_PX)
                yield Check(f"{emotion}: {name}", float(changes[emotion][k]), low, high, "px")


def swing_checks(
    swings: Mapping[str, float], real: Mapping[str, Mapping[str, float]]
) -> Iterator[Check]:
    """The model's swing grows or falls where that of real speakers does."""
    for emotion in EXPRESSIONS:
        sign = agreed_sign([ratio - 1 for ratio in real[emotion].values()], CLEAR_SWING)
        if sign:
            low, high = (1 + LEAST_SWING, inf) if sign > 0 else (-inf, 1 - LEAST_SWING)
            yield Check(f"{emotion}: swing of the lips", swings[emotion], low, high)


def intensity_checks(changes: Mapping[str, Measures]) -> Iterator[Check]:
    """Half an emotion and a mixture of two lie between their ends."""
    for emotion in EXPRESSIONS:
        half, full = changes[f"half {emotion}"], changes[emotion]
        beyond = overshoot(half, np.zeros(len(MEASURES)), full)
        yield Check(f"half {emotion}: beyond none and full", beyond, high=CLEAR_PX, unit="px")
        k = int(np.abs(full).argmax())
        share = float(half[k] / full[k]) if full[k] else nan
        yield Check(f"half {emotion}: share of its {MEASURES[k]}", share, *HALF)
    beyond = overshoot(changes["mixture"], *(changes[e] for e in MIXTURE))
    yield Check("mixture: beyond its two", beyond, high=CLEAR_PX, unit="px")


def overshoot(value: Measures, one_end: Measures, other_end: Measures) -> float:
    """How far the measure that is furthest out lies beyond the span of the two; 0 inside."""
    low, high = np.minimum(one_end, other_end), np.maximum(one_end, other_end)
    return float(np.maximum(np.maximum(low - value, value - high), 0).max())


def changes_table(
    changes: Mapping[str, Measures], real: Mapping[str, Mapping[str, Measures]]
) -> Table:
    speakers = sorted({s for of_one in real.values() for s in of_one})
    missing = np.full(len(MEASURES), nan)
    by_table = table_changes()
    columns = {
        emotion: [
            changes[emotion],
            changes[f"half {emotion}"],
            by_table[emotion],
            *(real[emotion].get(s, missing) for s in speakers),
        ]
        for emotion in EXPRESSIONS
    }
    columns[f"mixture ({MIXTURE_TEXT})"] = [
        changes["mixture"], *[missing] * (2 + len(speakers))
    ]  # fmt: skip
    rows = [
        [emotion, name, *(float(column[k]) for column in of_emotion)]
        for emotion, of_emotion in columns.items()
        for k, name in enumerate(MEASURES)
    ]
    head = ["emotion", "figure", "model at 1", "at 0.5", "kfusion.emotion", *speakers]
    return Table("Changes, canonical px:", head, rows, text=2)


def swings_table(swings: Mapping[str, float], real: Mapping[str, Mapping[str, float]]) -> Table:
    speakers = sorted({s for of_one in real.values() for s in of_one})
    rows = [
        [e, swings[e], swings[f"half {e}"], 1 + float(articulation(vector({e: 1.0}))),
         *(real[e].get(s, nan) for s in speakers)]
        for e in EXPRESSIONS
    ]  # fmt: skip
    head = ["emotion", "model at 1", "at 0.5", "kfusion.emotion", *speakers]
    return Table("Swing of the inner-lip gap, times that with the emotion neutral:", head, rows)
