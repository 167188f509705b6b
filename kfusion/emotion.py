"""The eight emotions, the weight vector and its ramp, and each emotion as facial action units.

On the face an emotion is a set of action units (AUs) of the Facial Action Coding System (Ekman,
Friesen & Hager 2002), combined as in EMFACS. An AU moves points by shares of the inter-ocular
distance; the table is this project's own reading of FACS's descriptions.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.errors import BadEmotion
from kfusion.landmarks import COUNT, MIRROR, NEUTRAL_INTER_OCULAR

EMOTIONS: Final = (
    "angry",
    "contempt",
    "disgusted",
    "fear",
    "happy",
    "neutral",
    "sad",
    "surprised",
)
NEUTRAL_INDEX: Final = EMOTIONS.index("neutral")

CREMA_D: Final = {
    "ANG": "angry",
    "DIS": "disgusted",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
"""CREMA-D's six codes (third field of a file name, 1001_DFA_ANG_XX)."""

RAVDESS: Final = {
    1: "neutral",
    2: "neutral",  # calm
    3: "happy",
    4: "sad",
    5: "angry",
    6: "fear",
    7: "disgusted",
    8: "surprised",
}
"""RAVDESS's eight codes (third field of a file name); calm has no slot of its own."""

Vector = NDArray[np.float32]
"""Emotion weights in the order of :data:`EMOTIONS`, shape (8,), summing to 1."""

# What each action unit at full strength moves, in % of the inter-ocular distance:
# {point: (x, y)} on the image's left half (x < 0 is outward, y < 0 is up) and the midline;
# the other half is the mirror image.
# fmt: off
_ACTION_UNITS: Final[dict[int, dict[int, tuple[float, float]]]] = {
    1: {19: (0, -1.6), 20: (0, -4.2), 21: (0, -5.6)},  # inner brow raiser
    2: {17: (0, -3.6), 18: (0, -5.0), 19: (0, -4.0), 20: (0, -1.6)},  # outer brow raiser
    4: {17: (0.2, 1.5), 18: (0.5, 2.5), 19: (0.9, 3.9), 20: (1.6, 5.1),
        21: (2.0, 5.6)},  # brow lowerer
    5: {37: (0, -1.7), 38: (0, -1.7)},  # upper lid raiser
    6: {40: (0, -1.1), 41: (0, -1.2), 37: (0, 0.3), 38: (0, 0.3), 20: (0.3, 0),
        21: (0.45, 0)},  # cheek raiser
    7: {37: (0, 0.6), 38: (0, 0.6), 40: (0, -0.9), 41: (0, -0.9)},  # lid tightener
    9: {19: (0.2, 1.0), 20: (0.5, 2.0), 21: (0.8, 2.6), 31: (-0.4, -1.6), 32: (0, -1.4),
        33: (0, -1.2)},  # nose wrinkler
    # Upper lip raiser: the lower lip follows while the lips touch, so the gap stays.
    10: {49: (0, -1.0), 50: (0, -1.7), 51: (0, -1.5), 61: (0, -1.3), 62: (0, -1.3),
         66: (0, -1.3), 67: (0, -1.3), 57: (0, -0.9), 58: (0, -0.9), 59: (0, -0.6)},
    12: {48: (-5.2, -4.6), 60: (-4.8, -4.3), 49: (-2.9, -2.2), 59: (-3.0, -2.0),
         61: (-1.8, -0.8), 67: (-1.8, -0.8), 50: (-1.0, -0.6), 58: (-1.4, -0.6),
         31: (-0.5, -0.3), 4: (-0.7, -0.4), 5: (-0.7, -0.5)},  # lip corner puller
    14: {48: (-2.2, -0.3), 60: (-1.8, -0.3), 49: (-0.8, 0), 59: (-0.8, 0)},  # dimpler
    15: {48: (-0.4, 3.2), 60: (-0.4, 2.9), 49: (-0.2, 1.0), 59: (-0.3, 1.6)},  # corner depressor
    17: {8: (0, -1.0), 7: (0, -0.9), 57: (0, -1.3), 58: (0, -1.2), 59: (0, -0.5), 66: (0, -0.8),
         67: (0, -0.7), 62: (0, -0.8), 61: (0, -0.7), 51: (0, -0.5), 50: (0, -0.4)},  # chin raiser
    20: {48: (-3.6, 0.7), 60: (-3.3, 0.6), 49: (-1.6, 0.1), 59: (-1.8, 0.4), 61: (-1.0, 0),
         67: (-1.0, 0)},  # lip stretcher
    23: {48: (1.0, 0), 60: (0.9, 0), 49: (0.3, 0.6), 50: (0, 0.9), 51: (0, 0.8), 57: (0, -1.0),
         58: (0, -1.0), 59: (0.3, -0.6)},  # lip tightener
    25: {61: (0, -0.5), 62: (0, -0.6), 66: (0, 1.8), 67: (0, 1.6), 57: (0, 1.6), 58: (0, 1.5),
         59: (0, 0.7)},  # lips part
    26: {48: (0.6, 1.2), 60: (0.5, 1.2), 59: (0, 2.6), 58: (0, 4.4), 57: (0, 4.8), 67: (0, 4.2),
         66: (0, 4.6), 8: (0, 5.0), 7: (0, 4.6), 6: (0, 3.6), 5: (0, 2.0), 4: (0, 0.8)},  # jaw drop
}
# fmt: on

