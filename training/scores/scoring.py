"""Scores predictors on clips: models, and reference faces that need no model.

Some clips are read at a time and only their metrics are kept, so a corpus need not fit in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from math import nan
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.landmarks import align, to_canonical
from kfusion.runtime import Animator
from training.corpus.clips import Clip
from training.phones import STEP_S, phone_spans, read_phones
from training.scores.figures import Row, figures_of
from training.scores.legacy import Legacy
from training.scores.metrics import ClipMetrics, ClipScore, clip_metrics
from training.scores.offline import Request, animate_clips
from training.scores.tables import json_value

Predict = Callable[[Clip], NDArray[Any]]
"""A clip -> its frames (T, 68, 2) in pixels of the clip's crop."""
Closures = Mapping[str, list[tuple[float, float]]]
"""Spans (s) of p, b and m by clip."""

CLOSED_LIPS: Final = ("P", "B", "M")
GROUP_S: Final = 60
"""Seconds of sound that are read before predictors run on them together."""


@dataclass
class Result:
    """One predictor's scores: of each clip, and the ``legacy_*`` metrics, which are of batches."""

    clips: list[ClipScore] = field(default_factory=list[ClipScore])
    legacy: dict[str, float] = field(default_factory=lambda: Legacy().row)

    @property
    def row(self) -> Row:
        """The set's figures by name, ``legacy_*`` too."""
        return {**figures_of(self.clips), **self.legacy}

    @property
    def json(self) -> dict[str, Any]:
        """A list a column over the clips, to a millionth, null where a metric is undefined."""
        rows = [{**vars(clip), **vars(clip.metrics)} for clip in self.clips]
        columns = {
            name: [_json(row[name]) for row in rows] for name in rows[0] if name != "metrics"
        }
        return {"clips": columns, "legacy": {name: _json(v) for name, v in self.legacy.items()}}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """What :attr:`json` gave. Raises TypeError where it has other metrics than today's."""
        clips: list[ClipScore] = []
        names = list(kept["clips"])
        for values in zip(*kept["clips"].values(), strict=True):
            row = dict(zip(names, values, strict=True))
            labels = {f.name: row.pop(f.name, None) for f in fields(ClipScore)[:-1]}
            metrics: dict[str, Any] = {k: nan if v is None else v for k, v in row.items()}
            clips.append(ClipScore(**labels, metrics=ClipMetrics(**metrics)))
        legacy = {name: nan if value is None else value for name, value in kept["legacy"].items()}
        return cls(clips, legacy)


def _json(value: Any) -> Any:
    return json_value(round(value, 6) if isinstance(value, float) else value)


@dataclass(frozen=True)
class Model:
    """An animator as a predictor, at one hop and look-ahead (frames).

    ``labelled``: it gets the clip's label at weight 1, and the speaker's neutral face where it is
    known, as in training. Without it the emotion is neutral.
    """

    animator: Animator
    hop: int = 3
    lookahead: int = 3
    labelled: bool = False

    def __call__(self, clip: Clip) -> NDArray[np.float32]:
        """The clip's frames (T, 68, 2) in pixels of its crop."""
        return next(self.frames([clip]))

    def frames(self, clips: Iterable[Clip]) -> Iterator[NDArray[np.float32]]:
        """The frames of one clip after another, the windows of several in a batch."""
        requests = (request_of(clip, labelled=self.labelled) for clip in clips)
        return animate_clips(self.animator.engine, requests, self.hop, self.lookahead)


def request_of(clip: Clip, *, labelled: bool) -> Request:
    """What a network is given of a clip; ``labelled`` as of :class:`Model`."""
    if not labelled:
        return clip.audio, clip.identity, {}
    known = clip.emotion not in (None, "neutral")
    emotion = {clip.emotion: 1.0} if known and clip.emotion else {}
    return clip.audio, clip.identity if clip.neutral is None else clip.neutral, emotion


def score_predictors(
    clips: Iterable[Clip],
    predictors: Mapping[str, Predict],
    closures: Closures | None = None,
) -> dict[str, Result]:
    """Scores every predictor on every clip in one pass. Raises DataError without a clip."""
    results = {name: Result() for name in predictors}
    legacies = {name: Legacy() for name in predictors}
    for group in grouped(clips):
        for name, predict in predictors.items():
            frames = predict.frames(group) if isinstance(predict, Model) else map(predict, group)
            for clip, predicted in zip(group, frames, strict=True):
                count = min(len(predicted), len(clip.points))
                legacies[name].add(predicted[:count], clip.points[:count])
                results[name].clips.append(score_clip(clip, predicted, closures or {}))
    for name, result in results.items():
        result.legacy = legacies[name].row
        if not result.clips:
            raise DataError("no clips to score; wanted at least one")
    return results


def score_clip(clip: Clip, predicted: NDArray[Any], closures: Closures) -> ClipScore:
    """A clip's metrics for its predicted frames (T, 68, 2)."""
    count = min(len(predicted), len(clip.points))
    metrics = clip_metrics(predicted, clip.points, clip.identity, closures.get(clip.name, []))
    return ClipScore(clip.name, clip.speaker, clip.emotion, clip.level, count, metrics)


def grouped(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    """The clips in groups of about a minute of sound."""
    group: list[Clip] = []
    for clip in clips:
        group.append(clip)
        if sum(len(c.audio) for c in group) >= GROUP_S * SAMPLE_RATE:
            yield group
            group = []
    if group:
        yield group


def score_predictor(
    clips: Iterable[Clip], predict: Predict, closures: Closures | None = None
) -> Result:
    """Scores one predictor; see :func:`score_predictors`."""
    return score_predictors(clips, {"": predict}, closures)[""]


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


def own_mean(clip: Clip) -> NDArray[np.float64]:
    """A still face at the mean of the clip's own frames: what the mouth's place alone is worth."""
    mean = align(clip.points, clip.identity).mean(axis=0)
    return np.repeat(mean[None], len(clip.points), axis=0)


def rounded_truth(clip: Clip) -> NDArray[np.float64]:
    """The truth rounded to whole pixels."""
    return np.round(clip.points)


def references(constant: NDArray[np.float64] | None) -> dict[str, Predict]:
    """The rows beside every result; ``constant`` as of :func:`mean_displacement`."""
    rows: dict[str, Predict] = {"copy identity": partial(constant_face, displacement=0.0)}
    if constant is not None:
        rows["best constant"] = partial(constant_face, displacement=constant)
    return {**rows, "still at own mean": own_mean, "floor": rounded_truth}


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
