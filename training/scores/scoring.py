"""Scores predictors clip by clip: models, and reference faces that need no model.

Clips are read one at a time and only their metrics are kept, so a corpus need not fit in memory.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.landmarks import align, to_canonical
from kfusion.runtime import Animator
from training.corpus.clips import Clip
from training.phones import STEP_S, phone_spans, read_phones
from training.scores.legacy import Legacy
from training.scores.metrics import ClipMetrics, clip_metrics

Row = dict[str, float]
"""Means over clips by the names of :attr:`~training.scores.metrics.ClipMetrics.by_name`;
``closure`` is the share of all closures that was found."""
Predict = Callable[[Clip], NDArray[Any]]
"""A clip -> its frames (T, 68, 2) in pixels of the clip's crop."""
Closures = Mapping[str, list[tuple[float, float]]]
"""Spans (s) of p, b and m by clip."""

CLOSED_LIPS: Final = ("P", "B", "M")


@dataclass(frozen=True)
class ClipScore:
    """One clip: its labels, its length in frames, and its metrics."""

    name: str
    speaker: str
    emotion: str | None
    level: int | None
    frames: int
    metrics: ClipMetrics


@dataclass
class Result:
    """One predictor's scores: of each clip, and of the batches of the ``legacy_*`` metrics."""

    legacy: Legacy = field(default_factory=Legacy)
    clips: list[ClipScore] = field(default_factory=list[ClipScore])

    @property
    def row(self) -> Row:
        return {**means(self.clips), **self.legacy.row}


def score_predictors(
    clips: Iterable[Clip],
    predictors: Mapping[str, Predict],
    closures: Closures | None = None,
) -> dict[str, Result]:
    """Scores every predictor on every clip in one pass. Raises DataError without a clip."""
    results = {name: Result() for name in predictors}
    count = 0
    for clip in clips:
        count += 1
        spans = (closures or {}).get(clip.name, [])
        for name, predict in predictors.items():
            predicted = predict(clip)
            frames = min(len(predicted), len(clip.points))
            metrics = clip_metrics(predicted, clip.points, clip.identity, spans)
            results[name].legacy.add(predicted[:frames], clip.points[:frames])
            score = ClipScore(clip.name, clip.speaker, clip.emotion, clip.level, frames, metrics)
            results[name].clips.append(score)
    if not count:
        raise DataError("no clips to score; wanted at least one")
    return results


def score_predictor(
    clips: Iterable[Clip], predict: Predict, closures: Closures | None = None
) -> Result:
    """Scores one predictor; see :func:`score_predictors`."""
    return score_predictors(clips, {"": predict}, closures)[""]


def means(clips: Iterable[ClipScore]) -> Row:
    """Means over the clips in which a metric is defined; nan where it is defined in none."""
    metrics = [c.metrics.by_name for c in clips]
    row: Row = {}
    for name in metrics[0]:
        values = np.array([m[name] for m in metrics])
        defined = np.isfinite(values)
        row[name] = float(values[defined].mean()) if defined.any() else float("nan")
    closures = sum(m["closures"] for m in metrics)
    found = sum(m["closures_found"] for m in metrics)
    row["closure"] = found / closures if closures else float("nan")
    return row


def predict_offline(
    animator: Animator, clip: Clip, hop: int, lookahead: int, *, emotion: bool = False
) -> NDArray[np.float32]:
    """The clip's frames on the clip's own identity, windows in batches.

    ``emotion``: the model gets the clip's label at weight 1, and the speaker's neutral face where
    it is known, as in training. Without it the emotion is neutral.
    """
    label = clip.emotion if emotion and clip.emotion != "neutral" else None
    return animator.animate(
        clip.audio,
        SAMPLE_RATE,
        emotion={label: 1.0} if label else None,
        identity=clip.neutral if emotion and clip.neutral is not None else clip.identity,
        hop=hop,
        lookahead=lookahead,
    )


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


def constant_face(clip: Clip, displacement: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """A face with one displacement (canonical pixels) in all frames; 0: the identity, copied."""
    from_canonical = to_canonical(clip.identity).inverse
    moved = from_canonical.apply_vectors(np.broadcast_to(displacement, (68, 2)))
    return np.repeat((clip.identity + moved)[None], len(clip.points), axis=0)


def rounded_truth(clip: Clip) -> NDArray[np.float64]:
    """The truth rounded to whole pixels."""
    return np.round(clip.points)


def references(constant: NDArray[np.float64] | None) -> dict[str, Predict]:
    """The rows beside every result; ``constant`` as of :func:`mean_displacement`."""
    rows: dict[str, Predict] = {"copy identity": partial(constant_face, displacement=0.0)}
    if constant is not None:
        rows["best constant"] = partial(constant_face, displacement=constant)
    return {**rows, "floor": rounded_truth}


def read_closures(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Spans (s) of P, B and M by clip, from a table of phones."""
    return {
        clip: [
            (start * STEP_S, end * STEP_S)
            for start, end, name in phone_spans(track)
            if name in CLOSED_LIPS
        ]
        for clip, track in read_phones(path).items()
    }