# Each emotion as {action unit: strength}; contempt's mouth is one-sided (the left of the image).
_EMOTION_UNITS: Final[dict[str, dict[int, float]]] = {
    "angry": {4: 1.0, 6: 0.3, 7: 1.0, 23: 0.8},
    "contempt": {1: 0.8, 2: 0.8, 7: 0.5, 12: 0.55, 14: 0.7},
    "disgusted": {4: 0.3, 6: 0.3, 7: 0.9, 9: 1.0, 10: 1.0, 15: 0.2, 20: 0.65},
    "fear": {1: 0.6, 2: 0.45, 5: 0.8, 20: 0.6, 25: 0.5, 26: 0.15},
    "happy": {6: 1.0, 12: 1.0},
    "neutral": {},
    "sad": {1: 0.7, 4: 0.5, 6: 0.5, 7: 1.0, 15: 1.0, 17: 0.5},
    "surprised": {1: 1.0, 2: 1.0, 5: 0.9, 25: 0.5, 26: 0.5},
}
_ONE_SIDED: Final[dict[str, tuple[int, ...]]] = {"contempt": (12, 14)}

# By how much further lips part in speech. Lip gaps of three MEAD speakers swing 1.5 to 1.7 times as
# far in anger as in their neutral clips, 1.4 to 1.9 times in fear, 1.2 to 1.7 when happy, 1.1 to
# 2.2 when surprised, 1.0 to 1.5 disgusted; in contempt and sadness they do not agree.
_FURTHER: Final = {
    "angry": 0.6,
    "contempt": 0.0,
    "disgusted": 0.3,
    "fear": 0.5,
    "happy": 0.4,
    "neutral": 0.0,
    "sad": -0.1,
    "surprised": 0.5,
}


def _unit(number: int, *, both: bool = True) -> NDArray[np.float64]:
    move = np.zeros((COUNT, 2))
    for i, (x, y) in _ACTION_UNITS[number].items():
        move[i] += x, y
        if both and MIRROR[i] != i:
            move[MIRROR[i]] += -x, y
    return move / 100


def _table() -> NDArray[np.float64]:
    table = np.zeros((len(EMOTIONS), COUNT, 2))
    for name, units in _EMOTION_UNITS.items():
        for number, strength in units.items():
            move = _unit(number, both=number not in _ONE_SIDED.get(name, ()))
            table[EMOTIONS.index(name)] += strength * move
    table.setflags(write=False)
    return table


DISPLACEMENT: Final = _table()
"""(8, 68, 2): what each emotion at weight 1 moves, in inter-ocular distances."""


ARTICULATION: Final = np.array([_FURTHER[name] for name in EMOTIONS])
"""(8,): by what share lips part further in speech with each emotion at weight 1."""
ARTICULATION.setflags(write=False)


def displacement(weights: NDArray[Any]) -> NDArray[Any]:
    """Emotion vectors (..., 8) -> (..., 68, 2) in pixels of the canonical crop; linear."""
    return np.tensordot(weights, DISPLACEMENT * NEUTRAL_INTER_OCULAR, axes=1)


def articulation(weights: NDArray[Any]) -> NDArray[Any]:
    """Emotion vectors (..., 8) -> by what share lips part further in speech (...); linear."""
    return weights @ ARTICULATION


def vector(weights: Mapping[str, float]) -> Vector:
    """Named weights -> the eight, the rest neutral.

    Raises :class:`~kfusion.errors.BadEmotion` for an unknown name, a weight outside 0..1 or a
    sum above 1 (with 1e-6 to spare).
    """
    full = np.zeros(len(EMOTIONS))
    for name, weight in weights.items():
        if name not in EMOTIONS:
            raise BadEmotion(f"emotion {name!r} is unknown; wanted some of {', '.join(EMOTIONS)}")
        try:
            inside = 0 <= weight <= 1
        except TypeError:
            raise BadEmotion(f"emotion {name!r}: {weight!r} is not a number; wanted 0..1") from None
        if not inside:
            raise BadEmotion(f"emotion {name!r}: weight {weight} is outside 0..1")
        full[EMOTIONS.index(name)] = weight
    total = float(full.sum())
    if total > 1 + 1e-6:
        raise BadEmotion(f"emotion weights sum to {total:.6g}; wanted at most 1")
    full[NEUTRAL_INDEX] += max(0.0, 1 - total)
    return full.astype(np.float32)


def named(weights: NDArray[Any]) -> dict[str, float]:
    """The vector (8,) as {name: weight}, all eight."""
    return {name: float(w) for name, w in zip(EMOTIONS, weights, strict=True)}


@dataclass(frozen=True)
class Ramp:
    """From ``start`` at frame ``n``, linear over ``frames``, to ``target``."""

    n: int
    start: Vector
    target: Vector
    frames: float

    def at(self, n: int) -> Vector:
        if n >= self.n + self.frames:
            return self.target
        share = max(0, n - self.n) / self.frames
        return (self.start + (self.target - self.start) * share).astype(np.float32)


class EmotionCurve:
    """The emotion vector at every frame, from messages that each start a ramp.

    Messages come in frame order; ``at`` accepts any frame at or after the last ``forget``.
    """

    def __init__(self, initial: Vector) -> None:
        self.ramps: deque[Ramp] = deque([Ramp(0, initial, initial, 0.0)])

    def start(self, n: int, target: Vector, frames: float) -> None:
        """Begins a ramp at frame ``n`` from the value the track has there."""
        ramp = Ramp(n, self.at(n), target, frames)
        if self.ramps[-1].n == n:  # nothing was shown of the one before
            self.ramps.pop()
        self.ramps.append(ramp)

    def at(self, n: int) -> Vector:
        """The vector (8,) at frame ``n``."""
        for ramp in reversed(self.ramps):
            if ramp.n <= n:
                return ramp.at(n)
        return self.ramps[0].start

    def forget(self, n: int) -> None:
        """Lets go of what no frame at or after ``n`` can need."""
        while len(self.ramps) > 1 and self.ramps[1].n <= n:
            self.ramps.popleft()

    @property
    def target(self) -> Vector:
        return self.ramps[-1].target
