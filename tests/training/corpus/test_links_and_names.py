"""Links are followed, no clip counts twice, and files that cannot be read are listed."""

import os
import sys
from pathlib import Path

import pytest

from kfusion.errors import DataError
from tests.training.corpus.drawn_video import mark_tracker, write_clip
from tests.training.tracks import prepare_options, write_tracks
from training.corpus.format import Corpus
from training.corpus.layouts import ClipSource, find_clips
from training.prepare import arguments, main, plan, prepare, run

TAKE = "video/front/happy/level_3/001.mp4"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def empty(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def link(path: Path, target: Path | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def names(source: Path) -> list[str]:
    return [c.name for c in find_clips(source).clips]


def test_speakers_folders_and_files_that_are_links_are_followed(tmp_path: Path) -> None:
    disk, source = tmp_path / "disk", tmp_path / "corpus"
    empty(source / "ann/a.mp4")
    empty(disk / "b/a.mp4")
    empty(disk / "c.mp4")
    link(source / "bob", disk / "b")
    link(source / "cid/c.mp4", disk / "c.mp4")
    clips = find_clips(source).clips
    assert [(c.name, c.speaker) for c in clips] == [
        ("ann/a", "ann"), ("bob/a", "bob"), ("cid/c", "cid"),
    ]  # fmt: skip


def test_a_speaker_of_mead_may_be_a_link_to_a_folder_of_another_name(tmp_path: Path) -> None:
    source = tmp_path / "MEAD"
    empty(source / "store/third" / TAKE)
    sound = empty(source / "store/third/audio/happy/level_3/001.m4a")
    link(source / "M003", "store/third")
    listing = find_clips(source)
    (clip,) = listing.clips
    assert (clip.name, clip.speaker, clip.emotion, clip.level) == (
        "M003/front/happy/level_3/001", "M003", "happy", 3,
    )  # fmt: skip
    assert clip.audio is not None and clip.audio.samefile(sound)
    assert listing.unmatched == []


@pytest.mark.timeout(10)
def test_links_that_lead_back_end_and_double_nothing(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    for speaker in ("ann", "bob"):
        empty(source / speaker / "a.mp4")
        for k in range(8):
            link(source / speaker / f"to{k}", source / ("bob" if speaker == "ann" else "ann"))
    empty(tmp_path / "outside.mp4")
    link(source / "ann/here", ".")
    link(source / "ann/corpus", source)
    link(source / "ann/above", tmp_path)
    link(source / "ann/circle", "circle")
    assert names(source) == ["ann/a", "bob/a"]


def test_a_file_that_two_paths_lead_to_is_one_clip_under_its_own_name(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    empty(source / "bob/real.mp4")
    link(source / "ann", "bob")
    link(source / "bob/again.mp4", "real.mp4")
    link(source / "also/real.mp4", source / "bob/real.mp4")
    assert names(source) == ["bob/real"]


def test_links_to_nothing_are_listed(tmp_path: Path) -> None:
    source = tmp_path / "corpus"
    empty(source / "ann/a.mp4")
    for name in ("bob", "ann/gone.mp4", "ann/notes.txt"):
        link(source / name, tmp_path / "nowhere")
    reason = "is a link to what is not there"
    assert find_clips(source).unmatched == [("ann/gone.mp4", reason), ("bob", reason)]


@pytest.mark.parametrize("inside", ["M003", "M003/video", "M003/video/front/happy"])
def test_a_folder_within_mead_is_mead(tmp_path: Path, inside: str) -> None:
    root = tmp_path / "MEAD"
    for view in ("front", "left_30"):
        empty(root / "M003" / TAKE.replace("front", view))
    sound = empty(root / "M003/audio/happy/level_3/001.m4a")
    wanted = [("M003/front/happy/level_3/001", "M003", "happy", 3, sound)]
    listing = find_clips(root / inside)
    assert listing.layout == "mead" and rows(listing.clips) == wanted
    assert listing.unused == (0 if "front" in inside else 1)


def rows(clips: list[ClipSource]) -> list[tuple[str, str, str | None, int | None, Path | None]]:
    return [(c.name, c.speaker, c.emotion, c.level, c.audio) for c in clips]


def test_the_working_directory_and_a_link_name_the_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty(tmp_path / "MEAD/M003" / TAKE)
    monkeypatch.chdir(tmp_path / "MEAD/M003")
    link(tmp_path / "now", tmp_path / "MEAD/M003")
    empty(tmp_path / "disk/7" / TAKE)
    link(tmp_path / "W011", tmp_path / "disk/7")
    for source, speaker in (
        (Path(), "M003"),
        (Path("video/.."), "M003"),
        (tmp_path / "now", "M003"),
        (tmp_path / "W011", "W011"),
    ):
        listing = find_clips(source)
        assert [listing.layout, *(c.speaker for c in listing.clips)] == ["mead", speaker], source


@pytest.mark.parametrize(
    ("source", "file", "row"),
    [
        ("CREMA-D/VideoFlash", "1002_IEO_HAP_HI.flv", ("1002_IEO_HAP_HI", "1002", "happy", 3)),
        (
            "RAVDESS/Actor_01",
            "01-01-03-02-01-01-01.mp4",
            ("Actor_01/01-01-03-02-01-01-01", "Actor_01", "happy", 2),
        ),
        ("GRID/s1", "bbaf2n.mpg", ("s1/bbaf2n", "s1", None, None)),
        ("GRID/s1", "video/mpg_6000/bbaf2n.mpg", ("s1/bbaf2n", "s1", None, None)),
        ("GRID/s1/video/mpg_6000", "bbaf2n.mpg", ("s1/bbaf2n", "s1", None, None)),
    ],
)
def test_a_speakers_folder_of_other_corpora_is_known(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    file: str,
    row: tuple[str, str, str | None, int | None],
) -> None:
    empty(tmp_path / source / file)
    sound = empty(tmp_path / "CREMA-D/AudioWAV/1002_IEO_HAP_HI.wav")
    for given in (tmp_path / source, Path()):
        monkeypatch.chdir(tmp_path / source)
        (clip,) = find_clips(given).clips
        assert (clip.name, clip.speaker, clip.emotion, clip.level) == row
        assert clip.audio == (sound if "CREMA" in source else None)


def test_where_nothing_can_be_read_the_reason_is_told(tmp_path: Path) -> None:
    for name in ("ann", "bob"):
        link(tmp_path / name, "/nowhere/" + name)
    wanted = "no clips that can be read; passed over 2, among them ann: is a link to what is not"
    with pytest.raises(DataError, match=wanted):
        find_clips(tmp_path)


needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")


@needs_bytes
def test_names_that_are_not_utf8_are_listed_and_the_others_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_tracks(tmp_path / "tracks", 4)
    (source / "p0" / "000_neutral.npz").rename(source / os.fsdecode(b"p0/\xff.npz"))
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    assert main(prepare_options(source, out, "--processes", "1")) == 0
    printed = capsys.readouterr().out
    assert "1 x its path is not UTF-8; wanted it renamed (p0/\\xff.npz)" in printed
    assert f"skipped 1, see {tmp_path}/\\xe9/skipped.jsonl:" in printed
    corpus = Corpus(out)
    assert len(corpus.entries) == 3
    assert main(prepare_options(source, out, "--processes", "1")) == 0  # nothing is listed twice
    assert [s.name for s in Corpus(out).skipped] == ["p0/\\xff.npz"]
    odd = source.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    assert main(prepare_options(odd, out)) == 2
    wanted = f"kfusion-prepare: {tmp_path}/caf\\xe9: its path is not UTF-8; wanted it renamed\n"
    assert wanted in capsys.readouterr().err


@needs_bytes
def test_a_folder_whose_name_is_not_utf8_is_listed_by_its_clips(tmp_path: Path) -> None:
    empty(tmp_path / "ann/a.mp4")
    for k in range(2):
        empty(tmp_path / os.fsdecode(b"ren\xe9") / f"{k}.mp4")
    assert [n for n, _ in find_clips(tmp_path).unmatched] == ["ren\\xe9/0.mp4", "ren\\xe9/1.mp4"]


def test_git_lfs_pointers_are_counted_once_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "clips"
    source.mkdir()
    write_clip(source / "good.mp4", seconds=0.6, click=0.3)
    write_clip(source / "mute.mp4", seconds=0.6, audio_from=None)
    for name in ("0.mp4", "1.mp4", "mute.wav"):
        (source / name).write_bytes(POINTER)
    options = ["--source", str(source), "--out", str(tmp_path / "out")]
    assert run(arguments(options), mark_tracker) == 0
    printed = capsys.readouterr().out
    assert printed.count("git lfs pull") == 1 and "3 x is a Git LFS pointer" in printed
    assert [s.name for s in Corpus(tmp_path / "out").skipped] == ["0", "1", "mute"]


def test_a_corpus_of_pointers_alone_says_so(tmp_path: Path) -> None:
    for suffix in ("npz", "flac"):
        (tmp_path / f"a.{suffix}").write_bytes(POINTER)
    empty(tmp_path / "b.npz")
    (tmp_path / "b.flac").write_bytes(POINTER)
    wanted = r"no usable clip \(2 x is a Git LFS pointer, .* git lfs pull fetches \(a\)\)"
    with pytest.raises(DataError, match=wanted):
        prepare(plan(tmp_path), tmp_path / "out", None)
