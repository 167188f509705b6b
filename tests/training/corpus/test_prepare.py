"""From video and from tracks to a corpus: in time, in order, and whole whatever happens."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kfusion.errors import DataError
from tests.conftest import folder_of
from tests.training.corpus.drawn_video import (
    MarkTracker,
    click_time,
    opening_time,
    write_clip,
    write_sound,
)
from tests.training.tracks import corpus_files, prepare_options, write_tracks
from training.corpus.clips import read_track
from training.corpus.format import Corpus
from training.phones import PHONE_INDEX
from training.prepare import main, plan, prepare

ROOT = Path(__file__).resolve().parents[3]
HALF_A_FRAME = 1 / 60


def in_sync(corpus: Corpus) -> bool:
    """Whether every clip's mouth is widest where its click sounds."""
    off = [abs(opening_time(c) - click_time(c.audio)) for c in corpus.clips()]
    return bool(off) and max(off) < HALF_A_FRAME


@pytest.mark.parametrize(
    ("suffix", "fps", "audio_from", "video_from"),
    [
        (".mp4", Fraction(25), 0.0, 0.0),
        (".mp4", Fraction(30000, 1001), 0.0, 0.0),
        (".mp4", Fraction(30), 0.0, 0.0),
        (".mkv", Fraction(25), 0.137, 0.0),
        (".mp4", Fraction(30000, 1001), 0.0, 8 * 1001 / 30000),
        (".mpg", Fraction(25), 0.0, 0.0),
        (".flv", Fraction(30000, 1001), 0.2, 0.0),
    ],
)
def test_lips_and_click_are_together_at_30_fps(
    tmp_path: Path, suffix: str, fps: Fraction, audio_from: float, video_from: float
) -> None:
    (tmp_path / "ann").mkdir()
    for name, click in (("a", 0.9), ("b", 1.213)):
        path = tmp_path / "ann" / f"{name}{suffix}"
        write_clip(path, fps=fps, audio_from=audio_from, video_from=video_from, click=click)
    corpus = prepare(plan(tmp_path), tmp_path / "out", MarkTracker)
    assert in_sync(corpus)
    for entry, click in zip(corpus.entries, (0.9, 1.213), strict=True):
        assert entry.fps == pytest.approx(float(fps), abs=0.05) and entry.tracked == 1
        last_picture = 2 - 1 / fps
        assert entry.points[1] == int(last_picture * 30 + 1e-3) + 1
        assert click_time(corpus.clip(entry).audio) == pytest.approx(click, abs=0.003)


def test_lips_and_click_are_together_at_a_varying_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.uniform(0.02, 0.07, 45)) - 0.02
    write_clip(tmp_path / "a.mkv", times=[0, *times.tolist()], seconds=2)
    assert in_sync(prepare(plan(tmp_path), tmp_path / "out", MarkTracker))


def test_a_face_of_pixels_that_are_not_square_is_tracked_as_it_is_shown(tmp_path: Path) -> None:
    for name, aspect in (("square", Fraction(1)), ("narrow", Fraction(2))):
        write_clip(tmp_path / f"{name}.mp4", seconds=0.6, click=0.3, aspect=aspect)
    corpus = prepare(plan(tmp_path), tmp_path / "out", MarkTracker)
    narrow, square = (clip.points for clip in corpus.clips())
    assert np.abs(narrow - square).max() < 3  # of the 256 of a crop that was 128 wide


def test_mead_is_prepared_with_its_sound_apart_and_by_speaker(tmp_path: Path) -> None:
    source = tmp_path / "MEAD"
    takes = (("M003", "neutral", 1, 0.9), ("M003", "happy", 3, 0.8), ("W011", "sad", 2, 1.0))
    for speaker, emotion, level, click in takes:
        take = Path(emotion, f"level_{level}", "001")
        video, audio = source / speaker / "video/front" / take, source / speaker / "audio" / take
        video.parent.mkdir(parents=True)
        audio.parent.mkdir(parents=True)
        write_clip(video.with_suffix(".mp4"), fps=Fraction(30), click=click, audio_from=None)
        write_sound(audio.with_suffix(".m4a"), 2.0, click)
    corpus = prepare(plan(source, held_out=["W011"]), tmp_path / "out", MarkTracker)
    assert in_sync(corpus)
    assert [(e.name, e.speaker, e.emotion, e.level, e.split) for e in corpus.entries] == [
        ("M003/front/happy/level_3/001", "M003", "happy", 3, "train"),
        ("M003/front/neutral/level_1/001", "M003", "neutral", 1, "train"),
        ("W011/front/sad/level_2/001", "W011", "sad", 2, "validation"),
    ]
    assert corpus.header.layout == "mead" and corpus.header.split_by == "speaker"
    assert set(corpus.neutral) == {"M003"}


