"""What augmentation does to a window, and what it leaves alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kfusion.emotion import EMOTIONS, displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import MIRROR, NEUTRAL
from kfusion.layers.torchaudio_python import torchaudio
from tests.training.corpora import talking, windows_of, write_corpus
from training.corpus.format import Corpus
from training.data.augment import (
    OF_SOUND,
    ON,
    PLAIN,
    Augmentation,
    parse_augmentation,
    random_face,
)
from training.phones import PHONE_INDEX


def level(audio: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(np.square(audio))))


def test_augmentation_is_asked_for_by_name() -> None:
    assert parse_augmentation([]) == PLAIN == Augmentation()
    assert parse_augmentation(["gain", "noise=0.25"]) == replace(PLAIN, gain=1.0, noise=0.25)
    for wrong in ("reverb", "gain=loud", "noise=2", "gain_db=1"):
        with pytest.raises(DataError, match=f"augmentation '{wrong}'; wanted"):
            parse_augmentation([wrong])


@pytest.mark.parametrize("name", ON)
def test_what_changes_the_sound_is_listed(corpus: Corpus, name: str) -> None:
    chances: dict[str, Any] = {name: 1.0}
    plain, windows = windows_of(corpus), windows_of(corpus, **chances)
    changed = [not np.array_equal(windows[k].audio, plain[k].audio) for k in range(8)]
    assert any(changed) is (name in OF_SOUND)


# Sound


@pytest.mark.parametrize("name", ["babble", "channel", "drift", "gain", "noise", "pitch"])
def test_a_change_of_the_sound_is_of_seed_epoch_and_sample_and_of_the_sound_alone(
    phone_corpus: Corpus, name: str
) -> None:
    plain = windows_of(phone_corpus, 3)
    windows, again = (windows_of(phone_corpus, 3, **{name: 1.0}) for _ in range(2))
    other_seed = windows_of(phone_corpus, 4, **{name: 1.0})
    same = {k: again[k].audio for k in reversed(range(8))}
    for k in range(8):
        window = windows[k]
        assert np.isfinite(window.audio).all() and np.array_equal(window.audio, same[k])
        assert np.array_equal(window.target, plain[k].target)
        assert np.array_equal(window.phones, plain[k].phones)
        assert not np.array_equal(window.audio, plain[k].audio)
        assert not np.array_equal(window.audio, other_seed[k].audio)
        assert not np.array_equal(window.audio, windows[k + len(windows)].audio)  # next epoch


def test_noise_and_gain_are_of_the_size_asked_for(corpus: Corpus) -> None:
    plain = windows_of(corpus)
    loud = windows_of(corpus, gain=1.0, gain_db=(6.0, 6.0))
    noisy = windows_of(corpus, noise=1.0, noise_snr_db=(20.0, 20.0))
    for index in range(4):
        audio = plain[index].audio
        np.testing.assert_allclose(loud[index].audio, np.clip(audio * 10**0.3, -1, 1), rtol=1e-4)
        noise = noisy[index].audio - audio
        expected = torchaudio().functional.add_noise(
            torch.from_numpy(audio), torch.from_numpy(noise), torch.tensor(20.0)
        )
        np.testing.assert_allclose(noisy[index].audio, expected.numpy(), atol=1e-4)
        assert abs(20 * np.log10(level(audio) / level(noise)) - 20) < 0.1


def test_a_level_that_drifts_wanders_within_the_window(corpus: Corpus) -> None:
    plain, drifting = windows_of(corpus), windows_of(corpus, drift=1.0)
    ranges: list[float] = []
    for index in range(12):
        before, after = plain[index].audio, drifting[index].audio
        loud = np.abs(before) > 1e-4
        decibels = 20 * np.log10(np.abs(after[loud]) / np.abs(before[loud]))
        assert decibels.min() > -12.1 and decibels.max() < 12.1
        assert np.abs(np.diff(decibels)).max() < 24 / 3200 * 400  # never at once
        ranges.append(float(np.ptp(decibels)))
    assert min(ranges) > 3 and np.mean(ranges) > 10


def test_babble_is_other_voices_6_to_25_decibels_below_the_speaker(phone_corpus: Corpus) -> None:
    plain, babble = windows_of(phone_corpus), windows_of(phone_corpus, babble=1.0)
    ratios: list[float] = []
    for index in range(16):
        background = babble[index].audio - plain[index].audio
        ratios.append(20 * np.log10(level(plain[index].audio) / level(background)))
        spectrum = np.square(np.abs(np.fft.rfft(background)))
        assert spectrum[80:4000].sum() > 0.8 * spectrum.sum()  # voices, not hiss
    assert 5.99 < min(ratios) < 12 and 18 < max(ratios) < 25.01


# Pauses


def silenced(audio: NDArray[np.float32], plain: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where sound was taken away (s), all but its edges."""
    return np.flatnonzero(np.abs(audio) < 0.02 * np.abs(plain)) / 16_000


