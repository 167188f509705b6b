"""A face trained by phones, and sound that nobody filmed labelled by it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL, lip_gap
from kfusion.runtime import WEIGHTS, Animator
from tests.conftest import voice
from tests.training.corpora import one_speaker, write_corpus
from tests.training.tracks import corpus_files
from training import teacher
from training.corpus.clips import Clip
from training.corpus.format import Corpus
from training.corpus.splits import Split, split_of_clip
from training.label import ModelLabeller, PhoneLabeller, label
from training.label import main as label_main
from training.phones import PHONE_INDEX, PHONES, PhoneTrack, phone_spans
from training.teacher import SUBSTITUTES, Teacher, animate, with_substitutes
from training.trial.model import open_engine

OPEN = {"AA": 12.0, "R": 6.0, "S": 5.0}
"""Pixels between the lips; on every other phone they are shut."""
SPOKEN = ("SIL", "AA", "B", "R", "S")


def track(*runs: tuple[str, int]) -> PhoneTrack:
    return np.concatenate([np.full(steps, PHONE_INDEX[name], np.uint8) for name, steps in runs])


def speaking(name: str, seed: int, phones: PhoneTrack) -> Clip:
    """A voice, and a mouth that is as open as :data:`OPEN` says."""
    count = len(phones) * 30 // 100
    at = np.minimum((np.arange(count) * 10 / 3).astype(int), len(phones) - 1)
    points = np.repeat(NEUTRAL[None], count, axis=0)
    points[:, [65, 66, 67], 1] += np.array([OPEN.get(PHONES[p], 0.0) for p in phones[at]])[:, None]
    return Clip(name, voice(len(phones) / 100, seed=seed), points, "ann", phones=phones)


def random_track(rng: np.random.Generator, names: Sequence[str] = SPOKEN) -> PhoneTrack:
    runs = [(str(rng.choice(names)), int(rng.integers(12, 30))) for _ in range(12)]
    return track(("SIL", 20), *runs, ("SIL", 20))


def write_speaking(folder: Path, count: int = 6) -> Path:
    names = [f"clip{k}" for k in range(count)]
    sides: dict[str, Split] = dict.fromkeys(names, "train")
    sides[names[-1]] = "validation"
    clips = [speaking(n, k, random_track(np.random.default_rng(k))) for k, n in enumerate(names)]
    return write_corpus(folder, clips, sides)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(write_speaking(tmp_path_factory.mktemp("data") / "c"))


@pytest.fixture(scope="module")
def trained(corpus: Corpus) -> Teacher:
    return teacher.train([corpus], steps=25)  # with 60 the gaps are right within 0.6 px


def gap_on(trained: Teacher, name: str, *, before: str = "SIL") -> float:
    """Pixels between the lips in the middle of 0.3 s of a phone."""
    moved = teacher.predict(trained, track((before, 40), (name, 30), (before, 40)))
    gap = lip_gap(moved)
    return float(gap[15:18].mean())


def test_the_mouth_opens_and_shuts_as_it_did_in_the_clips(trained: Teacher) -> None:
    for name in ("AA", "R", "S"):
        assert gap_on(trained, name) == pytest.approx(OPEN[name], rel=0.35), name
    for name in ("B", "SIL"):
        assert gap_on(trained, name) < 1.5 and gap_on(trained, name, before="AA") < 1.5, name
    assert gap_on(trained, "AA") > gap_on(trained, "R") + 2


def test_a_phone_that_it_never_met_looks_as_those_that_look_alike(trained: Teacher) -> None:
    for other in ("P", "M"):  # as B
        assert gap_on(trained, other, before="AA") < 1.5, other
    assert gap_on(trained, "Z") > 2.5  # as S
    assert gap_on(trained, "ER") == gap_on(trained, "R")  # its substitute


def test_a_face_follows_its_phones_in_time(trained: Teacher) -> None:
    phones = track(("SIL", 60), ("AA", 30), ("SIL", 60))
    gap = lip_gap(teacher.predict(trained, phones))
    assert len(gap) == 45
    wide = np.flatnonzero(gap > gap.max() / 2) / 30
    assert wide[0] == pytest.approx(0.6, abs=0.05) and wide[-1] == pytest.approx(0.9, abs=0.07)
    later = np.concatenate([phones[:30], phones])  # by 0.3 s, nine frames
    later = lip_gap(teacher.predict(trained, later))
    np.testing.assert_allclose(later[20:50], gap[11:41], atol=0.05)


@pytest.mark.parametrize(("steps", "frames"), [(0, 0), (3, 0), (4, 1), (10, 3), (410, 123)])
def test_a_frame_is_there_for_each_whole_thirtieth(steps: int, frames: int) -> None:
    assert teacher.predict(Teacher().eval(), np.zeros(steps, np.uint8)).shape == (frames, 68, 2)


def test_a_clip_is_answered_on_its_own_face(trained: Teacher, corpus: Corpus) -> None:
    clip = next(corpus.clips("validation"))
    own = animate(trained, clip)
    wider = Clip("x", clip.audio, clip.points * 1.1 + 5, phones=clip.phones)
    np.testing.assert_allclose(animate(trained, wider), own * 1.1 + 5, atol=0.01)
    gaps = lip_gap(own)[: len(clip.points)], lip_gap(clip.points)[: len(own)]
    assert np.corrcoef(*gaps)[0, 1] > 0.8


def test_phones_that_a_corpus_lacks_are_substituted_in_halves() -> None:
    phones = track(("B", 5), ("OY", 10), ("SH", 4), ("AA", 3))
    found = list(phone_spans(with_substitutes(phones)))
    assert found == [(0, 5, "B"), (5, 10, "AO"), (10, 15, "IY"), (15, 19, "CH"), (19, 22, "AA")]
    substitutes = {name for names in SUBSTITUTES.values() for name in names}
    assert substitutes <= set(PHONES) - set(SUBSTITUTES)
    assert PHONES[phones[5]] == "OY"  # the input is unchanged


def test_the_same_seed_teaches_the_same_face(corpus: Corpus) -> None:
    phones = random_track(np.random.default_rng(1))
    teachers = [teacher.train([corpus], 1, seed) for seed in (1, 1, 2)]
    one, again, other = (teacher.predict(each, phones) for each in teachers)
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_what_is_saved_says_the_same_when_it_is_loaded(trained: Teacher, tmp_path: Path) -> None:
    teacher.save(trained, tmp_path / "deep" / "t.safetensors")
    again = teacher.load(tmp_path / "deep" / "t.safetensors")
    phones = random_track(np.random.default_rng(9), PHONES)
    assert np.array_equal(teacher.predict(again, phones), teacher.predict(trained, phones))
    assert torch.equal(again.rest, trained.rest)
    assert lip_gap(again.rest.numpy()) == pytest.approx(lip_gap(NEUTRAL), abs=0.1)


def test_a_file_that_is_no_teacher_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("no weights")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other")
    for name in ("text", "other", "nothing"):
        with pytest.raises(DataError, match=f"{name}: is no teacher"):
            teacher.load(tmp_path / name)


def test_a_corpus_without_phones_teaches_nothing(tmp_path: Path) -> None:
    corpus = Corpus(one_speaker(tmp_path / "c"))
    with pytest.raises(DataError, match=r"no train clip has phones; wanted .* --phones"):
        teacher.train([corpus], 1)


# Labels


SPEAKERS = ("amy", "ben", "cat", "dan")


@pytest.fixture
def still_teacher(tmp_path: Path) -> Path:
    """A teacher's file: it knows a face, and keeps it still."""
    still = Teacher().eval()
    still.rest.copy_(torch.from_numpy(NEUTRAL.copy()))
    teacher.save(still, tmp_path / "still_teacher.safetensors")
    return tmp_path / "still_teacher.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two clips of each of four people, a sound without phones, one too short, and the table."""
    folder = tmp_path / "speech"
    folder.mkdir()
    lines = ["clip\tstart_s\tend_s\tphone"]
    for k, name in enumerate([f"{who}-{n}" for who in SPEAKERS for n in range(2)] + ["amy-9"]):
        phones = random_track(np.random.default_rng(k))[: 2 if name == "amy-9" else 150]
        sound = voice(len(phones) / 100 + 0.004, seed=k)
        soundfile.write(folder / f"{name}.wav", sound, 16_000, subtype="FLOAT")
        lines += [f"{name}\t{a / 100}\t{b / 100}\t{p}" for a, b, p in phone_spans(phones)]
    soundfile.write(folder / "amy-unheard.wav", voice(1.0), 16_000)
    (tmp_path / "phones.tsv").write_text("\n".join(lines) + "\n")
    return folder


