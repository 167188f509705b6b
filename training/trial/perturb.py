"""Sound unlike that of training: perturbed voices, other people's talk, noise, music.

All at 16 kHz, float32 in -1..1. Levels are root mean squares over the whole of a sound, in dB
under full scale. Everything random is drawn from a seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError
from training.corpus.clips import Samples, read_sound
from training.corpus.splits import split_of_clip
from training.data import augment
from training.data.time_stretch import pitched

PHONE_RATE: Final = 8000
PHONE_BAND: Final = (300.0, 3400.0)
MU: Final = 255.0
HUM: Final = {50: 1.0, 100: 0.7, 150: 0.5, 200: 0.2, 250: 0.3, 300: 0.1, 350: 0.15, 550: 0.05}
"""Amplitudes of mains hum and its harmonics, the odd ones stronger, as rectifiers give."""


def rms(audio: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def at_level(audio: NDArray[Any], dbfs: float) -> Samples:
    """Brought to a root mean square of ``dbfs``; turned down where it would clip."""
    scaled = audio * (10 ** (dbfs / 20) / max(rms(audio), 1e-12))
    return (scaled / max(1.0, float(np.abs(scaled).max()))).astype(np.float32)


# A perturbed voice


def pitch_shifted(audio: Samples, semitones: float) -> Samples:
    """Pitch and formants moved together, the length kept: a phase vocoder, then resampling."""
    with torch.inference_mode():
        return pitched(torch.from_numpy(audio), 2 ** (semitones / 12)).numpy()


def resampled(audio: Samples, speed: float) -> Samples:
    """Played ``speed`` times as fast, as a tape: the pitch goes with it."""
    return soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)


def telephone(audio: Samples) -> Samples:
    """8 kHz, 300-3400 Hz, 8-bit mu-law (ITU-T G.711's curve), and back to 16 kHz."""
    narrow = _band(soxr.resample(audio, SAMPLE_RATE, PHONE_RATE), PHONE_RATE)
    squeezed = np.sign(narrow) * np.log1p(MU * np.minimum(np.abs(narrow), 1)) / np.log1p(MU)
    coded = np.round((squeezed + 1) / 2 * MU) / MU * 2 - 1
    back = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(MU)) / MU
    wide = soxr.resample(back, PHONE_RATE, SAMPLE_RATE)
    return np.pad(wide, (0, max(0, len(audio) - len(wide))))[: len(audio)].astype(np.float32)


def _band(audio: NDArray[Any], rate: int) -> NDArray[Any]:
    """:data:`PHONE_BAND` with edges of a tenth of their frequency, as a raised cosine."""
    frequency = np.fft.rfftfreq(len(audio), 1 / rate)
    low, high = PHONE_BAND
    rise = np.clip((frequency - 0.9 * low) / (0.1 * low), 0, 1)
    fall = np.clip((1.1 * high - frequency) / (0.1 * high), 0, 1)
    weight = (1 - np.cos(np.pi * np.minimum(rise, fall))) / 2
    return np.fft.irfft(np.fft.rfft(audio) * weight, len(audio))


def mixed(audio: Samples, noise: Samples, snr_db: float) -> Samples:
    """Noise under a voice; their levels are those of the whole clips, as long as each other."""
    return np.clip(augment.mixed(audio, noise, snr_db), -1, 1)


def held_out_voices(folder: Path) -> dict[str, list[Path]]:
    """{speaker: sounds} of those whose number keeps them out of training; files begin with it:
    ``103-1240-0000.ogg`` (LibriSpeech) or ``000010011.ogg`` (speechocean762: four digits after
    a leading zero).
    """
    voices: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.ogg")):
        number = path.stem.split("-")[0] if "-" in path.stem else path.stem[1:5]
        if split_of_clip(number) == "validation":
            voices.setdefault(number, []).append(path)
    if not voices:
        raise DataError(f"{folder}: no voices that are held out; wanted .ogg files of speech")
    return voices


def babble(sounds: Sequence[Path], count: int, seed: int, talkers: int = 6) -> Samples:
    """``talkers`` of the sounds at once, (count,), all as loud, repeated from a random place."""
    rng = np.random.default_rng(seed)
    total = np.zeros(count)
    for k in rng.choice(len(sounds), talkers, replace=False):
        voice = read_sound(sounds[k])
        start = int(rng.integers(len(voice)))
        total += np.resize(np.roll(at_level(voice, -26), -start), count)
    return total.astype(np.float32)


