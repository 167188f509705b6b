"""The windows that training sees: which second of which clip, and what is true of it."""

from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kfusion.emotion import vector
from kfusion.landmarks import align, lip_gap, to_canonical
from tests.training.corpora import (
    one_speaker,
    source_clip,
    talking,
    windows_of,
    write_corpus,
)
from training.corpus.clips import face_at_rest
from training.corpus.format import Corpus
from training.data.augment import ON
from training.data.batch import Batch
from training.data.source_clip import SourceClip
from training.data.windows import loader
from training.phones import UNKNOWN


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


def first_frame(clip: SourceClip, audio: NDArray[np.float32], speed: float = 1.0) -> int:
    """The frame of the clip that sound begins with."""
    return next(f for f in range(70) if np.array_equal(clip.sound(f, speed), audio))


def test_a_batch_is_the_same_whoever_makes_it(corpus: Corpus) -> None:
    windows = windows_of(corpus, 3, **ON)
    here = [windows.batch(6, step) for step in (2, 3)]
    elsewhere = list(loader(windows_of(corpus, 3, **ON), 6, range(2, 4), workers=2))
    assert all(same(a, b) for a, b in zip(here, elsewhere, strict=True))
    assert not torch.equal(here[0].audio, here[1].audio)
    assert not same(here[0], windows_of(corpus, 4, **ON).batch(6, 2))


def test_two_processes_share_the_rows_of_one_doubled_batch(corpus: Corpus) -> None:
    windows = windows_of(corpus, 3, **ON)
    (whole,) = loader(windows, 8, range(5, 6))
    halves = [next(iter(loader(windows, 4, range(5, 6), rank=r, world=2))) for r in (0, 1)]
    for f in fields(Batch):
        both = torch.cat([getattr(h, f.name) for h in halves])
        assert torch.equal(both, getattr(whole, f.name)), f.name


def test_a_loader_that_pins_memory_pins_every_part_of_a_batch(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.data._utils.pin_memory import pin_memory

    def pinned_tensor(tensor: torch.Tensor) -> torch.Tensor:
        return tensor + 1  # told apart without a GPU

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned_tensor)
    batch = windows_of(corpus).batch(2, 0)
    pinned = pin_memory(batch)
    assert all(
        torch.equal(getattr(pinned, f.name), getattr(batch, f.name) + 1) for f in fields(Batch)
    )


def test_an_epoch_has_every_second_once_and_any_frame_can_be_first(corpus: Corpus) -> None:
    windows = windows_of(corpus)
    assert len(windows) == 4 * 2  # 2.5 s each, rounded to even
    epochs = [sorted(windows.order(e).tolist()) for e in (0, 1)]
    assert epochs == [list(range(8))] * 2
    assert windows.order(0).tolist() != windows.order(1).tolist()
    entry = windows.clips[0].entry
    sound = corpus.sound(entry, 0, entry.audio[1])
    beginnings = np.stack([sound[round(f * 1600 / 3) :][:400] for f in range(46)])
    starts = set[int]()
    for index in range(8 * 250):
        if windows.describe(index).startswith(entry.name + " "):
            matches = (beginnings == windows[index].audio[:400]).all(axis=1)
            starts.add(int(np.argmax(matches)))
    assert starts == set(range(46))


def test_plain_windows_are_the_clip_itself(corpus: Corpus) -> None:
    windows = windows_of(corpus)
    for index in range(8):
        window, source = windows[index], source_clip(windows, index)
        clip = corpus.clip(source.entry)
        first = first_frame(source, window.audio)
        assert np.array_equal(window.audio, clip.audio[round(first * 1600 / 3) :][:16_000])
        gap = lip_gap(clip.points[first : first + 30]) - lip_gap(clip.identity)
        np.testing.assert_allclose(lip_gap(window.target), gap, atol=0.02)
        assert window.mask.all() and window.stretch == 1
        assert np.array_equal(window.emotion, vector({}))
        np.testing.assert_allclose(window.identity, clip.identity, atol=0.02)  # the face at rest


def test_the_identity_is_the_clips_face_at_rest_whatever_frame_a_window_begins_with(
    corpus: Corpus,
) -> None:
    windows = windows_of(corpus)
    firsts = set[int]()
    for index in range(60):
        window, source = windows[index], source_clip(windows, index)
        if source.entry.name != windows.clips[0].entry.name:
            continue
        first = first_frame(source, window.audio)
        clip = corpus.clip(source.entry)
        rest = to_canonical(clip.identity).apply(face_at_rest(clip.points))
        np.testing.assert_allclose(window.identity, rest, atol=0.05)
        firsts.add(first)
        own_first = align(clip.points[first][None], clip.identity)[0]
        displaced = to_canonical(clip.identity).apply(own_first) - window.identity
        np.testing.assert_allclose(window.target[0], displaced, atol=0.05)
    assert len(firsts) > 3


