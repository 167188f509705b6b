"""Sounds that are not the speaker: as loud as said, the same again, and in time."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.conftest import voice
from training.data import sounds
from training.data.sounds import (
    Array,
    Rng,
    coloured_noise,
    hum,
    music,
    random_channel,
)

COUNT = 16_000
KINDS = pytest.mark.parametrize("kind", [coloured_noise, hum, music])


def made(kind: Callable[[Rng, int], Array], times: int, seed: int = 0) -> list[Array]:
    return [kind(np.random.default_rng([seed, k]), COUNT) for k in range(times)]


@KINDS
def test_a_sound_has_unit_power_and_is_of_its_seed_alone(kind: Callable[[Rng, int], Array]) -> None:
    some = made(kind, 30)
    for sound in some:
        assert sound.shape == (COUNT,) and sound.dtype == np.float32 and np.isfinite(sound).all()
        assert np.mean(np.square(sound)) == pytest.approx(1, abs=1e-3)
    assert all(np.array_equal(a, b) for a, b in zip(some, made(kind, 30), strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(some, made(kind, 30, 1), strict=True))


def test_the_banks_are_the_same_when_they_are_made_again() -> None:
    before = [made(kind, 2) for kind in (coloured_noise, music)]
    sounds._noise_bank.cache_clear()  # pyright: ignore[reportPrivateUsage]
    sounds._music_bank.cache_clear()  # pyright: ignore[reportPrivateUsage]
    after = [made(kind, 2) for kind in (coloured_noise, music)]
    assert np.array_equal(before, after)


def test_a_channel_keeps_power_and_time() -> None:
    speech = voice(1.0, seed=3) + 0.02 * np.random.default_rng(0).standard_normal(COUNT)
    speech = speech.astype(np.float32)
    spectrum = np.fft.rfft(speech, 1 << 15)
    differing = 0
    for seed in range(40):
        heard = random_channel(np.random.default_rng(seed), speech)
        assert heard.shape == speech.shape and heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert heard @ heard == pytest.approx(speech @ speech, rel=1e-3)
        # The spectra are made flat: what is left of speech's own rhythm would blur the peak.
        cross = np.fft.rfft(heard, 1 << 15) * np.conj(spectrum)
        shift = int(np.argmax(np.fft.irfft(cross / np.maximum(np.abs(cross), 1e-9))))
        assert min(shift, (1 << 15) - shift) <= 16, seed  # 1 ms
        differing += not np.allclose(heard, speech, atol=0.01)
        assert np.array_equal(heard, random_channel(np.random.default_rng(seed), speech))
    assert differing > 35


def test_a_room_echoes_after_the_sound_and_never_before_it() -> None:
    click = np.zeros(COUNT, np.float32)
    click[8000] = 0.5
    echoes = 0
    for seed in range(40):
        energy = np.square(random_channel(np.random.default_rng(seed), click))
        assert abs(int(energy.argmax()) - 8000) <= 16
        assert energy[: 8000 - 800].sum() < 1e-3 * energy.sum()
        echoes += bool(energy[8000 + 800 :].sum() > 0.01 * energy.sum())
    assert 10 < echoes < 30  # half of the channels are rooms


def test_silence_stays_silence_random_channel() -> None:
    for seed in range(10):
        silence = np.zeros(COUNT, np.float32)
        assert not random_channel(np.random.default_rng(seed), silence).any()
