from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from kfusion.errors import DataError
from tests.conftest import voice
from training.corpus.splits import split_of_clip
from training.trial import perturb

RATE = 16_000


def tone(pitch: float, seconds: float = 1.0) -> NDArray[np.float32]:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


def loudest(audio: NDArray[np.float32]) -> float:
    """Frequency (Hz) of the most energy."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    return float(np.fft.rfftfreq(len(audio), 1 / RATE)[spectrum.argmax()])


def share_of(audio: NDArray[np.float32], low: float, high: float) -> float:
    """Share of the energy between two frequencies."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    frequency = np.fft.rfftfreq(len(audio), 1 / RATE)
    return float(power[(frequency >= low) & (frequency < high)].sum() / power.sum())


@pytest.mark.parametrize("semitones", [6, -6])
def test_pitch_moves_and_the_length_stays(semitones: float) -> None:
    sound = perturb.pitch_shifted(tone(440), semitones)
    assert len(sound) == RATE
    assert loudest(sound) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_a_tape_takes_the_pitch_along(speed: float) -> None:
    sound = perturb.resampled(tone(440), speed)
    assert len(sound) == pytest.approx(RATE / speed, abs=2)
    assert loudest(sound) == pytest.approx(440 * speed, rel=0.01)


def test_a_telephone_keeps_its_band_in_time_and_adds_the_noise_of_8_bits() -> None:
    sound = perturb.telephone(tone(1000))
    assert len(sound) == RATE
    np.testing.assert_allclose(sound[400:-400], tone(1000)[400:-400], atol=0.02)
    assert not np.allclose(sound[400:-400], tone(1000)[400:-400], atol=1e-4)
    for outside in (100, 5000):
        assert perturb.rms(perturb.telephone(tone(outside))) < 0.02 * perturb.rms(tone(outside))


def test_babble_is_of_six_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    sounds = [tmp_path / f"{k}.wav" for k in range(7)]
    pitches = [200 + 100 * k for k in range(7)]
    for path, pitch in zip(sounds, pitches, strict=True):
        soundfile.write(path, tone(pitch) * (0.1 + 0.1 * (pitch % 3)), RATE)
    noise = perturb.babble(sounds, 3 * RATE, seed=4)
    assert np.array_equal(noise, perturb.babble(sounds, 3 * RATE, seed=4))
    assert not np.array_equal(noise, perturb.babble(sounds, 3 * RATE, seed=5))
    shares = [share_of(noise, p - 20, p + 20) for p in pitches]
    assert sum(s > 0.1 for s in shares) == 6  # all as loud
    assert max(shares) < 0.25


def test_only_voices_that_are_held_out_babble(tmp_path: Path) -> None:
    numbers = [f"{k:04d}" for k in range(100)]
    held = [n for n in numbers if split_of_clip(n) == "validation"][:2]
    taught = [n for n in numbers if split_of_clip(n) == "train"][:2]
    for kind, number in zip("abab", [*taught, *held], strict=True):
        stem = f"{number}-1240-0000" if kind == "a" else f"0{number}0011"
        soundfile.write(tmp_path / f"{stem}.ogg", voice(0.5), RATE)
    found = perturb.held_out_voices(tmp_path)
    assert {n: [p.stem for p in paths] for n, paths in found.items()} == {
        held[0]: [f"{held[0]}-1240-0000"],
        held[1]: [f"0{held[1]}0011"],
    }
    for paths in found.values():
        paths[0].unlink()
    with pytest.raises(DataError, match="held out"):
        perturb.held_out_voices(tmp_path)


@pytest.mark.parametrize(
    "sound",
    [perturb.white_noise(3, -30, 1), perturb.hum(3, -30), perturb.music(3, -30, 1)],
    ids=["noise", "hum", "music"],
)
def test_noises_have_the_level_that_was_asked_for(sound: NDArray[np.float32]) -> None:
    assert sound.dtype == np.float32
    assert len(sound) == 3 * RATE
    assert 20 * np.log10(perturb.rms(sound)) == pytest.approx(-30, abs=0.1)
