"""Data, losses and the loop, on small clips made here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from kfusion import config
from kfusion.checkpoint import load_model
from kfusion.emotion import displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import MIRROR, NEUTRAL, lip_gap
from tests.conftest import voice
from tests.test_model import PAPER, SMALL, TINY_WAV2VEC2, Wav2Vec2Model
from training import train
from training.data import (
    PLAIN,
    Augmentation,
    Windows,
    at_times,
    fingerprint,
    is_validation,
    random_emotion,
    read_folder,
)
from training.losses import LossWeights, loss


def write_clip(folder: Path, name: str, seed: int, fps: float = 25.0) -> None:
    """A voice, and a mouth that opens with its loudness."""
    sound = voice(2.0, seed=seed)
    soundfile.write(folder / f"{name}.flac", sound, 16_000)
    count = int(2 * fps)
    at = (np.arange(count) / fps * 16_000).astype(int)
    loud = np.sqrt(np.convolve(sound**2, np.ones(800) / 800, "same"))[at]
    points = np.repeat(NEUTRAL[None], count, axis=0)
    points[:, [65, 66, 67], 1] += 60 * loud[:, None]
    np.savez(folder / f"{name}.npz", points_q64=np.round(points * 64).astype(np.int16), fps=fps)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    k = training = validation = 0
    while training < 3 or validation < 1:
        name = f"clip{k:03d}"
        wanted = validation < 1 if is_validation(name) else training < 3
        if wanted:
            write_clip(data, name, k)
            validation, training = (
                validation + is_validation(name),
                training + (not is_validation(name)),
            )
        k += 1
    return data


def test_the_splits_share_no_clip(folder: Path) -> None:
    train_names = {c.name for c in read_folder(folder, "train")}
    held_out = {c.name for c in read_folder(folder, "validation")}
    assert len(train_names) == 3 and len(held_out) == 1 and not train_names & held_out
    assert {c.name for c in read_folder(folder)} == train_names | held_out


def test_an_identity_is_the_mouth_at_rest(folder: Path) -> None:
    clip = read_folder(folder)[0]
    assert abs(lip_gap(clip.identity) - lip_gap(NEUTRAL)) < 0.5


def test_tracks_are_resampled_in_time() -> None:
    ramp = np.arange(50)[:, None, None] * np.ones((1, 68, 2))
    taken = at_times(ramp, 25.0, np.arange(58) / 30)
    np.testing.assert_allclose(taken[:, 0, 0], np.arange(58) * 25 / 30, atol=1e-9)


def test_a_batch_is_a_function_of_seed_and_step(folder: Path) -> None:
    windows = Windows(read_folder(folder, "train"), Augmentation())
    one, same, other = (windows.batch(6, 1, s) for s in (4, 4, 5))
    for name, part in vars(one).items():
        assert np.array_equal(part, getattr(same, name)), name
        assert np.isfinite(part).all()
    assert not np.array_equal(one.audio, other.audio)
    assert one.target.shape == (6, 30, 68, 2) and one.mask.shape == (6, 30)
    np.testing.assert_allclose(one.emotion.sum(1), 1, atol=1e-5)


def test_plain_windows_are_the_clip_itself(folder: Path) -> None:
    clip = read_folder(folder, "train")[0]
    windows = Windows([clip], PLAIN)
    batch = windows.batch(8, 0, 0)
    for sound, target, mask in zip(batch.audio, batch.target, batch.mask, strict=True):
        heard = np.flatnonzero(sound)
        found = np.flatnonzero(np.isclose(clip.audio, sound[heard[200]], atol=0))
        starts = [k - heard[200] for k in found]
        start = next(
            s
            for s in starts
            if all(
                clip.audio[s + i] == sound[i]
                for i in heard[200:600:50]
                if 0 <= s + i < len(clip.audio)
            )
        )
        times = start / 16_000 + np.arange(30) / 30
        inside = (times >= 0) & (times < 1.9)
        truth = at_times(clip.points, 25.0, times)
        gap = lip_gap(truth) - lip_gap(clip.identity)
        np.testing.assert_allclose(lip_gap(target)[inside], gap[inside], atol=0.3)
        assert (mask[inside] == 1).all() and (mask[times < 0] == 0).all()


def test_labelled_rows_carry_the_emotions_displacement(folder: Path) -> None:
    clips = read_folder(folder, "train")
    plain = Windows(clips, PLAIN).batch(16, 0, 1)
    assert (plain.emotion == vector({})).all()
    labelled = Windows(clips, replace(PLAIN, labelled=1.0))
    batch = labelled.batch(16, 0, 1)
    brows = batch.target[:, :, 17:27] - displacement(batch.emotion)[:, None, 17:27]
    assert np.abs(brows).max() < 0.2  # these clips' brows do not move by themselves


def test_a_mirrored_row_is_the_mirror_image(folder: Path) -> None:
    clips = read_folder(folder, "train")
    a = Windows(clips, replace(PLAIN, mirror=1.0)).batch(8, 3, 0)
    centred = a.identity[:, list(MIRROR)] * [-1, 1] + [256, 0]
    np.testing.assert_allclose(centred, a.identity, atol=0.1)  # the clips' face is symmetric


def test_random_emotions_are_vectors() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([random_emotion(rng) for _ in range(500)])
    assert (labels >= 0).all() and np.allclose(labels.sum(1), 1, atol=1e-5)
    assert (labels.max(0) > 0.9).all()


def test_the_loss_counts_only_what_is_known() -> None:
    target = torch.zeros(1, 30, 68, 2)
    predicted = torch.zeros(1, 30, 68, 2)
    predicted[:, :10] = 5
    mask = torch.ones(1, 30)
    mask[:, :11] = 0
    assert float(loss(predicted, target, mask, LossWeights())["total"]) == 0
    assert float(loss(predicted, target, torch.ones(1, 30), LossWeights())["position"]) > 1


def test_the_papers_loss_is_the_mean_square() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 30, 68, 2), torch.randn(2, 30, 68, 2)
    terms = loss(predicted, target, torch.ones(2, 30), LossWeights(mouth=1.0))
    expected = (predicted - target).square().sum(-1).mean()
    torch.testing.assert_close(terms["position"], expected)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config.PRESETS, "compact", SMALL)


def run(folder: Path, out: Path, steps: int, *more: str) -> Path:
    return train.train(
        train.arguments(
            ["--data", str(folder), "--out", str(out), "--steps", str(steps), "--batch", "4",
             "--save-every", "3", "--device", "cpu", "--threads", "1", *more]
        )
    )  # fmt: skip


@pytest.mark.usefixtures("small")
def test_a_resumed_run_ends_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    whole = run(folder, tmp_path / "whole", 6)
    stopped = tmp_path / "stopped"
    original = train.learning_rate

    def killed(step: int, a: object) -> float:
        if step == 4:
            raise KeyboardInterrupt
        return original(step, a)  # pyright: ignore[reportArgumentType]

    train.learning_rate = killed
    try:
        with pytest.raises(KeyboardInterrupt):
            run(folder, stopped, 6)
    finally:
        train.learning_rate = original
    resumed = run(folder, stopped, 6)
    a, b = load_file(whole), load_file(resumed)
    assert all(torch.equal(a[k], b[k]) for k in a)
    _, provenance = load_model(resumed)
    assert provenance["steps"] == 6 and provenance["sha256"] == fingerprint(
        read_folder(folder, "train")
    )


@pytest.mark.usefixtures("small")
def test_the_kans_grids_are_fitted_and_its_edges_thinned_on_request(
    folder: Path, tmp_path: Path
) -> None:
    plain = load_file(run(folder, tmp_path / "plain", 3))
    fitted = load_file(run(folder, tmp_path / "fitted", 3, "--kan-grid-at", "2"))
    thinned = load_file(run(folder, tmp_path / "thinned", 3, "--kan-l1", "0.1"))
    assert torch.equal(plain["head.inner.low"], thinned["head.inner.low"])
    assert not torch.equal(plain["head.inner.low"], fitted["head.inner.low"])
    assert thinned["head.inner.coef"].abs().mean() < plain["head.inner.coef"].abs().mean()


def test_the_paper_preset_trains_from_a_local_wav2vec2(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(config.PRESETS, "paper", PAPER)
    source = tmp_path / "wav2vec2"
    Wav2Vec2Model(TINY_WAV2VEC2).save_pretrained(source)
    more = ("--preset", "paper", "--wav2vec2", str(source))
    frozen = load_file(run(folder, tmp_path / "frozen", 2, *more))
    free = load_file(run(folder, tmp_path / "free", 2, *more, "--finetune"))
    name = next(k for k in frozen if k.endswith("feature_projection.projection.weight"))
    pretrained = load_file(source / "model.safetensors")
    assert torch.equal(frozen[name], pretrained[name.removeprefix("wav2vec2.model.")])
    assert not torch.equal(free[name], frozen[name])


@pytest.mark.usefixtures("small")
def test_other_data_under_the_same_name_is_refused(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", 1)
    write_clip(folder, next(f"x{k}" for k in range(99) if not is_validation(f"x{k}")), 5)
    with pytest.raises(DataError, match="other data"):
        run(folder, tmp_path / "out", 2)


def test_missing_and_broken_data_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train clips"):
        read_folder(tmp_path / "none", "train")
    track = sorted(folder.glob("*.npz"))[0]
    track.with_suffix(".flac").unlink()
    with pytest.raises(DataError, match="no sound beside it"):
        read_folder(folder)
    soundfile.write(track.with_suffix(".flac"), np.zeros(10), 16_000)
    track.write_bytes(b"junk")
    with pytest.raises(DataError, match="cannot be read"):
        read_folder(folder)