def test_what_hangs_over_a_clips_ends_is_silent_and_not_scored(corpus: Corpus) -> None:
    windows = windows_of(corpus, edges=1.0)
    before = after = 0
    for index in range(200):
        window = windows[index]
        known = np.flatnonzero(window.mask)
        assert len(known) >= 6 and np.all(np.diff(known) == 1)
        loud = np.flatnonzero(np.abs(window.audio) > 1e-4)
        assert loud[0] >= known[0] * 1600 / 3 - 1 and loud[-1] <= (known[-1] + 1) * 1600 / 3 + 1
        before, after = before + (known[0] > 0), after + (known[-1] < 29)
        assert np.isfinite(window.target).all()
    assert before > 20 and after > 20


def test_a_clip_shorter_than_a_window_is_padded(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "c", [talking("short", 1, 0.6)], {"short": "train"})
    windows = windows_of(Corpus(folder))
    assert len(windows) == 1
    audio = windows[0].audio
    assert windows[0].mask.sum() == 18
    assert np.abs(audio[:9600]).max() > 0.01 and not audio[9600:].any()


def test_a_faster_window_has_more_of_the_clip_with_its_face(corpus: Corpus) -> None:
    windows = windows_of(corpus, speed=1.0, speeds=(1.17,))
    for index in range(6):
        # The mouth opens with loudness: it must still, after both were sped up.
        loud = np.sqrt(np.convolve(windows[index].audio ** 2, np.ones(800) / 800, "same"))
        at = (np.arange(30) * 1600 / 3).astype(int)
        gap = lip_gap(windows[index].target)
        assert np.corrcoef(loud[at][1:-1], gap[1:-1])[0, 1] > 0.97


@pytest.mark.parametrize("speed", [1.0, 0.8, 1.25])
def test_phones_are_those_of_the_sound(phone_corpus: Corpus, speed: float) -> None:
    windows = windows_of(phone_corpus, speed=float(speed != 1), speeds=(speed,))
    batch = windows.batch(8, 0)
    assert batch.phones.shape == (8, 50) and batch.phones.dtype == torch.int64
    compared = 0
    for index in range(8):
        clip = source_clip(windows, index)
        track, phones = phone_corpus.phones(clip.entry), batch.phones[index].numpy()
        if track is None:
            assert (phones == UNKNOWN).all()
            continue
        compared += 1
        first = first_frame(clip, batch.audio[index].numpy(), speed)
        steps = np.floor((first / 30 + np.arange(50) / 50) * speed * 100 + 1e-6).astype(int)
        assert np.array_equal(phones, track[steps])
    assert compared > 3


def test_a_clips_own_label_is_given_in_full_or_by_level(tmp_path: Path) -> None:
    clips = [talking("a", 0, emotion="happy", level=1), talking("b", 1, emotion="neutral")]
    clips[0].points[:, 48, 0] -= 7.0  # smiles
    corpus = Corpus(write_corpus(tmp_path / "c", clips, {"a": "train", "b": "train"}))
    for by_level, weight in ((False, 1.0), (True, 1 / 3)):
        windows = windows_of(corpus, by_level=by_level)
        happy = [windows[i] for i in range(4) if windows.describe(i).startswith("a ")]
        assert happy
        for window in happy:
            np.testing.assert_allclose(window.emotion, vector({"happy": weight}))
            # The reference is the neutral clip's face, so that the smile is displacement.
            np.testing.assert_allclose(window.target[:, 48, 0], -7.0, atol=0.1)
            assert abs(window.identity[48, 0] - corpus.neutral["someone"][48, 0]) < 1e-4


def test_lips_of_dubbed_faces_part_further_and_closed_ones_stay_closed(tmp_path: Path) -> None:
    corpus = Corpus(one_speaker(tmp_path / "c"))
    plain, filmed = windows_of(corpus), windows_of(corpus, wider=0.25)
    for index in range(4):
        np.testing.assert_array_equal(plain[index].target, filmed[index].target)
    corpus.header = msgspec.structs.replace(corpus.header, dubbed=True)
    wider = windows_of(corpus, wider=0.25)
    most = 0.0
    for index in range(4):
        before, after = plain[index].target, wider[index].target
        gap = lip_gap(before)
        most = max(most, gap.max())
        np.testing.assert_allclose(lip_gap(after), 1.25 * gap, atol=1e-9)
        moved = after - before
        np.testing.assert_allclose(moved[:, 62, 1], -gap / 8, atol=1e-9)
        np.testing.assert_allclose(moved[:, 66, 1], gap / 8, atol=1e-9)
        assert np.abs(moved[:, 17:49]).max() == 0
    assert most > 2
