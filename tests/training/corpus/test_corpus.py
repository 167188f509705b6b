"""The prepared format: what goes in comes out, whole clips only, leaks and damage are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kfusion.errors import DataError
from kfusion.landmarks import NEUTRAL
from tests.training.corpora import one_speaker, talking, write_corpus
from training.corpus.clips import Clip, at_30fps, at_times
from training.corpus.format import (
    Corpus,
    CorpusHeader,
    CorpusWriter,
    open_corpora,
    select_entries,
)
from training.corpus.splits import LeakError, Split

HEADER = CorpusHeader(source="made", layout="made", split_by="clip", seed=0, share=0.1, held_out=[])


def with_phones(name: str, seed: int, steps: int | None, seconds: float = 2.0) -> Clip:
    """``steps`` random phones; None where they are not known."""
    rng = np.random.default_rng(seed)
    phones = None if steps is None else rng.integers(0, 40, steps).astype(np.uint8)
    return replace(talking(name, seed, seconds), phones=phones)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    clips = [
        replace(with_phones("a", 0, 200), emotion="happy", level=2),
        with_phones("b", 1, None, 1.3),
        with_phones("c", 2, 133),
    ]
    sides: dict[str, Split] = {"a": "train", "b": "validation", "c": "train"}
    corpus = Corpus(write_corpus(tmp_path / "c", clips, sides))
    for entry, clip in zip(corpus.entries, clips, strict=True):
        out = corpus.clip(entry)
        assert (out.name, out.speaker, out.emotion, out.level) == (
            clip.name, clip.speaker, clip.emotion, clip.level,
        )  # fmt: skip
        np.testing.assert_allclose(out.audio, clip.audio, atol=1 / 32768)
        np.testing.assert_allclose(out.points, clip.points, atol=1 / 128)
        np.testing.assert_allclose(out.identity, clip.identity, atol=1 / 128)
        assert (entry.phones is None) == (clip.phones is None)
        for phones in (corpus.phones(entry), out.phones):
            np.testing.assert_equal(phones, clip.phones)
    assert [c.name for c in corpus.clips("train")] == ["a", "c"]
    assert (tmp_path / "c" / "phones.u8").stat().st_size == 333


def test_a_corpus_from_before_phones_is_read_and_gone_on_with(tmp_path: Path) -> None:
    folder = one_speaker(tmp_path / "c")
    (folder / "phones.u8").unlink()
    corpus = Corpus(folder)
    assert b"phones" not in (folder / "clips.jsonl").read_bytes()
    assert all(corpus.phones(e) is None for e in corpus.entries)
    with CorpusWriter(folder, corpus.header) as writer:
        writer.add(with_phones("new", 9, 50), "train")
        writer.finish()
    again = Corpus(folder)
    assert [again.phones(e) is None for e in again.entries] == [True] * 4 + [False]


def test_writing_goes_on_after_the_last_whole_clip(tmp_path: Path) -> None:
    clips = [with_phones(f"c{k}", k, None if k == 2 else 200) for k in range(4)]
    for name, torn in (("whole", False), ("torn", True)):
        folder = tmp_path / name
        with CorpusWriter(folder, HEADER) as corpus:
            for clip in clips[:2]:
                corpus.add(clip, "train")
            corpus.skip("bad", "no face")
        if torn:  # as a killed writer leaves it: data without a line, and half a line
            for file in ("audio.i16", "points.i16", "phones.u8"):
                with (folder / file).open("ab") as more:
                    more.write(b"half a clip")
            with (folder / "clips.jsonl").open("ab") as more:
                more.write(b'{"name":"c2","spea')
        with CorpusWriter(folder, HEADER) as corpus:
            assert corpus.done == {"c0", "c1", "bad"}
            for clip in clips[2:]:
                corpus.add(clip, "train")
            corpus.finish()
    for file in sorted(p.name for p in (tmp_path / "whole").iterdir()):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "torn" / file).read_bytes()


def test_what_is_no_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared corpus"):
        Corpus(tmp_path)
    with (
        pytest.raises(DataError, match=r"no usable clip \(1 x no face \(bad\)"),
        CorpusWriter(tmp_path / "empty", HEADER) as corpus,
    ):
        corpus.skip("bad", "no face")
        corpus.finish()
    folder = one_speaker(tmp_path / "c")
    (folder / "points.i16").write_bytes(b"short")
    with pytest.raises(DataError, match=r"points\.i16: has 5 bytes"):
        Corpus(folder)
    (folder / "clips.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="no Entry"):
        Corpus(folder)


@pytest.mark.parametrize(
    ("clip", "what"),
    [
        (Clip("x", np.zeros(0, np.float32), NEUTRAL[None]), "no sound"),
        (Clip("x", np.ones(9, np.float32), NEUTRAL[None] * np.nan), "not finite"),
        (Clip("x", np.ones(9, np.float32), NEUTRAL[None], emotion="bored"), "'bored'; wanted"),
    ],
)
def test_clips_that_cannot_be_kept_are_named(tmp_path: Path, clip: Clip, what: str) -> None:
    with CorpusWriter(tmp_path / "c", HEADER) as corpus, pytest.raises(DataError, match=what):
        corpus.add(clip, "train")


def test_a_skipped_name_of_any_bytes_is_written_and_read(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "c", HEADER) as corpus:
        corpus.skip("caf\udce9", "is a link to ren\udce9")
    with CorpusWriter(tmp_path / "c", HEADER) as corpus:
        (skipped,) = corpus.skipped
    assert (skipped.name, skipped.reason) == ("caf\\xe9", "is a link to ren\\xe9")


@pytest.fixture
def two_speakers(tmp_path: Path) -> Path:
    """A corpus of two clips of each."""
    clips = [talking(f"{s}{k}", 10 * n + k, speaker=s) for n, s in enumerate("ab") for k in (0, 1)]
    return write_corpus(tmp_path / "two", clips)


def test_a_leak_is_an_error_within_a_corpus_and_between_corpora(
    tmp_path: Path, two_speakers: Path
) -> None:
    corpus = Corpus(two_speakers)
    assert {e.speaker for e in corpus.select("train")}.isdisjoint(
        e.speaker for e in corpus.select("validation")
    )
    first, *others = (two_speakers / "clips.jsonl").read_text().splitlines()
    other = {"train": "validation", "validation": "train"}
    split = corpus.entries[0].split
    moved = "\n".join([first.replace(split, other[split]), *others, ""])
    (two_speakers / "clips.jsonl").write_text(moved)
    with pytest.raises(LeakError, match="speakers"):
        Corpus(two_speakers)
    sides: tuple[Split, Split] = ("train", "validation")
    folders = [write_corpus(tmp_path / s, [talking("x", 5)], {"x": s}) for s in sides]
    with pytest.raises(LeakError, match="recordings"):
        open_corpora(folders)


def test_a_speaker_of_a_corpus_split_by_clip_may_not_be_held_out_by_another(
    tmp_path: Path, two_speakers: Path
) -> None:
    (held_out,) = {e.speaker for e in Corpus(two_speakers).select("validation")}
    for speaker in "ab":
        clip = talking("x", 5, speaker=speaker)
        one = write_corpus(tmp_path / speaker, [clip], {"x": "train"})
        if speaker == held_out:
            with pytest.raises(LeakError, match=f"speakers {speaker} are both"):
                open_corpora([one, two_speakers])
        else:
            open_corpora([one, two_speakers])


def test_of_corpora_that_are_used_together_some_may_lack_a_side(tmp_path: Path) -> None:
    one = Corpus(write_corpus(tmp_path / "one", [talking("a", 0)], {"a": "train"}))
    two = Corpus(write_corpus(tmp_path / "two", [talking("b", 1)], {"b": "validation"}))
    assert [e.name for _, e in select_entries([one, two], "validation")] == ["b"]
    assert [e.name for _, e in select_entries([one, two], "all")] == ["a", "b"]
    with pytest.raises(DataError, match="one: no validation clips among 1"):
        select_entries([one], "validation")


def test_an_emotional_clip_knows_its_speakers_neutral_face_in_its_own_crop(tmp_path: Path) -> None:
    plain = talking("n", 0, speaker="a", emotion="neutral")
    smiling = talking("h", 1, speaker="a", emotion="happy")
    smiling.points[:, 48, 0] -= 7.0
    smiling.points[:] = smiling.points * 1.1 + 5.0
    others = [talking("x", 2, speaker="b", emotion="happy")]
    corpus = Corpus(write_corpus(tmp_path / "c", [plain, smiling, *others]))
    clips = {e.name: corpus.clip(e) for e in corpus.entries}
    assert clips["n"].neutral is None and clips["x"].neutral is None
    found = clips["h"].neutral
    assert found is not None
    np.testing.assert_allclose(found, plain.identity * 1.1 + 5.0, atol=0.05)


def test_tracks_are_resampled_in_time() -> None:
    for times in (np.arange(50) / 25, np.cumsum(np.random.default_rng(0).uniform(0.01, 0.07, 50))):
        ramp = times[:, None, None] * np.ones((1, 68, 2))
        new_times = np.arange(40) / 30
        inside = new_times >= times[0]
        taken = at_times(ramp, times, new_times)[:, 0, 0]
        np.testing.assert_allclose(taken[inside], new_times[inside], atol=1e-9)
    assert len(at_30fps(np.zeros((75, 68, 2)), np.arange(75) / 25)) == 89  # the last at 2.96 s
    wave = np.sin(2 * np.pi * 3 * np.arange(75) / 25)[:, None]
    there = at_30fps(wave, np.arange(75) / 25)[:, 0]
    assert np.abs(there - np.sin(2 * np.pi * 3 * np.arange(len(there)) / 30))[2:-2].max() < 0.06
