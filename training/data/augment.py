"""Augmentation: what is done to a window's sound and face, each by a named chance.

Speed and edges decide where in a clip a window lies: :mod:`training.data.windows` does these.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from kfusion import emotion
from kfusion.config import SAMPLE_RATE, WINDOW
from kfusion.errors import DataError
from kfusion.landmarks import CROP, MIRROR, NEUTRAL, lip_gap, mirrored, to_canonical
from training.data import sounds
from training.data.batch import TrainingWindow
from training.data.pauses import add_pause
from training.data.time_stretch import pitched

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """The chance of each, for a window; the ranges stand in :data:`ON` and in the code.

    gain, noise, speed, pitch: of the sound; noise may be music; drift: a level that wanders within
    the window; channel: another room, microphone or line; babble: other voices behind; vtlp: range
    of the stretching of the mel axis.
    mirror, face: the mirror image, and an identity of another shape.
    edges: windows that hang over a clip's ends; rest: speech that stops or pauses, or silence,
    noise, a hum or music instead of it.
    emotion: a neutral clip is given a random emotion, and the displacement and articulation of
    :mod:`kfusion.emotion` for it.
    """

    gain: float = 0.0
    drift: float = 0.0
    noise: float = 0.0
    speed: float = 0.0
    pitch: float = 0.0
    channel: float = 0.0
    babble: float = 0.0
    vtlp: float = 0.0
    mirror: float = 0.0
    face: float = 0.0
    edges: float = 0.0
    rest: float = 0.0
    emotion: float = 0.0
    gain_db: tuple[float, float] = (-22.0, 6.0)
    noise_snr_db: tuple[float, float] = (8.0, 45.0)
    babble_snr_db: tuple[float, float] = (6.0, 25.0)
    speeds: tuple[float, ...] = (0.8, 0.86, 0.93, 1.08, 1.17, 1.25)
    pitches: tuple[float, ...] = (0.8, 0.9, 1.1, 1.25)


PLAIN: Final = Augmentation()
ON: Final[dict[str, float]] = {
    "gain": 1.0,
    "drift": 0.5,
    "noise": 0.5,
    "speed": 0.8,
    "pitch": 0.1,  # it costs ten times what the others do
    "channel": 0.4,
    "babble": 0.15,
    "vtlp": 0.15,
    "mirror": 0.5,
    "face": 0.6,
    "edges": 1.0,
    "rest": 0.2,
    "emotion": 0.5,
}
"""What a name without a number stands for."""
OF_SOUND: Final = (
    "gain", "drift", "noise", "speed", "pitch", "channel", "babble", "edges", "rest"
)  # fmt: skip
"""Those after which a window's sound is no longer a second of its clip."""
DRIFT_DB: Final = 6.0
DRIFT_STEP: Final = SAMPLE_RATE // 5
FEATURES: Final = (0, 17, 22, 27, 36, 42, 48)
"""The first points of the jaw, the brows, the nose, the eyes and the mouth."""
FEATURE_SIZES: Final = np.diff([*FEATURES, 68])
FEATURE_OF: Final = np.repeat(np.arange(len(FEATURES)), FEATURE_SIZES)
PARTING: Final = np.zeros(68)
"""How far down each point goes where lips part, against the lower lip; the upper lip goes up."""
PARTING[[50, 51, 52, 61, 62, 63]] = -1.0
PARTING[[49, 53]] = -0.5
PARTING[[55, 59]] = 0.5
PARTING[[7, 8, 9, 56, 57, 58, 65, 66, 67]] = 1.0

AROUND: Final = np.hanning(25)[1:-1]
"""Weights of frames around one: 0.4 s either way."""


def parse_augmentation(names: Sequence[str]) -> Augmentation:
    """["gain", "noise=0.3", ...] -> those switched on. Raises DataError for an unknown name."""
    values: dict[str, Any] = {}
    for text in names:
        name, _, number = text.partition("=")
        try:
            values[name] = float(number) if number else ON[name]
        except (KeyError, ValueError):
            wanted = ", ".join(ON)
            raise DataError(f"augmentation {text!r}; wanted NAME or NAME=0.3 of {wanted}") from None
        if name not in ON or not 0 <= values[name] <= 1:
            raise DataError(f"augmentation {text!r}; wanted 0 to 1 for one of {', '.join(ON)}")
    return replace(PLAIN, **values)


def augment(
    rng: np.random.Generator,
    window: TrainingWindow,
    chances: Augmentation,
    babble: Callable[[np.random.Generator], Array],
) -> TrainingWindow:
    """The window with what is switched on done to it.

    ``babble`` draws the sum of several other voices, (16000,) of any power.
    """
    if rng.random() < chances.rest:
        window = add_pause(rng, window)
    audio = window.audio
    if rng.random() < chances.babble:
        audio = mixed(audio, babble(rng), rng.uniform(*chances.babble_snr_db))
    window = replace(window, audio=_augment_sound(rng, audio, chances))
    window = _augment_face(rng, window, chances)
    return replace(window, stretch=1 + chances.vtlp * rng.uniform(-1, 1))