def test_a_clip_that_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    source.mkdir()
    write_clip(source / "good.mp4", hidden=[10, 11])
    write_clip(source / "away.mp4", hidden=range(20))
    write_clip(source / "empty.mp4", hidden=range(50))
    write_clip(source / "mute.mp4", audio_from=None)
    write_clip(source / "still.mp4", times=[0.0], seconds=1)
    write_clip(source / "short.mp4", audio_from=None)
    write_sound(source / "short.wav", 0.6, click=0.3)
    write_clip(source / "silent.mp4", audio_from=None)
    soundfile.write(source / "silent.wav", np.zeros(32_000), 16_000)
    (source / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(3000))
    corpus = prepare(plan(source), tmp_path / "out", MarkTracker)
    assert [(e.name, e.tracked) for e in corpus.entries] == [("good", 0.96)]
    assert in_sync(corpus)
    assert {s.name: s.reason for s in corpus.skipped} == {
        "away": "a face in 60% of its pictures; wanted 80%",
        "broken": "cannot be read (Invalid data found when processing input)",
        "empty": "no face in any of 7 pictures spread over it",
        "mute": "it has no sound, and there is none apart",
        "short": "its sound ends at 0.6 s of 2.0 s",
        "silent": "its sound is all silence",
        "still": "it has 1 pictures; wanted two or more",
    }


