"""Noise, hum and music, and the effect of a room, a microphone or a line on a voice.

Noise, hum and music have unit power. The banks are the same in every process.
"""

import math
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kfusion.config import SAMPLE_RATE

Array = NDArray[np.float32]
Rng = np.random.Generator
BANK_S: Final = 40
"""Seconds of music; of noise half as much at each slope."""
FFT: Final = 20_480
"""Samples: a second, and an echo of 0.28 s."""
ROOMS: Final = 64


def coloured_noise(rng: Rng, count: int) -> Array:
    """Noise whose spectrum falls by 0 to 6 dB an octave: a piece of a fixed bank."""
    bank = _noise_bank()
    return _piece(rng, bank[rng.integers(len(bank))], count)


def hum(rng: Rng, count: int) -> Array:
    """Mains or a motor: 40 to 400 Hz with harmonics that fall off."""
    pitch = rng.choice([50.0, 60.0, 100.0, rng.uniform(40, 400)])
    harmonics = np.arange(1, 9)
    sizes = harmonics ** -rng.uniform(0.3, 2.0) * rng.uniform(0.3, 1, 8)
    turns = np.arange(4096)[:, None] / 4096 * harmonics + rng.random(8)
    period = (np.sin(2 * np.pi * turns) @ sizes).astype(np.float32)
    at = (np.arange(count) * (pitch * 4096 / SAMPLE_RATE)).astype(np.int64)
    return _unit(period.take(at & 4095))


def music(rng: Rng, count: int) -> Array:
    """Chords and tunes, struck, plucked and bowed, with and without drums: a piece of a bank."""
    return _piece(rng, _music_bank(), count)


def no_speech(rng: Rng, count: int) -> Array:
    """Noise, a hum or music, from barely output to as loud as a voice: -74 to -18 dB rms."""
    kind = (coloured_noise, hum, music, music)[rng.integers(4)]
    return kind(rng, count) * np.float32(10 ** rng.uniform(-3.7, -0.9))


def background(rng: Rng, count: int) -> Array:
    """What a microphone hears besides a voice: mostly noise, at times music or a hum."""
    kind = (*[coloured_noise] * 7, hum, music, music)[rng.integers(10)]
    return kind(rng, count)


def random_channel(rng: Rng, audio: Array) -> Array:
    """(16000,) as another room, microphone or line would have given it: colour, band, echo."""
    octaves, knots = _octaves()
    decibels = rng.normal(0, 4.0, len(knots)).astype(np.float32) @ knots
    if rng.random() < 0.4:  # a line: 24 dB an octave below its band, 48 above
        low, high = math.log2(rng.uniform(80, 400) / 40), math.log2(rng.uniform(2800, 7000) / 40)
        decibels -= 24 * np.maximum(0, low - octaves) + 48 * np.maximum(0, octaves - high)
    response = np.exp(decibels * np.float32(math.log(10) / 20))
    if rng.random() < 0.5:
        response = response * _rooms()[rng.integers(ROOMS)]
    output = np.fft.irfft(np.fft.rfft(audio, FFT) * response, FFT)[: len(audio)]
    power, input_power = float(output @ output), float(audio @ audio)
    return (output * math.sqrt(input_power / max(power, 1e-12))).astype(np.float32, copy=False)


@lru_cache(1)
def _octaves() -> tuple[Array, Array]:
    """Of the FFT's bins: octaves above 40 Hz (bins,), and what each of six knots adds (6, bins)."""
    hertz = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(hertz, 40.0) / 40.0)
    at = octaves / octaves[-1] * 5
    knots = np.maximum(0, 1 - np.abs(at - np.arange(6)[:, None]))
    return octaves.astype(np.float32), knots.astype(np.float32)


@lru_cache(1)
def _rooms() -> NDArray[np.complex64]:
    """Spectra of impulse responses with tails that fall by 60 dB in 0.1 to 0.6 s."""
    rng, spectra = np.random.default_rng(2), []
    for _ in range(ROOMS):
        count = int(rng.uniform(0.1, 0.6) * SAMPLE_RATE)
        tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
        tail[: SAMPLE_RATE // 500] = 0
        tail *= math.sqrt(10 ** (-rng.uniform(0, 15) / 10) / float(tail @ tail))
        tail[0] = 1
        tail = tail[: FFT - SAMPLE_RATE]
        spectra.append(np.fft.rfft(tail, FFT).astype(np.complex64))
    return np.stack(spectra)


def _piece(rng: Rng, bank: Array, count: int) -> Array:
    start = int(rng.integers(len(bank) - count))
    return _unit(bank[start : start + count])


def _unit(sound: Array) -> Array:
    return sound / np.float32(math.sqrt(sound @ sound / len(sound) + 1e-12))


@lru_cache(1)
def _noise_bank() -> Array:
    """Twenty seconds at each of five slopes."""
    count = BANK_S // 2 * SAMPLE_RATE
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(count, np.float32))
    frequency = np.maximum(np.arange(len(spectrum)), count // 800)  # flat below 20 Hz
    slopes = [0, 0.25, 0.5, 0.75, 1.0]
    return np.stack([np.fft.irfft(spectrum * frequency**-s, count) for s in slopes]).astype("f4")


@lru_cache(1)
def _music_bank() -> Array:
    """Phrases of four seconds, each with its own tempo, scale, instruments and drums."""
    rng, phrase = np.random.default_rng(1), 4 * SAMPLE_RATE
    return np.concatenate([_phrase(rng, phrase) for _ in range(BANK_S // 4)]).astype(np.float32)


def _phrase(rng: Rng, count: int) -> NDArray[Any]:
    sound = np.zeros(count)
    beat = int(SAMPLE_RATE * 60 / rng.uniform(70, 160) / rng.choice([1, 2]))
    scale = np.array(rng.choice([[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10]]))
    key = rng.integers(40, 60)
    held, bright = rng.random() < 0.4, rng.uniform(0.8, 2.2)
    for start in range(0, count, beat):
        for _ in range(rng.integers(0, 4)):
            note = key + 12 * rng.integers(0, 3) + rng.choice(scale)
            length = min(count - start, int(beat * rng.choice([1, 2, 4])))
            sound[start : start + length] += _note(rng, note, length, bright, held=held)
        if rng.random() < 0.5:
            length = min(count - start, SAMPLE_RATE // 6)
            drum = rng.standard_normal(length) * np.exp(-np.arange(length) / rng.uniform(100, 900))
            sound[start : start + length] += drum * rng.uniform(0.2, 1.0)
    return sound / (np.sqrt(np.mean(sound**2)) + 1e-9)


def _note(rng: Rng, note: int, count: int, bright: float, *, held: bool) -> NDArray[Any]:
    """A tone with harmonics, held with a vibrato or struck and dying away."""
    times = np.arange(count) / SAMPLE_RATE
    pitch = 440 * 2 ** ((note - 69) / 12)
    harmonics = np.arange(1, max(2, min(12, int(7000 / pitch))))
    turn = 2 * np.pi * pitch * times
    if held:
        turn = turn + 0.15 * np.sin(2 * np.pi * rng.uniform(4, 6) * times) * rng.random()
    tone = np.sin(np.outer(turn, harmonics)) @ harmonics**-bright
    fall = rng.uniform(0.3, 3.0)
    shape = np.minimum(1, times / 0.05) if held else np.exp(-times / fall)
    return tone * shape * np.minimum(1, (count - np.arange(count)) / 400)
