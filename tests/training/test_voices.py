"""The same speech in other voices: what was asked to change changes, the rest stays."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import voice
from tests.training.corpora import talking, write_corpus
from tests.training.tracks import corpus_files
from training.corpus.clips import Samples
from training.corpus.format import Corpus
from training.voices import Speech, Voice, convert_clips, main, random_voice

pyworld: Any = pytest.importorskip("pyworld")


@pytest.fixture(scope="module")
def sound() -> Samples:
    return voice(2.0, seed=1)


@pytest.fixture(scope="module")
def speech(sound: Samples) -> Speech:
    return Speech(sound)


def fundamental(sound: Samples) -> NDArray[np.float64]:
    """In Hz of every 5 ms, 0 where there is none."""
    double = sound.astype(np.float64)
    pitch, times = pyworld.dio(double, 16_000, f0_floor=60.0, f0_ceil=500.0)
    return pyworld.stonemask(double, pitch, times, 16_000)


def envelope(sound: Samples) -> NDArray[np.float64]:
    """Power at each bin of the spectral envelope, a mean over what is voiced."""
    analysed = Speech(sound)
    return analysed.envelope[analysed.pitch > 0].mean(axis=0)


def centroid(sound: Samples) -> float:
    power = envelope(sound)
    return float(power @ np.arange(len(power)) / power.sum())


def rms(sound: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(sound))))


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.5, 2.0])
def test_pitch_is_the_wanted_ratio(sound: Samples, speech: Speech, ratio: float) -> None:
    before, after = fundamental(sound), fundamental(speech.synthesise(Voice(pitch=ratio)))
    both = (before > 0) & (after > 0)
    assert both.mean() > 0.35
    assert np.median(after[both] / before[both]) == pytest.approx(ratio, rel=0.05)


def test_intonation_is_wider_in_octaves_around_the_same_middle(
    sound: Samples, speech: Speech
) -> None:
    before, after = fundamental(sound), fundamental(speech.synthesise(Voice(intonation=1.8)))
    both = (before > 0) & (after > 0)
    low, high = np.log2(before[both]), np.log2(after[both])
    slope = np.polyfit(low, high, 1)[0]
    assert 1.5 < slope < 2.0
    assert abs(np.median(high) - np.median(low)) < 0.1


def test_a_shorter_tract_moves_formants_up_and_a_longer_one_down(
    sound: Samples, speech: Speech
) -> None:
    own = centroid(speech.synthesise(Voice()))
    assert centroid(speech.synthesise(Voice(tract=1.2))) > 1.1 * own
    assert centroid(speech.synthesise(Voice(tract=0.85))) < 0.95 * own
    for tract in (0.85, 1.2):
        pitch = fundamental(speech.synthesise(Voice(tract=tract)))
        before = fundamental(sound)
        both = (before > 0) & (pitch > 0)
        assert np.median(pitch[both] / before[both]) == pytest.approx(1, rel=0.02)


def test_tilt_is_in_decibels_an_octave(speech: Speech) -> None:
    plain, tilted = (
        envelope(speech.synthesise(Voice())),
        envelope(speech.synthesise(Voice(tilt=-3))),
    )
    bins = np.array([500, 1000, 2000, 4000]) * (len(plain) - 1) // 8000
    gain = 10 * np.log10(tilted[bins] / plain[bins])
    slope = np.polyfit(np.arange(4), gain, 1)[0]
    assert slope == pytest.approx(-3, abs=0.5)


def test_breath_makes_the_treble_noisy(speech: Speech) -> None:
    def noise(breath: float) -> float:
        analysed = Speech(speech.synthesise(Voice(breath=breath)))
        return float(analysed.aperiodicity[analysed.pitch > 0, -200:].mean())

    assert noise(1.0) > noise(0.0) + 0.05


@pytest.mark.parametrize("seed", range(6))
def test_length_loudness_and_timing_stay(sound: Samples, speech: Speech, seed: int) -> None:
    output = speech.synthesise(random_voice(np.random.default_rng(seed)))
    assert output.shape == sound.shape and output.dtype == np.float32
    assert np.abs(output).max() <= 1
    assert rms(output) == pytest.approx(rms(sound), rel=0.03)
    mine, other = (np.convolve(np.square(s), np.ones(400), "same")[::16] for s in (sound, output))
    across = np.correlate(other - other.mean(), mine - mine.mean(), "full")
    assert abs(int(across.argmax()) - len(mine) + 1) <= 10  # ms
    assert across.max() > 0.6 * len(mine) * mine.std() * other.std()


# Corpora


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    spoken = np.arange(60, dtype=np.uint8) % 40
    clips = [replace(talking(name, k, 0.6, speaker="ann", emotion="happy", level=2), phones=spoken)
             for k, name in enumerate("abc")]  # fmt: skip
    sides: Any = {"a": "train", "b": "validation", "c": "train"}
    return Corpus(write_corpus(tmp_path_factory.mktemp("data") / "c", clips, sides))


def test_only_train_clips_speak_in_other_voices_and_only_their_sound_changes(
    corpus: Corpus,
) -> None:
    made = list(convert_clips(corpus, 2, 1))
    assert [clip.name for clip in made] == ["a-1", "a-2", "c-1", "c-2"]
    for clip in made:
        own = next(c for c in corpus.clips() if c.name == clip.name[0])
        assert (clip.speaker, clip.emotion, clip.level) == ("ann", "happy", 2)
        assert np.array_equal(clip.points, own.points)
        assert np.array_equal(clip.identity, own.identity)
        assert clip.phones is not None and own.phones is not None
        assert np.array_equal(clip.phones, own.phones)
        assert clip.audio.shape == own.audio.shape
        assert np.abs(clip.audio - own.audio).max() > 0.05
    assert not np.array_equal(made[0].audio, made[1].audio)
    again = convert_clips(corpus, 2, 2)
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(made, again, strict=True))


def command(data: Path, out: Path) -> int:
    return main(["--data", str(data), "--out", str(out), "--each", "2", "--processes", "1"])


def test_the_command_resumes_and_ends_with_the_same_files(corpus: Corpus, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert command(corpus.folder, whole) == 0
    made = Corpus(whole)
    assert made.header.source == f"{corpus.header.source} in other voices"
    assert {e.split for e in made.entries} == {"train"}
    assert [e.name for e in made.entries] == ["a-1", "a-2", "c-1", "c-2"]
    shutil.copytree(whole, torn)  # as when it was killed in its third clip
    lines = (whole / "clips.jsonl").read_bytes().splitlines(keepends=True)
    (torn / "clips.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    (torn / "corpus.json").unlink()
    assert command(corpus.folder, torn) == 0
    assert corpus_files(whole) == corpus_files(torn)
