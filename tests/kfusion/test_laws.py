"""The promises of the whole path, with the bundled model, offline (streams: test_server.py)."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.emotion import displacement, vector
from kfusion.landmarks import BROWS, EYES, MIRROR, NEUTRAL, Similarity, lip_gap, mirrored
from kfusion.runtime import Animator
from tests.conftest import folder_of, voice
from training.corpus.clips import Clip, read_folder, read_track
from training.corpus.splits import split_of_clip
from training.scores.scoring import (
    Model,
    constant_face,
    mean_displacement,
    score_predictor,
)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return read_folder(folder_of("grid_s1"), "validation")


SPEECH = voice(2.0, seed=3)


@pytest.fixture(scope="module")
def plain(model: Animator) -> NDArray[np.float32]:
    """The neutral face that says SPEECH."""
    return model.animate(SPEECH, 16_000)


@settings(max_examples=6)
@given(st.sampled_from([(3, 3), (1, 0), (10, 5), (30, 0)]), st.integers(1, 16))
def test_the_batch_size_changes_nothing(
    model: Animator, shape: tuple[int, int], batch: int
) -> None:
    hop, lookahead = shape
    one = model.animate(SPEECH, 16_000, hop=hop, lookahead=lookahead, batch=1)
    other = model.animate(SPEECH, 16_000, hop=hop, lookahead=lookahead, batch=batch)
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_row_alone_gives_what_it_gives_in_any_batch(model: Animator) -> None:
    rng = np.random.default_rng(5)
    rows = 16
    audio = np.stack([voice(1.0, seed=k) * rng.uniform(0.01, 1) for k in range(rows)])
    faces = NEUTRAL + rng.normal(0, 2, (rows, 68, 2))
    emotions = rng.dirichlet(np.ones(8), rows)
    together = model.engine.step(audio, faces, emotions)
    order = rng.permutation(rows)
    shuffled = model.engine.step(audio[order], faces[order], emotions[order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-4)
    for k in range(rows):
        alone = model.engine.step(audio[k : k + 1], faces[k : k + 1], emotions[k : k + 1])
        np.testing.assert_allclose(alone[0], together[k], atol=1e-4)


@pytest.mark.parametrize(("hop", "lookahead"), [(3, 3), (1, 0), (6, 2), (30, 0)])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_later_sound_never_changes_a_frame(
    model: Animator, hop: int, lookahead: int, rate: int
) -> None:
    from kfusion.audio import resampling_delay

    sound = voice(2.0, rate, seed=9)
    n = 20
    known = (n + lookahead + hop) * rate // 30 + resampling_delay(rate)
    other = sound.copy()
    other[known:] = 0.5 * np.sin(np.arange(len(sound) - known) / 5)
    a = model.animate(sound, rate, hop=hop, lookahead=lookahead)
    b = model.animate(other, rate, hop=hop, lookahead=lookahead)
    np.testing.assert_allclose(a[: n + 1], b[: n + 1], atol=1e-4)
    assert np.abs(a - b).max() > 0.1


def test_one_frame_per_thirtieth_of_a_second(model: Animator) -> None:
    for count in (0, 1, 533, 534, 16_000, 16_001):
        assert len(model.animate(np.zeros(count), 16_000)) == -(-count * 30 // 16_000)


SIMILARITIES = [
    Similarity(np.array([[3.0, 0], [0, 3.0]]), np.array([400.0, -20.0])),
    Similarity(np.array([[0.5, -0.4], [0.4, 0.5]]), np.array([0.0, 90.0])),
    Similarity(np.array([[-1.0, 0.2], [-0.2, -1.0]]), np.array([640.0, 480.0])),
]


@pytest.mark.parametrize("moved", SIMILARITIES)
def test_a_similarity_of_the_identity_is_one_of_the_answer(
    model: Animator, moved: Similarity
) -> None:
    face = NEUTRAL + np.random.default_rng(2).normal(0, 1.5, (68, 2))
    plain = model.animate(SPEECH, 16_000, identity=face)
    other = model.animate(SPEECH, 16_000, identity=moved.apply(face))
    size = float(np.sqrt(np.linalg.det(moved.linear)))
    np.testing.assert_allclose(other, moved.apply(plain), atol=2e-3 * max(1.0, size))


def test_a_mirrored_identity_gives_the_mirrored_answer_at_rest(model: Animator) -> None:
    rng = np.random.default_rng(4)
    for _ in range(8):
        face = NEUTRAL + rng.normal(0, 2, (68, 2))
        face = face + rng.normal(0, 4, 2)
        silence = np.zeros(16_000, np.float32)
        a = model.animate(silence, 16_000, identity=face)
        b = model.animate(silence, 16_000, identity=mirrored(face))
        assert np.linalg.norm(mirrored(b) - a, axis=-1).max() <= 0.5


def rest_gap(frames: NDArray[np.float32], identity: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(lip_gap(frames.astype(np.float64)) - lip_gap(identity))


@pytest.mark.data
@pytest.mark.slow
def test_in_silence_the_lips_close_within_400_ms(model: Animator, clips: list[Clip]) -> None:
    for clip in clips[::5]:
        for cut in (0.9, 1.3, 1.7):  # in the middle of words
            # A frame depends on the second before its window's end, and on the window before.
            spoken = clip.audio[round((cut - 0.9) * 16_000) : round(cut * 16_000)]
            frames = model.animate(np.concatenate([spoken, np.zeros(24_000, np.float32)]), 16_000)
            after = frames[int(np.ceil(1.3 * 30)) :]
            assert rest_gap(after, NEUTRAL).max() <= 1.0, (clip.name, cut)


def test_in_silence_a_synthetic_voice_closes_its_lips_too(model: Animator) -> None:
    for seed in range(5):
        sound = np.concatenate([voice(1.5, seed=seed), np.zeros(24_000, np.float32)])
        frames = model.animate(sound, 16_000)
        assert rest_gap(frames[int(np.ceil(1.9 * 30)) :], NEUTRAL).max() <= 1.0


def test_silence_alone_leaves_the_face_at_rest(model: Animator) -> None:
    for level in (0.0, 1e-4):
        noise = level * np.random.default_rng(0).normal(size=48_000)
        frames = model.animate(noise, 16_000)
        assert rest_gap(frames, NEUTRAL).max() <= 1.0
        assert np.linalg.norm(frames - NEUTRAL, axis=-1).max() < 2.0


def test_the_dial_moves_the_face_as_real_faces_do_and_zero_changes_nothing(
    model: Animator, plain: NDArray[np.float32]
) -> None:
    moved: dict[str, NDArray[np.float32]] = {}
    for name in ("angry", "fear", "happy", "surprised", "sad", "disgusted"):
        assert np.array_equal(model.animate(SPEECH, 16_000, emotion={name: 0.0}), plain)
        moved[name] = (model.animate(SPEECH, 16_000, emotion={name: 1.0}) - plain).mean(axis=0)
    assert moved["happy"][54, 0] - moved["happy"][48, 0] > 4  # a wider smile
    assert moved["happy"][[48, 54], 1].mean() < -1.5  # its corners up
    assert moved["angry"][BROWS, 1].mean() > 1.5
    assert moved["surprised"][BROWS, 1].mean() < -2
    assert moved["fear"][BROWS, 1].mean() < -1
    assert moved["sad"][[48, 54], 1].mean() > 0.7
    half = (model.animate(SPEECH, 16_000, emotion={"happy": 0.5}) - plain).mean(axis=0)
    full = moved["happy"]
    assert 0.25 < (half[54, 0] - half[48, 0]) / (full[54, 0] - full[48, 0]) < 0.75
    for name, seen in moved.items():  # close to what it was taught
        taught = displacement(vector({name: 1.0}))
        assert np.linalg.norm(seen - taught, axis=-1).mean() < 1.5, name


def test_the_eyes_and_brows_answer_the_index_swapped_face(model: Animator) -> None:
    frames = model.animate(np.zeros(8000, np.float32), 16_000)
    for part in (BROWS, EYES):
        sides = frames[:, list(MIRROR)][:, part] * [-1, 1] + [256, 0]
        assert np.abs(sides - frames[:, part]).max() <= 0.5


def test_a_file_gives_what_its_samples_give(model: Animator, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "recording.wav", voice(0.7, 44_100), 44_100, subtype="FLOAT")
    from_file = model.animate(tmp_path / "recording.wav", emotion={"happy": 0.7})
    from_samples = model.animate(voice(0.7, 44_100), 44_100, emotion={"happy": 0.7})
    assert np.array_equal(from_file, from_samples)


@pytest.mark.data
@pytest.mark.slow
def test_the_bundled_model_moves_as_the_speaker_does(model: Animator, clips: list[Clip]) -> None:
    row = score_predictor(clips, Model(model, 3, 3)).row
    tracks = sorted(folder_of("grid_s1").glob("*.npz"))
    train = [track for track in tracks if split_of_clip(track.stem) == "train"]
    constant = mean_displacement(read_track(track) for track in train[::4])
    best = score_predictor(clips, lambda c: constant_face(c, constant)).row
    assert row["m_ld"] <= 0.75 * best["m_ld"]
    assert row["correlation"] >= 0.78
    assert 0.7 <= row["gain"] <= 1.3
    assert row["abs_lag"] <= 1