def table(source: Path) -> Path:
    return source.parent / "phones.tsv"


def label_with(
    weights: Path, source: Path, out: Path, share: float = 0.0, speaker: str = r"^(\w+)-"
) -> Corpus:
    return label(source, speaker, PhoneLabeller(table(source), weights, share), out)


def test_labels_are_what_the_teacher_says_on_its_own_face(
    trained: Teacher, source: Path, tmp_path: Path
) -> None:
    teacher.save(trained, tmp_path / "t.safetensors")
    corpus = label_with(tmp_path / "t.safetensors", source, tmp_path / "out")
    assert [e.name for e in corpus.entries] == [f"{w}-{n}" for w in SPEAKERS for n in range(2)]
    assert [(s.name, s.reason) for s in corpus.skipped] == [("amy-9", "is shorter than a frame")]
    assert corpus.header.split_by == "speaker"
    for k, entry in enumerate(corpus.entries):
        clip, phones = corpus.clip(entry), random_track(np.random.default_rng(k))[:150]
        assert clip.phones is not None and np.array_equal(clip.phones, phones)
        assert (entry.speaker, entry.split) == (entry.name[:3], split_of_clip(entry.name[:3]))
        expected = teacher.predict(trained, phones)
        assert len(clip.points) == 45
        np.testing.assert_allclose(lip_gap(clip.points), lip_gap(expected + trained.rest.numpy()),
                                   atol=0.05)  # fmt: skip
        np.testing.assert_allclose(clip.identity, trained.rest.numpy(), atol=0.02)
        np.testing.assert_allclose(clip.audio, voice(1.504, seed=k), atol=1e-4)


