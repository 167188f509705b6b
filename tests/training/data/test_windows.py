"""The windows that training sees, what augmentation does to them, and the loss over them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kfusion.emotion import EMOTIONS, displacement, vector
from kfusion.errors import DataError
from kfusion.landmarks import MIRROR, NEUTRAL, lip_gap
from kfusion.layers.torchaudio_python import torchaudio
from tests.training.corpora import one_speaker, talking, write_corpus
from training.corpus.format import Corpus, Entry
from training.data.augment import (
    ON,
    PLAIN,
    Augmentation,
    Sound,
    another_face,
    augmentation,
    pitched,
    random_emotion,
    resampled,
    resampling,
    slowed,
)
from training.data.windows import Batch, Windows, loader
from training.models.losses import LossWeights, loss
from training.phones import INDEX, UNKNOWN

EVERYTHING = augmentation(list(ON))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(one_speaker(tmp_path_factory.mktemp("data") / "c", training=4, seconds=2.5))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch))


def test_a_batch_is_the_same_whoever_makes_it(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", EVERYTHING, 3)
    here = [windows.batch(6, step) for step in (2, 3)]
    elsewhere = list(loader(Windows([corpus], "train", EVERYTHING, 3), 6, range(2, 4), workers=2))
    assert all(same(a, b) for a, b in zip(here, elsewhere, strict=True))
    assert not torch.equal(here[0].audio, here[1].audio)
    assert not same(here[0], Windows([corpus], "train", EVERYTHING, 4).batch(6, 2))


def test_two_processes_share_the_rows_of_one_doubled_batch(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", EVERYTHING, 3)
    (whole,) = loader(windows, 8, range(5, 6))
    halves = [next(iter(loader(windows, 4, range(5, 6), rank=r, world=2))) for r in (0, 1)]
    for f in fields(Batch):
        both = torch.cat([getattr(h, f.name) for h in halves])
        assert torch.equal(both, getattr(whole, f.name)), f.name


def test_an_epoch_has_every_second_once_and_any_frame_can_be_first(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", PLAIN, 1)
    assert len(windows) == 4 * 2  # 2.5 s each, rounded to even
    epochs = [sorted(windows.order(e).tolist()) for e in (0, 1)]
    assert epochs == [list(range(8))] * 2
    assert windows.order(0).tolist() != windows.order(1).tolist()
    entry = windows.clips[0].entry
    sound = corpus.sound(entry, 0, entry.audio[1])
    starts = set[int]()
    for index in range(8 * 250):
        if windows.name_of(index).startswith(entry.name + " "):
            audio = windows[index][0]
            at = int(np.argmax([np.array_equal(sound[s : s + 400], audio[:400])
                                for s in (round(f * 1600 / 3) for f in range(46))]))  # fmt: skip
            starts.add(at)
    assert starts == set(range(46))


def test_plain_windows_are_the_clip_itself(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", PLAIN, 1)
    for index in range(8):
        audio, identity, label, target, mask, stretch, _, _ = windows[index]
        name = windows.name_of(index).split(" ")[0]
        clip = next(c for c in corpus.clips() if c.name == name)
        begins = (clip.audio[round(f * 1600 / 3) :][:400] for f in range(46))
        first = next(f for f, heard in enumerate(begins) if np.array_equal(heard, audio[:400]))
        gap = lip_gap(clip.points[first : first + 30]) - lip_gap(clip.identity)
        np.testing.assert_allclose(lip_gap(target), gap, atol=0.02)
        assert mask.all() and stretch == 1 and np.array_equal(label, vector({}))
        assert abs(lip_gap(identity) - lip_gap(clip.identity)) < 0.02


def test_what_hangs_over_a_clips_ends_is_silent_and_not_scored(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", replace(PLAIN, edges=1.0), 1)
    before = after = 0
    for index in range(200):
        audio, *_, target, mask, _, _, _ = windows[index]
        known = np.flatnonzero(mask)
        assert len(known) >= 6 and np.all(np.diff(known) == 1)
        heard = np.flatnonzero(np.abs(audio) > 1e-4)
        assert heard[0] >= known[0] * 1600 / 3 - 1 and heard[-1] <= (known[-1] + 1) * 1600 / 3 + 1
        before, after = before + (known[0] > 0), after + (known[-1] < 29)
        assert np.isfinite(target).all()
    assert before > 20 and after > 20


def test_a_clip_shorter_than_a_window_is_padded(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "c", [talking("short", 1, 0.6)], {"short": "train"})
    windows = Windows([Corpus(folder)], "train", PLAIN, 1)
    assert len(windows) == 1
    audio, _, _, _, mask, _, _, _ = windows[0]
    assert mask.sum() == 18 and np.abs(audio[:9600]).max() > 0.01 and not audio[9600:].any()


def test_a_faster_window_says_more_of_the_clip_with_its_face(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", replace(PLAIN, speed=1.0, speeds=(1.17,)), 1)
    for index in range(6):
        audio, *_, target, _, _, _, _ = windows[index]
        # The mouth opens with loudness: it must still, after both were sped up.
        loud = np.sqrt(np.convolve(audio**2, np.ones(800) / 800, "same"))
        at = (np.arange(30) * 1600 / 3).astype(int)
        gap = lip_gap(target)
        assert np.corrcoef(loud[at][1:-1], gap[1:-1])[0, 1] > 0.97


@pytest.mark.parametrize("speed", [*PLAIN.speeds, *PLAIN.pitches])
def test_resampling_is_torchaudios(speed: float) -> None:
    sound = torch.randn(18_000, generator=torch.Generator().manual_seed(0))
    wanted = torchaudio().transforms.Resample(round(100 * speed), 100)(sound)
    kernel, hop = resampling(speed)
    reach = (len(kernel) - hop) // 2
    padded = torch.nn.functional.pad(sound, (reach, reach + hop))
    torch.testing.assert_close(resampled(padded, speed)[: len(wanted)], wanted)


def test_a_faster_window_is_the_clip_resampled(corpus: Corpus) -> None:
    a = replace(PLAIN, speed=1.0, speeds=(0.93,))
    whole = torch.from_numpy(corpus.sound(corpus.entries[0], 0, corpus.entries[0].audio[1]))
    wanted = torchaudio().transforms.Resample(93, 100)(whole).numpy()
    for first in (-24, 0, 31, 77):  # also over the clip's ends
        start = round(first * 1600 / 3)
        got = Sound(a).window(corpus, corpus.entries[0], first, 0.93)
        assert got.shape == (16_000,)
        low, high = max(start, 0), min(start + 16_000, len(wanted))
        # A clip's sample is the first: up to half of one beside the exact time.
        offset = round(first * 1600 / 3 * 0.93) / 0.93 - start
        spectrum = np.fft.rfft(wanted)
        turn = np.exp(2j * np.pi * np.arange(len(spectrum)) * offset / len(wanted))
        moved = np.fft.irfft(spectrum * turn, len(wanted))
        inner = slice(low + 100, high - 100)
        error = got[low + 100 - start : high - 100 - start] - moved[inner]
        assert np.abs(error).max() < 0.01 * np.abs(wanted).max()


@pytest.mark.parametrize("ratio", PLAIN.pitches)
def test_slowing_is_torchaudios_phase_vocoder(corpus: Corpus, ratio: float) -> None:
    sound = torch.from_numpy(corpus.sound(corpus.entries[0], -3000, 16_000))  # begins in silence
    window = torch.hann_window(512)
    spectrum = torch.stft(sound, 512, 128, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * 128, 257)[:, None]
    other = torchaudio().functional.phase_vocoder(spectrum, 1 / ratio, advance)
    wanted = torch.istft(other, 512, 128, window=window, length=round(16_000 * ratio))
    torch.testing.assert_close(slowed(sound, ratio), wanted, atol=2e-3, rtol=0)


def test_silence_stays_silence_at_any_pitch() -> None:
    assert not pitched(torch.zeros(16_000), 1.25).any()


def test_pitch_moves_and_time_does_not() -> None:
    t = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * torch.pi * 300 * t) * (t > 0.5)
    for ratio in (0.8, 1.25):
        moved = pitched(tone, ratio)
        assert moved.shape == tone.shape
        assert abs(int(torch.fft.rfft(moved).abs().argmax()) - 300 * ratio) <= 3
        begins = int((moved.abs() > 0.3).nonzero()[0])
        assert abs(begins - 8000) < 400
    reference = torchaudio().functional.pitch_shift(tone, 16_000, 4, n_fft=512)
    peak = int(torch.fft.rfft(reference).abs().argmax())
    assert abs(peak - 300 * 2 ** (4 / 12)) <= 3  # the same effect, by its own slower way


def test_noise_and_gain_are_of_the_size_asked_for(corpus: Corpus) -> None:
    plain = Windows([corpus], "train", PLAIN, 1)
    loud = Windows([corpus], "train", replace(PLAIN, gain=1.0, gain_db=(6.0, 6.0)), 1)
    noisy = Windows([corpus], "train", replace(PLAIN, noise=1.0, noise_snr_db=(20.0, 20.0)), 1)
    for index in range(4):
        audio = plain[index][0]
        np.testing.assert_allclose(loud[index][0], np.clip(audio * 10**0.3, -1, 1), rtol=1e-4)
        noise = noisy[index][0] - audio
        wanted = torchaudio().functional.add_noise(
            torch.from_numpy(audio), torch.from_numpy(noise), torch.tensor(20.0)
        )
        np.testing.assert_allclose(noisy[index][0], wanted.numpy(), atol=1e-4)
        snr = 10 * np.log10(np.square(audio).mean() / np.square(noise).mean())
        assert abs(snr - 20) < 0.1


def test_a_level_that_drifts_wanders_within_the_window(corpus: Corpus) -> None:
    plain = Windows([corpus], "train", PLAIN, 1)
    drifting = Windows([corpus], "train", replace(PLAIN, drift=1.0), 1)
    swings: list[float] = []
    for index in range(12):
        was, audio = plain[index][0], drifting[index][0]
        heard = np.abs(was) > 1e-4
        decibels = 20 * np.log10(np.abs(audio[heard]) / np.abs(was[heard]))
        assert decibels.min() > -12.1 and decibels.max() < 12.1
        assert np.abs(np.diff(decibels)).max() < 24 / 3200 * 400  # never at once
        assert np.array_equal(plain[index][3], drifting[index][3])  # the face is left alone
        swings.append(float(np.ptp(decibels)))
    assert min(swings) > 3 and np.mean(swings) > 10


def quiet_seconds(audio: NDArray[np.float32], plain: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where sound was taken away (s), all but its edges."""
    softer = np.abs(audio) < 0.02 * np.abs(plain)
    return np.flatnonzero(softer) / 16_000


