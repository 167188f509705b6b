"""What training does to sound and faces, each by a named chance; nothing unless asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from kfusion import emotion
from kfusion.config import FPS, SAMPLE_RATE, WINDOW
from kfusion.errors import DataError
from kfusion.landmarks import CROP, NEUTRAL, lip_gap, to_canonical
from kfusion.layers.torchaudio_python import torchaudio
from training.corpus.format import Corpus, Entry
from training.data import sounds

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """The chance of each, for a window; the ranges stand in :data:`ON` and in the code.

    gain, noise, speed, pitch: of the sound; noise may be music; drift: a level that wanders within
    the window; channel: another room, microphone or line; babble: other voices behind; vtlp: range
    of the stretching of the mel axis.
    mirror, face: the mirror image, and an identity of another shape.
    edges: windows that hang over a clip's ends; rest: sound that stops or pauses, or nobody who
    speaks in silence, noise, a hum or music.
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
DRIFT_DB: Final = 6.0
DRIFT_STEP: Final = SAMPLE_RATE // 5
PITCH_FFT: Final = 512
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


def augmentation(names: list[str]) -> Augmentation:
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


class Sound:
    """Windows of a clip's sound at a speed, and what is done to them."""

    def __init__(self, a: Augmentation) -> None:
        self.a = a

    def window(self, corpus: Corpus, entry: Entry, first: int, speed: float) -> Array:
        """(16000,) samples from frame ``first`` on of the clip played ``speed`` times as fast."""
        start = round(first * SAMPLE_RATE / FPS * speed)
        if speed == 1.0:
            return corpus.sound(entry, start, WINDOW)
        kernel, hop = resampling(speed)
        blocks = -(-WINDOW // kernel.shape[1])
        reach = (len(kernel) - hop) // 2
        source = corpus.sound(entry, start - reach, (blocks - 1) * hop + len(kernel))
        return resampled(torch.from_numpy(source), speed).numpy()[:WINDOW]

    def augmented(self, rng: np.random.Generator, audio: Array) -> Array:
        """Drift, pitch, channel, noise and gain, (16000,) -> (16000,)."""
        a = self.a
        if rng.random() < a.drift:
            audio = audio * drift(rng, len(audio))
        if rng.random() < a.pitch:
            ratio = a.pitches[rng.integers(len(a.pitches))]
            audio = pitched(torch.from_numpy(audio), ratio).numpy()
        if rng.random() < a.channel:
            audio = sounds.through_a_channel(rng, audio)
        if rng.random() < a.noise:
            behind = sounds.behind_speech(rng, WINDOW)
            audio = mixed(audio, behind, rng.uniform(*a.noise_snr_db))
        if rng.random() < a.gain:
            audio = audio * np.float32(10 ** (rng.uniform(*a.gain_db) / 20))
        return audio.astype(np.float32, copy=False)


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


@lru_cache(1)
def _torchaudio() -> Any:
    return torchaudio()


@lru_cache(32)
def resampling(speed: float) -> tuple[torch.Tensor, int]:
    """torchaudio's filter for playing ``speed`` (in hundredths) times as fast, and its hop.

    (taps, phases): each run of ``taps`` samples, ``hop`` after the last, makes ``phases`` new ones.
    """
    played = round(100 * speed)
    kernel = _torchaudio().transforms.Resample(played, 100).kernel[:, 0].T.contiguous()
    return kernel, played // math.gcd(played, 100)


def resampled(samples: torch.Tensor, speed: float) -> torch.Tensor:
    """(N,) -> about (N / speed,), as far as whole runs of the filter go.

    The first is at sample ``(taps - hop) / 2``. As torchaudio's Resample, but as one matrix
    product: its convolution takes three times as long for a second of sound.
    """
    kernel, hop = resampling(speed)
    return (samples.unfold(0, len(kernel), hop) @ kernel).flatten()


def pitched(audio: torch.Tensor, ratio: float) -> torch.Tensor:
    """(N,) at the same speed and ``ratio`` times the pitch: slowed, then resampled.

    As torchaudio's pitch_shift, whose semitones want resampling filters of many thousand taps.
    """
    kernel, hop = resampling(ratio)
    reach = (len(kernel) - hop) // 2
    longer = slowed(audio, ratio)
    return resampled(torch.nn.functional.pad(longer, (reach, len(kernel))), ratio)[: len(audio)]


def slowed(audio: torch.Tensor, ratio: float) -> torch.Tensor:
    """(N,) -> (N * ratio,) of the same pitch: torchaudio's phase_vocoder, without angles.

    From one new frame to the next each bin turns by as much as it did between the two frames
    of the sound that lie there; a product of unit numbers costs a fifth of adding up angles.
    """
    window = torch.hann_window(PITCH_FFT)
    hop = PITCH_FFT // 4
    frames = torch.stft(audio, PITCH_FFT, hop, window=window, return_complex=True).T.contiguous()
    frames = torch.nn.functional.pad(frames, (0, 0, 0, 1))
    at = torch.arange(0, len(frames) - 1, 1 / ratio)
    before = at.long()
    units = torch.sgn(frames + 1e-9)  # of silence 1, for from 0 on the product stays 0
    turns = (units[1:] * units[:-1].conj())[before[:-1]]
    phases = torch.cat([units[:1], turns]).cumprod(0)
    sizes = (frames * frames.conj()).real.sqrt()
    sizes = torch.lerp(sizes[before], sizes[before + 1], (at - before)[:, None])
    pieces = torch.fft.irfft(sizes * phases, PITCH_FFT) * window
    whole = _overlapped(pieces, hop) / _overlapped((window**2).expand(pieces.shape), hop)
    return whole[PITCH_FFT // 2 :][: round(len(audio) * ratio)]


def _overlapped(pieces: torch.Tensor, hop: int) -> torch.Tensor:
    """The sum of pieces (K, L) that each begin ``hop``, a part of L, after the last."""
    count, length = pieces.shape
    out = torch.zeros(count + length // hop, hop)
    for k in range(length // hop):
        out[k : k + count] += pieces[:, k * hop : (k + 1) * hop]
    return out.flatten()


def parted(
    displacements: NDArray[np.float64], share: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Displacements (T, 68, 2) with lips that part by ``share`` (of all, or of each frame) further
    than they did, half of it upwards and half downwards.
    """
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
    return parted(displacements, np.clip(share * more, -1, 1))


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


def another_face(rng: np.random.Generator, identity: Array) -> Array:
    """The identity with its features moved and stretched, or the canonical face; canonical."""
    face = NEUTRAL if rng.random() < 0.3 else identity.astype(np.float64)
    centre = face.mean(axis=0)
    face = centre + (face - centre) * rng.uniform(0.88, 1.12, 2)
    middles = np.add.reduceat(face, FEATURES, axis=0) / FEATURE_SIZES[:, None]
    stretched = (face - middles[FEATURE_OF]) * rng.uniform(0.9, 1.1, middles.shape)[FEATURE_OF]
    face = (middles + rng.normal(0, 1.5, middles.shape))[FEATURE_OF] + stretched
    return to_canonical(face).apply(np.clip(face, -CROP, 2 * CROP)).astype(np.float32)