def test_brisker_labels_are_of_the_same_phones_and_swing_further(
    trained: Teacher, source: Path, tmp_path: Path
) -> None:
    teacher.save(trained, tmp_path / "t.safetensors")
    plain, brisk = (
        label_with(tmp_path / "t.safetensors", source, tmp_path / str(share), share)
        for share in (0.0, 0.5)
    )
    assert plain.header.files.keys() == {"phones", "teacher"}
    assert brisk.header.files["brisker"] == "0.5"
    for own, brisker_clip in zip(plain.clips(), brisk.clips(), strict=True):
        before, after = lip_gap(own.points), lip_gap(brisker_clip.points)
        assert after.std() > 1.05 * before.std()
        assert own.phones is not None and brisker_clip.phones is not None
        assert np.array_equal(own.phones, brisker_clip.phones)
        widest = before.argmax()
        assert before[widest] < after[widest] < 2 * before[widest] + 0.1
    with pytest.raises(DataError, match="other settings"):
        label_with(tmp_path / "t.safetensors", source, tmp_path / "0.5", 0.2)


@pytest.mark.parametrize(
    ("speaker", "what"),
    [
        (r"^(\d+)-", r"amy-0: --speaker .* does not match"),
        (r"^\w+-", "wanted a group"),
        (r"^(\w+", "missing \\)"),
        (r"^(x)?amy", "amy-0: --speaker .* does not match"),
    ],
)
def test_a_speaker_that_is_asked_for_wrongly_is_told(
    source: Path, still_teacher: Path, tmp_path: Path, speaker: str, what: str
) -> None:
    with pytest.raises(DataError, match=what):
        label_with(still_teacher, source, tmp_path / "out", speaker=speaker)


def test_stopped_in_the_middle_it_goes_on_and_ends_with_the_same_files(
    source: Path, still_teacher: Path, tmp_path: Path
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    label_with(still_teacher, source, whole)
    third = source / "ben-0.wav"
    sound = third.read_bytes()
    third.write_bytes(b"torn")
    with pytest.raises(DataError, match=r"ben-0\.wav: cannot be read"):
        label_with(still_teacher, source, torn)
    assert (torn / "clips.jsonl").read_bytes().count(b"\n") == 2
    for file in ("audio.i16", "points.i16", "phones.u8"):  # as a kill leaves them
        with (torn / file).open("ab") as more:
            more.write(b"half a clip")
    third.write_bytes(sound)
    label_with(still_teacher, source, torn)
    assert corpus_files(whole) == corpus_files(torn)
    table(source).write_text(table(source).read_text() + "more\t0.0\t1.0\tAA\n")
    with pytest.raises(DataError, match="begun with other settings"):
        label_with(still_teacher, source, torn)


def test_labels_are_what_the_model_says_of_any_sound(source: Path, tmp_path: Path) -> None:
    corpus = label(source, r"^(\w+)-", ModelLabeller(WEIGHTS), tmp_path / "out")
    assert "amy-unheard" in {e.name for e in corpus.entries}, "no phones are needed"
    clip = corpus.clip(next(e for e in corpus.entries if e.name == "ben-1"))
    sound, _ = soundfile.read(source / "ben-1.wav", dtype="float32")
    expected = Animator(open_engine(WEIGHTS)).animate(sound, 16_000, lookahead=15)
    assert clip.phones is None and len(clip.points) == len(expected)
    np.testing.assert_allclose(clip.points, expected, atol=0.05)
    np.testing.assert_allclose(clip.identity, NEUTRAL, atol=0.02)


def test_the_two_commands_teach_and_label(
    corpus: Corpus, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = str(tmp_path / "t.safetensors"), tmp_path / "out"
    assert teacher.main(["--data", str(corpus.folder), "--out", weights, "--steps", "1"]) == 0
    assert "on 1 clips held out M-LD" in capsys.readouterr().out
    command = ["--teacher", weights, "--phones", str(table(source)), "--out", str(out),
               "--speaker", r"^(\w+)-", "--source"]  # fmt: skip
    assert label_main([*command, str(source)]) == 0
    assert "8 clips" in capsys.readouterr().out and len(Corpus(out).entries) == 8
    assert label_main([*command, str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("training.label: ") and "nowhere" in error