def test_a_recording_is_never_on_both_sides(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    for speaker in ("ann", "bob"):
        (source / speaker).mkdir(parents=True)
        write_clip(source / speaker / "same.mp4", seconds=0.6, click=0.3)
    write_clip(source / "bob" / "own.mp4", seconds=0.6, click=0.2)
    corpus = prepare(plan(source, held_out=["bob"]), tmp_path / "out", MarkTracker)
    assert [(e.name, e.split) for e in corpus.entries] == [
        ("ann/same", "train"),
        ("bob/own", "validation"),
    ]
    (skipped,) = corpus.skipped
    assert skipped.name == "bob/same"
    assert "the same recording as ann/same, which is on the other side" in skipped.reason


def test_several_processes_track_video_into_the_same_files(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    source.mkdir()
    for n in range(4):
        write_clip(source / f"{n}.mp4", click=0.5 + 0.2 * n, audio_from=None if n == 2 else 0.0)
    planned = plan(source)
    prepare(planned, tmp_path / "one", MarkTracker)
    prepare(planned, tmp_path / "two", MarkTracker, processes=2)
    assert corpus_files(tmp_path / "one") == corpus_files(tmp_path / "two")


def test_all_clips_of_a_speaker_are_on_one_side(tmp_path: Path) -> None:
    source = write_tracks(tmp_path / "tracks", 24)
    for seed in range(4):
        planned = plan(source, name=r"(?P<speaker>p\d)/\d+_(?P<emotion>.*)", seed=seed)
        sides: dict[str, set[str]] = {}
        for clip in planned.found.clips:
            sides.setdefault(clip.speaker, set()).add(planned.splits[clip.name])
        assert len(sides) == 4 and all(len(of_one) == 1 for of_one in sides.values())
        assert sorted(planned.splits.values()).count("validation") == 6  # a speaker's


def test_tracks_are_taken_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_tracks(tmp_path / "tracks", 8)
    assert main(prepare_options(source, tmp_path / "out", "--processes", "1")) == 0
    printed = capsys.readouterr().out
    assert "layout tracks: 8 clips, speakers: 4" in printed
    assert "split by speaker, seed 0: held out p2 (2 of 8 clips)" in printed
    assert "7 clips" in printed and "1 x no sound beside it" in printed
    corpus = Corpus(tmp_path / "out")
    for entry in corpus.entries:
        clip, track = corpus.clip(entry), read_track(source / f"{entry.name}.npz")
        assert entry.split == ("validation" if entry.speaker == "p2" else "train")
        assert (entry.fps, entry.tracked) == (25, 0.9)
        assert np.abs(clip.points - track.points).max() <= 1 / 128 + 1e-9
        assert np.abs(clip.audio - track.audio).max() <= 1 / 32768
    assert set(corpus.neutral) == {e.speaker for e in corpus.entries if e.emotion == "neutral"}


def test_phones_of_a_table_go_with_the_clips_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, table = write_tracks(tmp_path / "tracks", 8), tmp_path / "phones.tsv"
    lines = "p0/000_neutral\t0.00\t0.40\tSIL\np0/000_neutral\t0.40\t1.00\tAA\n"
    more = "p2/006_neutral\t0.20\t0.90\tB\nnobody\t0.00\t1.00\tS\n"
    table.write_text(f"clip\tstart_s\tend_s\tphone\n{lines}{more}")
    arguments = ["--source", str(source), "--out", str(tmp_path / "out"), "--held-out", "p2",
                 "--processes", "1", "--phones", str(table)]  # fmt: skip
    assert main(arguments) == 0
    corpus = Corpus(tmp_path / "out")
    found = {clip.name: clip.phones for clip in corpus.clips() if clip.phones is not None}
    assert found.keys() == {"p0/000_neutral", "p2/006_neutral"}
    assert len(corpus.entries) == 7
    one, two = found["p0/000_neutral"], found["p2/006_neutral"]
    assert one.tolist() == [PHONE_INDEX["SIL"]] * 40 + [PHONE_INDEX["AA"]] * 60
    assert two.tolist() == [PHONE_INDEX["SIL"]] * 20 + [PHONE_INDEX["B"]] * 70
    table.write_text("clip\tstart_s\tend_s\tphone\nx\t0.00\t0.40\tAH0\n")
    capsys.readouterr()
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"kfusion-prepare: {table}") and "wanted lines of clip" in printed


def test_one_speaker_is_split_by_clip_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tracks(tmp_path / "tracks", 8)
    (tmp_path / "tracks" / "p0").rename(tmp_path / "ann")
    arguments = ["--source", str(tmp_path / "ann"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--share", "0.5", "--processes", "1"]) == 0
    assert (
        "split by clip, seed 0: there is one speaker, ann, who is both" in capsys.readouterr().out
    )
    corpus = Corpus(tmp_path / "out")
    assert corpus.header.split_by == "clip"
    assert main([*arguments, "--held-out", "ann"]) == 2
    assert "has one speaker, ann, and is split by clip" in capsys.readouterr().err


@pytest.mark.data
def test_real_tracks_are_split_as_their_readme_splits_them() -> None:
    planned = plan(folder_of("grid_s1"))
    assert planned.header.split_by == "clip" and planned.splits["bbaf2n"] == "train"
    assert sum(s == "validation" for s in planned.splits.values()) == 103


def test_a_source_that_says_otherwise_now_wants_a_new_folder(tmp_path: Path) -> None:
    source, out = write_tracks(tmp_path / "tracks", 8), tmp_path / "out"
    assert main(prepare_options(source, out, "--processes", "1")) == 0
    prepare(plan(source, held_out=["p2"], name=r"(?P<speaker>p\d)/\d+_(?P<emotion>.*)"), out, None)
    with pytest.raises(DataError, match="clip p0/000_neutral was written with another speaker"):
        prepare(plan(source, held_out=["p2"]), out, None)
    with pytest.raises(DataError, match="was begun with other settings"):
        prepare(plan(source, held_out=["p1"]), out, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--held-out", "p9"], "held-out speakers p9 are not in the data"),
        (["--share", "1"], "--share is 1.0; wanted more than 0 and less than 1"),
        (["--processes", "0"], "--processes is 0; wanted 1 or more"),
        (["--source", "/nowhere"], "/nowhere: is no folder"),
        (["--layout", "mead"], "has no clips in the layout mead"),
        (["--out", __file__], f"{__file__}: cannot be written"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    source = write_tracks(tmp_path / "tracks", 4)
    assert main(["--source", str(source), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kfusion-prepare: ") and message in error
    assert not (tmp_path / "out").exists()
