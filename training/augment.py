"""What training does to sound and faces, each by a named chance; nothing unless asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from kfusion import emotion
from kfusion.config import FPS, SAMPLE_RATE, WINDOW
from kfusion.errors import DataError
from kfusion.landmarks import CROP, NEUTRAL, to_canonical
from kfusion.torchaudio_python import torchaudio
from training.corpus import Corpus, Entry

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """The chance of each, for a window; the ranges stand in :data:`ON` and in the code.

    gain, noise, speed, pitch: of the sound; vtlp: range of the stretching of the mel axis.
    mirror, face: the mirror image, and an identity of another shape.
    edges: windows that hang over a clip's ends; rest: sound that stops, or silence throughout.
    emotion: a neutral clip is given a random emotion and the displacement of
    :mod:`kfusion.emotion` for it.
    """

    gain: float = 0.0
    noise: float = 0.0
    speed: float = 0.0
    pitch: float = 0.0
    vtlp: float = 0.0
    mirror: float = 0.0
    face: float = 0.0
    edges: float = 0.0
    rest: float = 0.0
    emotion: float = 0.0
    gain_db: tuple[float, float] = (-22.0, 6.0)
    noise_snr_db: tuple[float, float] = (12.0, 45.0)
    speeds: tuple[float, ...] = (0.86, 0.93, 1.08, 1.17)
    pitches: tuple[float, ...] = (0.8, 0.9, 1.1, 1.25)


PLAIN: Final = Augmentation()
ON: Final[dict[str, float]] = {
    "gain": 1.0,
    "noise": 0.5,
    "speed": 0.8,
    "pitch": 0.1,  # it costs ten times what the others do
    "vtlp": 0.12,
    "mirror": 0.5,
    "face": 0.6,
    "edges": 1.0,
    "rest": 0.2,
    "emotion": 0.5,
}
"""What a name without a number stands for."""
PITCH_FFT: Final = 512
FEATURES: Final = (0, 17, 22, 27, 36, 42, 48)
"""The first points of the jaw, the brows, the nose, the eyes and the mouth."""
FEATURE_SIZES: Final = np.diff([*FEATURES, 68])
FEATURE_OF: Final = np.repeat(np.arange(len(FEATURES)), FEATURE_SIZES)


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
    """Windows of a clip's sound at a speed, and what is done to them, through torchaudio."""

    def __init__(self, a: Augmentation) -> None:
        self.a = a

    def window(self, corpus: Corpus, entry: Entry, first: int, speed: float) -> Array:
        """(16000,) samples from frame ``first`` on of the clip played ``speed`` times as fast."""
        start = round(first * SAMPLE_RATE / FPS * speed)
        if speed == 1.0:
            return corpus.sound(entry, start, WINDOW)
        # Around the window lies as much more as the resampling filter sees.
        more = 160
        source = corpus.sound(entry, start - more, round(WINDOW * speed) + 2 * more)
        with torch.inference_mode():
            taken = _resample(round(100 * speed), 100)(torch.from_numpy(source)).numpy()
        skip = round(more / speed)
        return taken[skip : skip + WINDOW]

    def augmented(self, rng: np.random.Generator, audio: Array) -> Array:
        """Pitch, noise and gain, (16000,) -> (16000,)."""
        a = self.a
        if rng.random() < a.pitch:
            with torch.inference_mode():
                ratio = float(rng.choice(a.pitches))
                audio = pitched(torch.from_numpy(audio), ratio).numpy()
        if rng.random() < a.noise:
            noise = coloured_noise(rng, WINDOW)
            snr = rng.uniform(*a.noise_snr_db)
            # In silence there is nothing to be louder than: noise of -100 dB.
            if float(np.square(audio).mean()) < 1e-10:
                audio = (audio + 1e-5 * noise).astype(np.float32)
            else:
                audio = (
                    _torchaudio()
                    .functional.add_noise(
                        torch.from_numpy(audio), torch.from_numpy(noise), torch.tensor(snr)
                    )
                    .numpy()
                )
        if rng.random() < a.gain:
            db = rng.uniform(*a.gain_db)
            audio = _torchaudio().functional.gain(torch.from_numpy(audio), db).numpy()
        return audio.astype(np.float32, copy=False)


@lru_cache(1)
def _torchaudio() -> Any:
    return torchaudio()


@lru_cache(32)
def _resample(played: int, rate: int) -> Any:
    """Resampling by a ratio of small numbers, its filter kept."""
    return _torchaudio().transforms.Resample(played, rate)


def pitched(audio: torch.Tensor, ratio: float) -> torch.Tensor:
    """(N,) at the same speed and ``ratio`` times the pitch: a phase vocoder, then resampling.

    As torchaudio's pitch_shift, whose semitones want resampling filters of many thousand taps.
    """
    window = torch.hann_window(PITCH_FFT)
    hop = PITCH_FFT // 4
    spectrum = torch.stft(audio, PITCH_FFT, hop, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * hop, spectrum.shape[0])[:, None]
    slowed = _torchaudio().functional.phase_vocoder(spectrum, 1 / ratio, advance)
    longer = torch.istft(slowed, PITCH_FFT, hop, window=window, length=round(len(audio) * ratio))
    return _resample(round(100 * ratio), 100)(longer)[: len(audio)]


def coloured_noise(rng: np.random.Generator, count: int) -> Array:
    """Noise of unit power whose spectrum falls by 0 to 6 dB an octave: a piece of a fixed bank."""
    bank = _noise_bank()
    start = int(rng.integers(bank.shape[1] - count))
    noise = bank[rng.integers(len(bank)), start : start + count]
    return noise / np.sqrt(np.mean(noise**2))


@lru_cache(1)
def _noise_bank() -> Array:
    """Twenty seconds at each of five slopes, the same in every process."""
    count = 20 * SAMPLE_RATE
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(count, np.float32))
    frequency = np.maximum(np.arange(len(spectrum)), count // 800)  # flat below 20 Hz
    slopes = [0, 0.25, 0.5, 0.75, 1.0]
    return np.stack([np.fft.irfft(spectrum * frequency**-s, count) for s in slopes]).astype("f4")


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
