"""A mouth at rest: windows in which nobody speaks, or speech pauses or stops."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE, WINDOW
from training import phones
from training.data import sounds

Array = NDArray[np.float32]
STEPS: Final = np.arange(50) / 50
"""Seconds of a window at which phones are asked for: the encoder's steps."""
SETTLE_S: Final = 0.2
"""Seconds that a face takes to come to rest after sound stops."""
PARTS_S: Final = 0.1
"""Seconds for which lips part before a pause ends."""
PAUSES_S: Final = (0.35, 0.8)


def to_rest(
    rng: np.random.Generator,
    audio: Array,
    target: NDArray[np.float64],
    spoken: phones.Track,
    times: NDArray[np.float64],
    end: float,
) -> tuple[Array, NDArray[np.float64], Array, phones.Track]:
    """Sound that stops within the window, or holds no speech at all: the face comes to rest,
    where the target, given from there, is 0. Sound (16000,), target (30, 68, 2), which frames are
    known (30,), and phones; ``times`` (30,) and the clip's ``end`` are in its seconds.
    """
    if rng.random() < 0.5:
        kind = rng.random()
        audio = np.zeros_like(audio)
        if kind < 0.3:
            audio = rng.normal(0, 10 ** rng.uniform(-4.5, -2.6), WINDOW).astype(np.float32)
        elif kind < 0.9:
            audio = sounds.no_speech(rng, WINDOW)
            if rng.random() < 0.5:  # a stream's first second begins with silence
                audio[: rng.integers(WINDOW)] = 0
        return audio, np.zeros_like(target), np.ones(len(times), np.float32), np.zeros_like(spoken)
    return _to_pause(rng, audio, target, spoken, times, end)


def _to_pause(
    rng: np.random.Generator,
    audio: Array,
    target: NDArray[np.float64],
    spoken: phones.Track,
    times: NDArray[np.float64],
    end: float,
) -> tuple[Array, NDArray[np.float64], Array, phones.Track]:
    """Sound that falls silent, or by 36 dB or more, and may come back: the lips close, and part
    shortly before it does.
    """
    start = min(end, times[0] + rng.uniform(0.1, 0.95))
    back = start + rng.uniform(*PAUSES_S) if rng.random() < 0.5 else math.inf
    left = 0.0 if rng.random() < 0.5 else 10 ** rng.uniform(-3.0, -1.8)
    fade = rng.uniform(0.0, 0.08)
    at = times[0] + np.arange(WINDOW) / SAMPLE_RATE

    def open_at(t: NDArray[np.float64], falls: float, rises: float) -> NDArray[np.float64]:
        """1 until the pause, 0 within ``falls`` seconds of it, and 1 again from its end on."""
        falling = np.clip(1 - (t - start) / max(falls, 1e-9), 0, 1)
        return np.maximum(falling, np.clip(1 - (back - t) / max(rises, 1e-9), 0, 1))

    audio = (audio * np.maximum(left, open_at(at, fade, fade))).astype(np.float32)
    target = target * open_at(times, SETTLE_S, PARTS_S)[:, None, None]
    silent = (times[0] + STEPS >= start) & (times[0] + STEPS < back)
    known = (times >= 0) & ((times <= end + 1e-9) | (times < back))
    return audio, target, known.astype(np.float32), np.where(silent, 0, spoken).astype(np.uint8)