def _augment_sound(rng: np.random.Generator, audio: Array, chances: Augmentation) -> Array:
    """Drift, pitch, channel, noise and gain, (16000,) -> (16000,)."""
    if rng.random() < chances.drift:
        audio = audio * drift(rng, len(audio))
    if rng.random() < chances.pitch:
        ratio = chances.pitches[rng.integers(len(chances.pitches))]
        audio = pitched(torch.from_numpy(audio), ratio).numpy()
    if rng.random() < chances.channel:
        audio = sounds.random_channel(rng, audio)
    if rng.random() < chances.noise:
        background = sounds.background(rng, WINDOW)
        audio = mixed(audio, background, rng.uniform(*chances.noise_snr_db))
    if rng.random() < chances.gain:
        audio = audio * np.float32(10 ** (rng.uniform(*chances.gain_db) / 20))
    return audio.astype(np.float32, copy=False)


def _augment_face(
    rng: np.random.Generator, window: TrainingWindow, chances: Augmentation
) -> TrainingWindow:
    """The mirror image, another identity, and an emotion for a neutral clip."""
    identity, target, label = window.identity, window.target, window.emotion
    if rng.random() < chances.mirror:
        identity = mirrored(identity)
        target = target.take(MIRROR, axis=1) * [-1, 1]
    if rng.random() < chances.face:
        identity = random_face(rng, identity)
    if label[emotion.NEUTRAL_INDEX] == 1 and rng.random() < chances.emotion:
        label = random_emotion(rng)
        share = float(emotion.articulation(label))
        target = opened_further(target, share) + emotion.displacement(label)
    return replace(window, identity=identity, target=target, emotion=label)


def drift(rng: np.random.Generator, count: int) -> Array:
    """Factors (count,) of a level that is drawn anew, 6 dB about its own, every fifth of a second
    and goes from one to the next.

    How loud a syllable is tells how wide the mouth opens in words that are read one by one, and
    hardly in talk.
    """
    knots = np.clip(rng.normal(0, DRIFT_DB, math.ceil(count / DRIFT_STEP) + 1), -12, 12)
    at = np.arange(count) / DRIFT_STEP
    decibels = np.interp(at, np.arange(len(knots)), knots)
    return (10 ** (decibels / 20)).astype(np.float32)


def mixed(audio: Array, other: Array, snr_db: float) -> Array:
    """Both, ``other`` (of any power) so much quieter; behind silence it has -100 dB."""
    power = float(audio @ audio) / len(audio)
    wanted = power / 10 ** (snr_db / 10) if power >= 1e-10 else 1e-10
    has = float(other @ other) / len(other)
    return (audio + other * math.sqrt(wanted / max(has, 1e-12))).astype(np.float32, copy=False)


def opened_further(
    displacements: NDArray[np.float64], share: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Displacements (T, 68, 2) with lips that part by ``share`` further, half each way."""
    further = displacements.copy()
    further[..., 1] += (share / 2 * lip_gap(displacements))[:, None] * PARTING
    return further


def brisker(displacements: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Displacements (T, 68, 2) of lips that part further where they part more than on the whole of
    the 0.8 s around, and less where less: by ``share`` of how much more or less, at most twice.
    """
    if not len(displacements):
        return displacements
    gap, side = lip_gap(displacements), len(AROUND) // 2
    around = np.convolve(np.pad(gap, side, mode="edge"), AROUND / AROUND.sum(), "valid")
    more = (gap - around) / np.maximum(around, 1.0)
    return opened_further(displacements, np.clip(share * more, -1, 1))


def random_emotion(rng: np.random.Generator) -> Array:
    """One emotion at a random weight, or a mixture of several, or one in full."""
    others = [i for i in range(8) if i != emotion.NEUTRAL_INDEX]
    label = np.zeros(8)
    kind = rng.random()
    if kind < 0.3:
        label[rng.choice(others)] = 1.0
    elif kind < 0.7:
        label[rng.choice(others)] = rng.uniform(0, 1)
    else:
        label[others] = rng.dirichlet(np.full(len(others), 0.5)) * rng.uniform(0, 1)
    label[emotion.NEUTRAL_INDEX] = 1 - label.sum()
    return label.astype(np.float32)


def random_face(rng: np.random.Generator, identity: Array) -> Array:
    """The identity with its features moved and stretched, or the canonical face; canonical."""
    face = NEUTRAL if rng.random() < 0.3 else identity.astype(np.float64)
    centre = face.mean(axis=0)
    face = centre + (face - centre) * rng.uniform(0.88, 1.12, 2)
    middles = np.add.reduceat(face, FEATURES, axis=0) / FEATURE_SIZES[:, None]
    stretched = (face - middles[FEATURE_OF]) * rng.uniform(0.9, 1.1, middles.shape)[FEATURE_OF]
    face = (middles + rng.normal(0, 1.5, middles.shape))[FEATURE_OF] + stretched
    return to_canonical(face).apply(np.clip(face, -CROP, 2 * CROP)).astype(np.float32)