def test_in_a_pause_the_face_is_at_rest_and_the_phones_are_silence(phone_corpus: Corpus) -> None:
    windows, plain = windows_of(phone_corpus, rest=1.0), windows_of(phone_corpus)
    levels: list[float] = []
    stopped = shut = came_back = 0
    for index in range(120):
        window, whole = windows[index], plain[index]
        assert window.mask.all()
        if not window.target.any():
            assert (window.phones == PHONE_INDEX["SIL"]).all()
            levels.append(level(window.audio))
            continue
        stopped += 1
        silence = silenced(window.audio, whole.audio)
        begin, back = silence[0], silence[-1]
        at, steps = np.arange(30) / 30, np.arange(50) / 50
        closed = (at > begin + 0.22) & (at < back - 0.1)  # lips part 0.1 s before the sound
        assert np.abs(window.target[closed]).max(initial=0) < 1e-9
        before = at < begin - 0.1
        np.testing.assert_allclose(window.target[before], whole.target[before])
        inside = (steps > begin + 0.002) & (steps < back - 0.002)
        assert (window.phones[inside] == PHONE_INDEX["SIL"]).all()
        outside = (steps < begin - 0.082) | (steps > back + 0.082)  # sound fades in and out
        assert np.array_equal(window.phones[outside], whole.phones[outside])
        assert (window.phones[outside] != PHONE_INDEX["SIL"]).all()
        shut += not window.target[-1].any()
        if back < 0.9:
            came_back += 1
            after = at > back + 0.1
            np.testing.assert_allclose(window.target[after], whole.target[after])
            assert 0.25 < back - begin < 0.9
    assert len(levels) > 15 and stopped > 40 and came_back > 5 and shut > stopped / 3
    # Nothing at all, faint noise, and what is no speech, at most as loud as a voice.
    assert min(levels) == 0 and 0.02 < max(levels) < 10**-0.89


def test_in_silence_a_labelled_face_keeps_its_emotion(tmp_path: Path) -> None:
    clips = [talking("a", 0, emotion="happy"), talking("b", 1, emotion="neutral")]
    clips[0].points[:, 48, 0] -= 7.0  # smiles, whether it speaks or not
    corpus = Corpus(write_corpus(tmp_path / "c", clips, {"a": "train", "b": "train"}))
    windows = windows_of(corpus, rest=1.0)
    silent = 0
    for index in range(40):
        window = windows[index]
        happy = bool(window.emotion[EMOTIONS.index("happy")] == 1)
        np.testing.assert_allclose(window.target[:, 48, 0], -7.0 if happy else 0.0, atol=0.1)
        silent += happy and not np.abs(window.target[:, 66, 1]).max() > 0.1
    assert silent > 3


# Faces


def test_a_mirrored_row_is_the_mirror_image(corpus: Corpus) -> None:
    plain, mirrored = windows_of(corpus), windows_of(corpus, mirror=1.0)
    for index in range(4):
        own, other = plain[index], mirrored[index]
        swapped = own.identity[list(MIRROR)] * [-1, 1] + [256, 0]
        np.testing.assert_allclose(other.identity, swapped, atol=1e-4)
        np.testing.assert_allclose(other.target, own.target[:, list(MIRROR)] * [-1, 1], atol=1e-9)


def test_neutral_rows_are_given_an_emotion_with_its_displacement(corpus: Corpus) -> None:
    batch = windows_of(corpus, emotion=1.0).batch(16, 0)
    moved = displacement(batch.emotion.numpy().astype(np.float64))[:, None, 17:27]
    brows = batch.target[:, :, 17:27].numpy() - moved
    assert np.abs(brows).max() < 0.2  # these clips' brows do not move by themselves
    assert (batch.emotion != torch.from_numpy(vector({}))).any()


def test_another_face_has_the_same_features_elsewhere() -> None:
    rng = np.random.default_rng(0)
    own = NEUTRAL.astype(np.float32)
    faces = np.stack([random_face(rng, own) for _ in range(300)])
    for first, last in ((0, 17), (17, 22), (36, 42), (48, 68)):
        part = faces[:, first:last] - faces[:, first:last].mean(1, keepdims=True)
        mine = own[first:last] - own[first:last].mean(0)
        scale = (part * mine).sum((1, 2)) / np.square(mine).sum()
        assert 0.75 < scale.min() < 0.95 and 1.05 < scale.max() < 1.3
        # Stretched along x and y: what is left of it after that is nothing.
        for axis in (0, 1):
            fit = (part[..., axis] @ mine[:, axis]) / np.square(mine[:, axis]).sum()
            rest = part[..., axis] - fit[:, None] * mine[:, axis]
            assert np.abs(rest).max() < 0.25 * np.ptp(own[first:last])
    assert np.ptp(faces, axis=0).min() > 1