def test_in_silence_the_face_is_at_rest(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", replace(PLAIN, rest=1.0), 1)
    plain = Windows([corpus], "train", PLAIN, 1)
    silent = stopped = shut = came_back = 0
    for index in range(120):
        audio, *_, target, mask, _, _, _ = windows[index]
        assert mask.all()
        if not target.any():
            silent += 1
            assert np.sqrt(np.mean(np.square(audio))) < 0.2  # noise, a hum or music
            continue
        stopped += 1
        quiet = quiet_seconds(audio, plain[index][0])
        begin, back = quiet[0], quiet[-1]
        at = np.arange(30) / 30
        closed = (at > begin + 0.22) & (at < back - 0.1)  # lips part 0.1 s before the sound
        assert np.abs(target[closed]).max(initial=0) < 1e-9
        before = at < begin - 0.1
        np.testing.assert_allclose(target[before], plain[index][3][before])
        shut += not target[-1].any()
        if back < 0.9:
            came_back += 1
            after = at > back + 0.1
            np.testing.assert_allclose(target[after], plain[index][3][after])
            assert 0.25 < back - begin < 0.9
    assert silent > 10 and stopped > 40 and came_back > 5 and shut > stopped / 3


def test_a_pause_is_silence_or_what_is_left_36_to_60_decibels_down(corpus: Corpus) -> None:
    windows = Windows([corpus], "train", replace(PLAIN, rest=1.0), 1)
    plain = Windows([corpus], "train", PLAIN, 1)
    left: list[float] = []
    for index in range(120):
        audio, *_, target, _, _, _, _ = windows[index]
        was = plain[index][0]
        quiet = quiet_seconds(audio, was)
        if target.any() and quiet[-1] - quiet[0] > 0.3:
            first = round((quiet[0] + 0.1) * 16_000)
            middle = slice(first, first + 1600)
            left.append(float(np.abs(audio[middle]).sum() / np.abs(was[middle]).sum()))
    assert min(left) == 0 and 0.3 < np.mean(np.array(left) == 0) < 0.7
    some = [20 * np.log10(v) for v in left if v]
    assert min(some) >= -60.1 and max(some) <= -35.9


@pytest.fixture(scope="module")
def spoken_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Clips with phones, never silence, another every 10 ms; the last lacks them."""
    clips = [talking(f"clip{k:03d}", k, 2.5) for k in range(4)]
    known = [replace(c, phones=(1 + (np.arange(250) + 7 * k) % 39).astype(np.uint8))
             for k, c in enumerate(clips[:3])]  # fmt: skip
    sides = {c.name: "train" for c in clips}
    folder = tmp_path_factory.mktemp("data") / "c"
    return Corpus(write_corpus(folder, [*known, clips[3]], sides))  # pyright: ignore[reportArgumentType]


def owner(windows: Windows, index: int) -> tuple[Corpus, Entry]:
    name = windows.name_of(index).split(" ")[0]
    clip = next(k for k in windows.clips if k.entry.name == name)
    return clip.corpus, clip.entry


@pytest.mark.parametrize("speed", [1.0, 0.8, 1.25])
def test_phones_are_those_of_the_sound(spoken_corpus: Corpus, speed: float) -> None:
    chance = replace(PLAIN, speed=float(speed != 1), speeds=(speed,))
    windows = Windows([spoken_corpus], "train", chance, 1)
    batch = windows.batch(8, 0)
    assert batch.phones.shape == (8, 50) and batch.phones.dtype == torch.int64
    seen = 0
    for index in range(8):
        corpus, entry = owner(windows, index)
        track, found = corpus.phones(entry), batch.phones[index].numpy()
        if track is None:
            assert (found == UNKNOWN).all()
            continue
        seen += 1
        heard = (Sound(PLAIN).window(corpus, entry, f, speed) for f in range(70))
        first = next(f for f, s in enumerate(heard) if np.array_equal(s, batch.audio[index]))
        steps = np.floor((first / 30 + np.arange(50) / 50) * speed * 100 + 1e-6).astype(int)
        assert np.array_equal(found, track[steps])
    assert seen > 3


def test_phones_outside_a_clip_are_not_known(spoken_corpus: Corpus) -> None:
    windows = Windows([spoken_corpus], "train", replace(PLAIN, edges=1.0), 1)
    before = after = 0
    for index in range(60):
        *_, mask, _, spoken, _ = windows[index]
        if spoken_corpus.phones(owner(windows, index)[1]) is None:
            continue
        known = np.flatnonzero(spoken != UNKNOWN) / 50
        inside = np.flatnonzero(mask) / 30
        assert abs(known[0] - inside[0]) <= 1 / 30 and abs(known[-1] - inside[-1]) <= 2 / 30
        assert np.diff(known).max() < 0.03
        before, after = before + (known[0] > 0.02), after + (known[-1] < 0.96)
    assert before > 5 and after > 5


def test_where_the_face_is_at_rest_the_phones_are_silence(spoken_corpus: Corpus) -> None:
    windows = Windows([spoken_corpus], "train", replace(PLAIN, rest=1.0), 1)
    plain = Windows([spoken_corpus], "train", PLAIN, 1)
    levels: list[float] = []
    stopped = 0
    for index in range(80):
        audio, _, _, target, mask, _, spoken, _ = windows[index]
        assert mask.all()
        if not target.any():
            assert (spoken == INDEX["SIL"]).all()
            levels.append(float(np.sqrt(np.mean(np.square(audio)))))
            continue
        stopped += 1
        quiet = quiet_seconds(audio, plain[index][0])
        at = np.arange(50) / 50
        inside = (at > quiet[0] + 0.002) & (at < quiet[-1] - 0.002)
        assert (spoken[inside] == INDEX["SIL"]).all()
        outside = (at < quiet[0] - 0.082) | (at > quiet[-1] + 0.082)  # sound fades in and out
        assert np.array_equal(spoken[outside], plain[index][6][outside])
        assert (spoken[outside] != INDEX["SIL"]).all()
    assert stopped > 30 and len(levels) > 15
    # Nothing at all, faint noise, and what is no speech, at most as loud as a voice.
    assert min(levels) == 0 and 0.02 < max(levels) < 10**-0.89


@pytest.mark.parametrize("name", ["babble", "channel", "drift"])
def test_sounds_are_of_seed_epoch_and_sample(spoken_corpus: Corpus, name: str) -> None:
    chance = augmentation([f"{name}=1"])
    windows = Windows([spoken_corpus], "train", chance, 3)
    here = [windows[k][0] for k in range(12)]
    assert all(np.isfinite(audio).all() for audio in here)
    elsewhere = Windows([spoken_corpus], "train", chance, 3)
    there = {k: elsewhere[k][0] for k in reversed(range(12))}
    assert all(np.array_equal(here[k], there[k]) for k in range(12))
    # The same second in another epoch, and with another seed, sounds otherwise.
    other = Windows([spoken_corpus], "train", chance, 4)
    assert not any(np.array_equal(here[k], other[k][0]) for k in range(12))
    assert not any(np.array_equal(here[k], windows[12 + k][0]) for k in range(len(windows)))


def test_other_voices_are_behind_the_speaker_and_leave_the_face_alone(
    spoken_corpus: Corpus,
) -> None:
    plain = Windows([spoken_corpus], "train", PLAIN, 1)
    babble = Windows([spoken_corpus], "train", augmentation(["babble=1"]), 1)
    ratios: list[float] = []
    for index in range(16):
        own, heard = plain[index], babble[index]
        assert np.array_equal(own[3], heard[3]) and np.array_equal(own[6], heard[6])
        behind = heard[0] - own[0]
        ratios.append(10 * np.log10(np.mean(np.square(own[0])) / np.mean(np.square(behind))))
        spectrum = np.square(np.abs(np.fft.rfft(behind)))
        assert spectrum[80:4000].sum() > 0.8 * spectrum.sum()  # voices, not hiss
    assert 5.99 < min(ratios) < 12 and 18 < max(ratios) < 25.01


def test_a_channel_changes_the_sound_alone_and_not_its_power(spoken_corpus: Corpus) -> None:
    plain = Windows([spoken_corpus], "train", PLAIN, 1)
    channel = Windows([spoken_corpus], "train", augmentation(["channel=1"]), 1)
    for index in range(8):
        own, heard = plain[index], channel[index]
        assert np.array_equal(own[3], heard[3]) and np.array_equal(own[6], heard[6])
        assert np.abs(heard[0] - own[0]).max() > 0.01
        assert heard[0] @ heard[0] == pytest.approx(own[0] @ own[0], rel=1e-3)


def test_labelled_rows_carry_the_emotions_displacement(corpus: Corpus) -> None:
    batch = Windows([corpus], "train", replace(PLAIN, emotion=1.0), 1).batch(16, 0)
    moved = displacement(batch.emotion.numpy().astype(np.float64))[:, None, 17:27]
    brows = batch.target[:, :, 17:27].numpy() - moved
    assert np.abs(brows).max() < 0.2  # these clips' brows do not move by themselves
    assert (batch.emotion != torch.from_numpy(vector({}))).any()


def test_a_clips_own_label_is_given_in_full_or_by_level(tmp_path: Path) -> None:
    clips = [talking("a", 0, emotion="happy", level=1), talking("b", 1, emotion="neutral")]
    for c in clips[:1]:
        c.points[:, 48, 0] -= 7.0  # smiles
    sides = {"a": "train", "b": "train"}
    corpus = Corpus(write_corpus(tmp_path / "c", clips, sides))  # pyright: ignore[reportArgumentType]
    for by_level, weight in ((False, 1.0), (True, 1 / 3)):
        windows = Windows([corpus], "train", PLAIN, 1, by_level=by_level)
        happy = [windows[i] for i in range(4) if windows.name_of(i).startswith("a ")]
        assert happy
        for _, identity, label, target, *_ in happy:
            np.testing.assert_allclose(label, vector({"happy": weight}))
            # The reference is the neutral clip's face, so that the smile is displacement.
            np.testing.assert_allclose(target[:, 48, 0], -7.0, atol=0.1)
            assert abs(identity[48, 0] - corpus.neutral["someone"][48, 0]) < 1e-4


def test_lips_of_other_voices_faces_part_further_and_closed_ones_stay_closed(
    tmp_path: Path,
) -> None:
    corpus = Corpus(one_speaker(tmp_path / "c"))
    plain = Windows([corpus], "train", PLAIN, 1)
    own = Windows([corpus], "train", PLAIN, 1, wider=0.25)
    for index in range(4):
        np.testing.assert_array_equal(plain[index][3], own[index][3])
    corpus.header = msgspec.structs.replace(corpus.header, dubbed=True)
    wider = Windows([corpus], "train", PLAIN, 1, wider=0.25)
    most = 0.0
    for index in range(4):
        before, after = plain[index][3], wider[index][3]
        gap = lip_gap(before)
        most = max(most, gap.max())
        np.testing.assert_allclose(lip_gap(after), 1.25 * gap, atol=1e-9)
        moved = after - before
        np.testing.assert_allclose(moved[:, 62, 1], -gap / 8, atol=1e-9)
        np.testing.assert_allclose(moved[:, 66, 1], gap / 8, atol=1e-9)
        assert np.abs(moved[:, 17:49]).max() == 0
    assert most > 2


def test_the_identity_is_the_clips_face_at_rest_whatever_frame_a_window_begins_with(
    corpus: Corpus,
) -> None:
    windows = Windows([corpus], "train", PLAIN, 1)
    for index in range(len(windows)):
        _, identity, _, target, *_ = windows[index]
        _, entry = owner(windows, index)
        np.testing.assert_allclose(identity, corpus.clip_identity(entry), atol=0.02)
        assert abs(lip_gap(identity[None])[0]) < 0.5  # the clip's mouth shut, mostly not first
        assert np.abs(target).max() > 1


def test_in_silence_a_labelled_face_keeps_its_emotion(tmp_path: Path) -> None:
    clips = [talking("a", 0, emotion="happy"), talking("b", 1, emotion="neutral")]
    clips[0].points[:, 48, 0] -= 7.0  # smiles, whether it speaks or not
    sides = {"a": "train", "b": "train"}
    corpus = Corpus(write_corpus(tmp_path / "c", clips, sides))  # pyright: ignore[reportArgumentType]
    windows = Windows([corpus], "train", replace(PLAIN, rest=1.0), 1)
    silent = 0
    for index in range(40):
        _, _, label, target, *_ = windows[index]
        happy = bool(label[EMOTIONS.index("happy")] == 1)
        smile = -7.0 if happy else 0.0
        np.testing.assert_allclose(target[:, 48, 0], smile, atol=0.1)
        silent += happy and not np.abs(target[:, 66, 1]).max() > 0.1
    assert silent > 3


def test_a_mirrored_row_is_the_mirror_image(corpus: Corpus) -> None:
    plain = Windows([corpus], "train", PLAIN, 1)
    mirrored = Windows([corpus], "train", replace(PLAIN, mirror=1.0), 1)
    for index in range(4):
        _, identity, _, target, *_ = mirrored[index]
        _, own, _, moved, *_ = plain[index]
        np.testing.assert_allclose(identity, own[list(MIRROR)] * [-1, 1] + [256, 0], atol=1e-4)
        np.testing.assert_allclose(target, moved[:, list(MIRROR)] * [-1, 1], atol=1e-9)


def test_augmentation_is_asked_for_by_name() -> None:
    assert augmentation([]) == PLAIN == Augmentation()
    assert augmentation(["gain", "noise=0.25"]) == replace(PLAIN, gain=1.0, noise=0.25)
    for wrong in ("reverb", "gain=loud", "noise=2", "gain_db=1"):
        with pytest.raises(DataError, match=f"augmentation '{wrong}'; wanted"):
            augmentation([wrong])


def test_another_face_has_the_same_features_elsewhere() -> None:
    rng = np.random.default_rng(0)
    own = NEUTRAL.astype(np.float32)
    faces = np.stack([another_face(rng, own) for _ in range(300)])
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
    weights = LossWeights(mouth=4, velocity=1, gap=1, width=1)
    assert float(loss(predicted, target, mask, weights)["total"]) == 0
    assert float(loss(predicted, target, torch.ones(1, 30), weights)["velocity"]) > 0.5


def test_the_papers_loss_is_the_mean_square() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 30, 68, 2), torch.randn(2, 30, 68, 2)
    total = loss(predicted, target, torch.ones(2, 30), LossWeights())["total"]
    torch.testing.assert_close(total, torch.nn.functional.mse_loss(predicted, target))


def test_the_loss_of_two_halves_is_that_of_the_whole() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(4, 30, 68, 2), torch.randn(4, 30, 68, 2)
    mask = (torch.rand(4, 30) > 0.3).float()
    weights = LossWeights(mouth=4, velocity=2, gap=1, width=1)
    whole = loss(predicted, target, mask, weights)["total"]
    parts = [loss(predicted[s], target[s], mask[s], weights)["total"]
             for s in (slice(2), slice(2, 4))]  # fmt: skip
    torch.testing.assert_close(whole, sum(parts) / 2)
