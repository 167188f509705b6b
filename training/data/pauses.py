"""Pauses: an augmentation that takes speech away, with the target at rest and phones silent."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import FRAMES, SAMPLE_RATE, WINDOW
from training.data import sounds
from training.data.batch import TrainingWindow

Array = NDArray[np.float64]
PHONE_TIMES: Final = np.arange(50) / 50
"""Seconds of a window at which its phones are given: the encoder's steps."""
SETTLE_S: Final = 0.2
"""Seconds that a face takes to come to rest after sound stops."""
PARTS_S: Final = 0.1
"""Seconds for which lips part before a pause ends."""
PAUSES_S: Final = (0.35, 0.8)


def add_pause(rng: np.random.Generator, window: TrainingWindow) -> TrainingWindow:
    """The window without any speech, or with speech that stops and may come back."""
    from_rest = replace(window, target=window.target - window.rest_offset)
    silenced = (_no_speech if rng.random() < 0.5 else _stopped)(rng, from_rest)
    return replace(silenced, target=silenced.target + window.rest_offset)


def _no_speech(rng: np.random.Generator, window: TrainingWindow) -> TrainingWindow:
    """Silence, faint noise, or a sound that is not speech."""
    kind = rng.random()
    audio = np.zeros(WINDOW, np.float32)
    if kind < 0.3:
        audio = rng.normal(0, 10 ** rng.uniform(-4.5, -2.6), WINDOW).astype(np.float32)
    elif kind < 0.9:
        audio = sounds.no_speech(rng, WINDOW)
        if rng.random() < 0.5:  # a stream's first second begins with silence
            audio[: rng.integers(WINDOW)] = 0
    return replace(
        window,
        audio=audio,
        target=np.zeros_like(window.target),
        mask=np.ones(FRAMES, np.float32),
        phones=np.zeros_like(window.phones),
    )


def _stopped(rng: np.random.Generator, window: TrainingWindow) -> TrainingWindow:
    """Sound that falls silent or by 36 dB, and may come back: lips close, and part again."""
    begin, end, times = window.times[0], window.end, window.times
    start = min(end, begin + rng.uniform(0.1, 0.95))
    back = start + rng.uniform(*PAUSES_S) if rng.random() < 0.5 else math.inf
    level = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(-3.0, -1.8)
    fade = rng.uniform(0.0, 0.08)

    def open_at(t: Array, falls: float, rises: float) -> Array:
        """1 until the pause, 0 within ``falls`` seconds of it, and 1 again from its end on."""
        falling = np.clip(1 - (t - start) / max(falls, 1e-9), 0, 1)
        return np.maximum(falling, np.clip(1 - (back - t) / max(rises, 1e-9), 0, 1))

    gain = np.maximum(level, open_at(begin + np.arange(WINDOW) / SAMPLE_RATE, fade, fade))
    silent = (begin + PHONE_TIMES >= start) & (begin + PHONE_TIMES < back)
    mask = (times >= 0) & ((times <= end + 1e-9) | (times < back))
    return replace(
        window,
        audio=(window.audio * gain).astype(np.float32),
        target=window.target * open_at(times, SETTLE_S, PARTS_S)[:, None, None],
        mask=mask.astype(np.float32),
        phones=np.where(silent, 0, window.phones).astype(np.uint8),
    )
