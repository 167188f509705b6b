"""Clip by clip: what a predictor says of a corpus, and the still faces that it is set beside.

Clips come one at a time and only their figures are kept, so that a corpus need not fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion import emotion as emotions
from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.landmarks import Identity, align, to_canonical
from kfusion.runtime import Animator
from kfusion.stream import Slider, Stitcher, Window
from training.corpus.clips import Clip, Samples
from training.phones import STEP_S, read_phones, spans
from training.scores.legacy import AUTHORS_BATCH, Legacy
from training.scores.metrics import Scores, score

Row = dict[str, float]
"""Means over clips by the names of :attr:`~training.scores.metrics.Scores.figures`; ``closure`` is
the share of all closures that was found."""
Predict = Callable[[Clip], NDArray[Any]]
"""A clip -> its frames (T, 68, 2) in pixels of the clip's crop."""
Phones = Mapping[str, list[tuple[float, float]]]
"""Spans (s) of p, b and m by clip."""

CLOSED: Final = ("P", "B", "M")
CHUNK: Final = SAMPLE_RATE // 50
"""Samples of 20 ms, what a microphone sends at once."""


@dataclass(frozen=True)
class Scored:
    """One clip's line: who, in which emotion, how long (frames), and its figures."""

    name: str
    speaker: str
    emotion: str | None
    level: int | None
    frames: int
    scores: Scores


@dataclass
class Result:
    """What one predictor gave: a line a clip, and the batches of the ``legacy_*`` figures."""

    legacy: Legacy
    each: list[Scored] = field(default_factory=list[Scored])

    @property
    def row(self) -> Row:
        return {**means(self.each), **self.legacy.row}


def score_all(
    clips: Iterable[Clip],
    predictors: Mapping[str, Predict],
    phones: Phones | None = None,
    legacy_batch: int = AUTHORS_BATCH,
) -> dict[str, Result]:
    """Every predictor on every clip, in one pass over the clips. DataError where there is none."""
    results = {name: Result(Legacy(legacy_batch)) for name in predictors}
    count = 0
    for clip in clips:
        count += 1
        spans = (phones or {}).get(clip.name, [])
        for name, predict in predictors.items():
            said = predict(clip)
            frames = min(len(said), len(clip.points))
            scores = score(said, clip.points, clip.identity, spans)
            results[name].legacy.add(said[:frames], clip.points[:frames])
            line = Scored(clip.name, clip.speaker, clip.emotion, clip.level, frames, scores)
            results[name].each.append(line)
    if not count:
        raise DataError("no clips to score; wanted at least one")
    return results


def evaluate(
    clips: Iterable[Clip], predict: Predict, phones: Phones | None = None
) -> tuple[Row, list[Scored]]:
    """Means over clips, and each clip's figures."""
    result = score_all(clips, {"": predict}, phones)[""]
    return result.row, result.each


def means(each: Iterable[Scored]) -> Row:
    """Over the clips in which a figure is defined; nan where it is in none."""
    figures = [s.scores.figures for s in each]
    row: Row = {}
    for name in figures[0]:
        values = np.array([f[name] for f in figures])
        defined = np.isfinite(values)
        row[name] = float(values[defined].mean()) if defined.any() else float("nan")
    lags = [f["abs_lag"] for f in figures if np.isfinite(f["abs_lag"])]
    row["max_abs_lag"] = max(lags, default=float("nan"))
    there = sum(f["there"] for f in figures)
    row["closure"] = sum(f["found"] for f in figures) / there if there else float("nan")
    return row


# The model


def predict_offline(
    animator: Animator, clip: Clip, hop: int, lookahead: int, *, emotion: bool = False
) -> NDArray[np.float32]:
    """The clip's frames on the clip's own identity, windows in batches.

    ``emotion``: the clip's label is given to the model at weight 1, with the speaker's neutral
    face where it is known, as in training: the clip's own smiles already. Without it the emotion
    is neutral.
    """
    return animator.animate(
        clip.audio,
        SAMPLE_RATE,
        emotion=label_of(clip) if emotion else None,
        identity=identity_of(clip, emotion=emotion),
        hop=hop,
        lookahead=lookahead,
    )


def predict_streamed(
    animator: Animator, clip: Clip, hop: int, lookahead: int, *, emotion: bool = False
) -> NDArray[np.float32]:
    """:func:`predict_offline` the way a live session runs: 20 ms at a time, each window alone."""
    face = Identity.from_points(identity_of(clip, emotion=emotion))
    felt = emotions.vector(label_of(clip) if emotion else {})
    stitcher = Stitcher(hop, lookahead)
    frames = [np.zeros((0, 68, 2), np.float32)]
    for window in live_windows(clip.audio, hop, lookahead):
        said = animator.engine.step(window.audio[None], face.canonical[None], felt[None])
        frames.append(face.place(stitcher.push(window, said[0])))
    return np.concatenate(frames)


def live_windows(audio: Samples, hop: int, lookahead: int) -> Iterator[Window]:
    """The windows of samples at 16 kHz that come in chunks, each as soon as its sound is in."""
    slider = Slider(SAMPLE_RATE, hop, lookahead)
    for start in range(0, len(audio), CHUNK):
        slider.push(audio[start : start + CHUNK])
        while (window := slider.take()) is not None:
            yield window
    slider.finish()
    while (window := slider.take()) is not None:
        yield window


def identity_of(clip: Clip, *, emotion: bool) -> NDArray[np.float64]:
    """The face that a model is given for a clip, beside its label or without it."""
    return clip.neutral if emotion and clip.neutral is not None else clip.identity


def label_of(clip: Clip) -> dict[str, float]:
    """The clip's emotion as weights; none where it is neutral or not known."""
    return {} if clip.emotion in (None, "neutral") else {clip.emotion: 1.0}


# Faces that need no model


def mean_displacement(clips: Iterable[Clip]) -> NDArray[np.float64]:
    """The best constant: the mean over a set's frames, canonical pixels (68, 2)."""
    total, count = np.zeros((68, 2)), 0
    for clip in clips:
        moved = align(clip.points, clip.identity) - clip.identity
        total += to_canonical(clip.identity).apply_vectors(moved).sum(axis=0)
        count += len(moved)
    if not count:
        raise DataError("no clips to take the best constant from; wanted at least one")
    return total / count


def still(clip: Clip, displacement: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """A face that holds one displacement (canonical) all clip long; 0: the identity, copied."""
    back = to_canonical(clip.identity).inverse
    held = np.broadcast_to(displacement, (68, 2))
    return np.repeat((clip.identity + back.apply_vectors(held))[None], len(clip.points), axis=0)


def floor(clip: Clip) -> NDArray[np.float64]:
    """The truth rounded to whole pixels."""
    return np.round(clip.points)


def references(constant: NDArray[np.float64] | None) -> dict[str, Predict]:
    """The rows that stand beside every result; ``constant`` as of :func:`mean_displacement`."""
    rows: dict[str, Predict] = {"copy identity": partial(still, displacement=0.0)}
    if constant is not None:
        rows["best constant"] = partial(still, displacement=constant)
    return {**rows, "floor": floor}


def read_closures(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Spans (s) of P, B and M by clip, from a table of phones."""
    return {
        clip: [
            (start * STEP_S, end * STEP_S) for start, end, name in spans(track) if name in CLOSED
        ]
        for clip, track in read_phones(path).items()
    }
