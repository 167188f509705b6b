"""Clips' scores with given metrics."""

from dataclasses import replace

import numpy as np

from kfusion.landmarks import NEUTRAL
from training.scores.metrics import ClipScore, clip_metrics

FACES = np.repeat(NEUTRAL[None], 4, axis=0)
PLAIN = replace(clip_metrics(FACES, FACES, NEUTRAL), closures_right=0, closures_shown=0)


def clip(
    name: str = "a", speaker: str = "s", emotion: str | None = None, **metrics: float
) -> ClipScore:
    return ClipScore(name, speaker, emotion, None, 4, replace(PLAIN, **metrics))