# Sound without a voice


def white_noise(seconds: float, dbfs: float, seed: int) -> Samples:
    count = round(seconds * SAMPLE_RATE)
    return at_level(np.random.default_rng(seed).standard_normal(count), dbfs)


def hum(seconds: float, dbfs: float) -> Samples:
    """Mains: 50 Hz and its harmonics."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [level * np.sin(2 * np.pi * f * t + f) for f, level in HUM.items()]
    return at_level(np.sum(tones, axis=0), dbfs)


CHORDS: Final = ((45, 57, 60, 64), (41, 53, 57, 60), (48, 55, 60, 64), (43, 55, 59, 62))
"""A minor, F, C, G as MIDI notes, the bass first."""


def music(seconds: float, dbfs: float, seed: int) -> Samples:
    """An instrumental band: plucked strings in arpeggios, struck bars, a bass, drums.

    Four chords, a bar each, at 90 to 130 beats a minute, transposed by up to three semitones.
    """
    rng = np.random.default_rng(seed)
    beat = 60 / rng.uniform(90, 130)
    shift = int(rng.integers(-3, 4))
    out = np.zeros(round(seconds * SAMPLE_RATE))

    def play(at: float, level: float, note: NDArray[Any]) -> None:
        start = round(at * SAMPLE_RATE)
        note = note[: max(0, len(out) - start)]
        out[start : start + len(note)] += level * note

    for k in range(int(seconds / (beat / 2)) + 1):
        at, step = k * beat / 2, k % 8
        bass, *chord = (n + shift for n in CHORDS[(k // 8) % 4])
        play(at, 0.5, plucked_string(rng, _hertz(chord[step % 3] + 12 * (step // 4)), 1.2))
        if step == 0:
            for note in chord:
                play(at, 0.4, struck_bar(_hertz(note), 2.0))
        if step % 2 == 0:
            play(at, 0.8, plucked_string(rng, _hertz(bass - 12), 0.6))
            play(at, 0.9, kick() if step % 4 == 0 else snare(rng))
        play(at, 0.25, hi_hat(rng))
        if step == 3:
            play(at, 0.5, struck_bar(_hertz(chord[2] + 12), 1.0))
    return at_level(out, dbfs)


def _hertz(note: float) -> float:
    return 440 * 2 ** ((note - 69) / 12)


def plucked_string(rng: np.random.Generator, pitch: float, seconds: float) -> NDArray[np.float64]:
    """A string after Karplus and Strong (1983): noise round a loop that averages neighbours."""
    period = max(2, round(SAMPLE_RATE / pitch))
    loop = rng.uniform(-1, 1, period)
    turns = [loop]
    for _ in range(round(seconds * SAMPLE_RATE) // period):
        loop = 0.498 * (loop + np.roll(loop, 1))
        turns.append(loop)
    return np.concatenate(turns)


def struck_bar(pitch: float, seconds: float) -> NDArray[np.float64]:
    """A bar: partials at a free bar's ratios, the higher ones dying sooner."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    parts = ((1, 1.0, 3.0), (2, 0.4, 5.0), (2.756, 0.35, 8.0), (5.404, 0.2, 14.0))
    return np.sum(
        [a * np.exp(-d * t) * np.sin(2 * np.pi * r * pitch * t) for r, a, d in parts], axis=0
    )


def kick() -> NDArray[np.float64]:
    t = np.arange(round(0.3 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.exp(-12 * t) * np.sin(2 * np.pi * (50 * t + 3 * (1 - np.exp(-30 * t))))


def snare(rng: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(round(0.2 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.exp(-20 * t) * (0.5 * rng.standard_normal(len(t)) + np.sin(2 * np.pi * 190 * t))


def hi_hat(rng: np.random.Generator) -> NDArray[np.float64]:
    t = np.arange(round(0.06 * SAMPLE_RATE)) / SAMPLE_RATE
    return np.exp(-60 * t) * np.diff(rng.standard_normal(len(t) + 1))
