"""From video and from tracks to a corpus: in time, in order, and whole whatever happens."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kfusion.errors import DataError
from kfusion.faces import FaceFinderError
from kfusion.landmarks import NEUTRAL
from tests.conftest import folder_of, voice
from tests.training.corpus.drawn_video import (
    MarkTracker,
    click_time,
    opening_time,
    write_clip,
    write_sound,
)
from training.corpus.clips import read_track
from training.corpus.format import Corpus
from training.corpus.workers import PreparedClip, WorkerProcess, prepared_clips
from training.phones import INDEX
from training.prepare import main, plan, prepare

ROOT = Path(__file__).resolve().parents[3]
FILES = (
    "begun.json", "corpus.json", "clips.jsonl", "skipped.jsonl",
    "audio.i16", "points.i16", "phones.u8",
)  # fmt: skip
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
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


class BrokenTracker(MarkTracker):
    def __init__(self) -> None:
        raise FaceFinderError("no weights here")


class DyingTracker(MarkTracker):
    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_tracker_that_fails_ends_it_and_skips_no_clip(tmp_path: Path) -> None:
    source = tmp_path / "clips"
    source.mkdir()
    for n in range(2):
        write_clip(source / f"{n}.mp4", seconds=0.4, click=0.1 + 0.1 * n)
    for processes in (1, 2):
        with pytest.raises(FaceFinderError, match="no weights here"):
            prepare(plan(source), tmp_path / "out", BrokenTracker, processes=processes)
    with pytest.raises(FaceFinderError, match="a process was killed or crashed"):
        prepare(plan(source), tmp_path / "out", DyingTracker, processes=2)
    assert len(prepare(plan(source), tmp_path / "out", MarkTracker).entries) == 2


def tracks(folder: Path, count: int, seconds: float = 1.0) -> Path:
    """Ready-made tracks at 25 fps of four speakers, and one without sound."""
    rng = np.random.default_rng(3)
    speech = voice(seconds)
    for n in range(count):
        path = folder / f"p{n % 4}" / f"{n:03}_{'happy' if n % 3 else 'neutral'}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        move = np.cumsum(rng.normal(size=(round(25 * seconds), 68, 2)), axis=0)
        points = np.round((NEUTRAL + move) * 64).astype(np.int16)
        np.savez(path, points_q64=points, fps=25.0, tracked=0.9)
        if n != 5:
            soundfile.write(path.with_suffix(".flac"), np.roll(speech, 97 * n), 16_000)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    return {name: (folder / name).read_bytes() for name in FILES}


def command(source: Path, out: Path, *more: str) -> list[str]:
    pattern = r"(?P<speaker>p\d)/\d+_(?P<emotion>[a-z]+)"
    return [
        "-m", "training.prepare", "--source", str(source), "--out", str(out), "--name", pattern,
        "--held-out", "p2", *more,
    ]  # fmt: skip


def test_tracks_are_taken_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tracks(tmp_path / "tracks", 8)
    assert main(command(source, tmp_path / "out", "--processes", "1")[2:]) == 0
    said = capsys.readouterr().out
    assert "layout tracks: 8 clips, speakers: 4" in said
    assert "split by speaker, seed 0: held out p2 (2 of 8 clips)" in said
    assert "7 clips" in said and "1 x no sound beside it" in said
    corpus = Corpus(tmp_path / "out")
    for entry in corpus.entries:
        clip, wanted = corpus.clip(entry), read_track(source / f"{entry.name}.npz")
        assert entry.split == ("validation" if entry.speaker == "p2" else "train")
        assert (entry.fps, entry.tracked) == (25, 0.9)
        assert np.abs(clip.points - wanted.points).max() <= 1 / 128 + 1e-9
        assert np.abs(clip.audio - wanted.audio).max() <= 1 / 32768
    assert set(corpus.neutral) == {"p0", "p1", "p2", "p3"} - {
        s
        for s in ("p0", "p1", "p2", "p3")
        if not any(e.speaker == s and e.emotion == "neutral" for e in corpus.entries)
    }


def test_phones_of_a_table_go_with_the_clips_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, table = tracks(tmp_path / "tracks", 8), tmp_path / "phones.tsv"
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
    assert one.tolist() == [INDEX["SIL"]] * 40 + [INDEX["AA"]] * 60
    assert two.tolist() == [INDEX["SIL"]] * 20 + [INDEX["B"]] * 70
    table.write_text("clip\tstart_s\tend_s\tphone\nx\t0.00\t0.40\tAH0\n")
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"kfusion-prepare: {table}") and "wanted lines of clip" in said


def test_one_speaker_is_split_by_clip_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracks(tmp_path / "tracks", 8)
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


def test_real_tracks_are_prepared_as_their_readme_splits_them(tmp_path: Path) -> None:
    planned = plan(folder_of("grid_s1"))
    assert planned.header.split_by == "clip" and planned.splits["bbaf2n"] == "train"
    assert sum(s == "validation" for s in planned.splits.values()) == 103
    pattern = r"(?P<speaker>[MW]\d+)_level_(?P<level>\d)_(?P<emotion>[a-z]+)_.*"
    planned = plan(folder_of("mead_speech"), name=pattern, held_out=["W036"])
    corpus = prepare(planned, tmp_path / "out", None)
    assert [(e.speaker, e.emotion, e.level) for e in corpus.select("validation")] == [
        ("W036", "happy", 3)
    ]


def kill_after(lines: int, arguments: list[str], out: Path) -> bool:
    """Runs and kills (SIGKILL) the command once so many clips are written; whether in time."""
    run = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
    index = out / "clips.jsonl"
    give_up = time.monotonic() + 60
    while run.poll() is None and time.monotonic() < give_up:
        if index.exists() and index.read_bytes().count(b"\n") >= lines:
            break
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    workers = [int(p) for p in children.read_text().split()] if children.exists() else []
    run.kill()
    run.wait()
    give_up = time.monotonic() + 20
    while any(Path(f"/proc/{w}").exists() for w in workers):
        assert time.monotonic() < give_up, "a worker outlived its parent"
    return not (out / "corpus.json").exists()


def test_killed_it_goes_on_and_ends_with_the_same_files(tmp_path: Path) -> None:
    source, killed = tracks(tmp_path / "tracks", 300), tmp_path / "killed"
    whole, out = command(source, tmp_path / "whole"), command(source, killed)
    subprocess.run([sys.executable, *whole, "--processes", "1"], cwd=ROOT, check=True)
    assert kill_after(3, [*out, "--processes", "1"], killed)
    assert kill_after(40, [*out, "--processes", "2"], killed)
    with pytest.raises(DataError, match="begun and not finished"):
        Corpus(killed)
    # What a kill in the middle of a write leaves: a part of a clip, and a part of its line.
    for name, rest in (
        ("audio.i16", b"\x01"),
        ("points.i16", b"\x02" * 999),
        ("clips.jsonl", b'{"'),
    ):
        with (killed / name).open("ab") as file:
            file.write(rest)
    subprocess.run([sys.executable, *out, "--processes", "2"], cwd=ROOT, check=True)
    assert contents(killed) == contents(tmp_path / "whole")


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from training.prepare import main
sys.exit(main())
"""


@pytest.mark.parametrize("limit", [100, 100_001, 150_000], ids=["at once", "sound", "later"])
def test_a_disk_that_fills_up_leaves_whole_clips_and_the_same_files_later(
    tmp_path: Path, limit: int
) -> None:
    """Files may not grow beyond a limit here, which the file system answers as a full disk."""
    source, full = tracks(tmp_path / "tracks", 9), tmp_path / "full"
    arguments = command(source, full, "--processes", "1")[2:]
    run = subprocess.run(
        [sys.executable, "-c", FULL.format(limit=limit), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert f"kfusion-prepare: {full}: cannot be written ([Errno 27]" in run.stderr
    assert "Traceback" not in run.stderr and not (full / "corpus.json").exists()
    if limit > 32_000:
        written = [json.loads(line) for line in (full / "clips.jsonl").read_bytes().splitlines()]
        assert len(written) == limit // 32_000
        assert (full / "audio.i16").stat().st_size == 32_000 * len(written)
    assert main(arguments) == 0
    assert main(command(source, tmp_path / "whole", "--processes", "1")[2:]) == 0
    assert contents(full) == contents(tmp_path / "whole")


def test_stopped_by_the_keyboard_it_says_that_it_goes_on(tmp_path: Path) -> None:
    source, out = tracks(tmp_path / "tracks", 400), tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, *command(source, out, "--processes", "2")],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        try:
            index = out / "clips.jsonl"
            give_up = time.monotonic() + 60
            while time.monotonic() < give_up and not (index.exists() and index.stat().st_size):
                time.sleep(0.005)
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does
            _, said = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 130
    assert "stopped; the same command goes on" in said and "Traceback" not in said
    assert main(command(source, out, "--processes", "1")[2:]) == 0


@pytest.mark.parametrize("then", ["goes on", "stops"])
def test_processes_that_are_killed_keep_nobody_waiting(tmp_path: Path, then: str) -> None:
    sources = plan(tracks(tmp_path / "tracks", 8), held_out=["p2"]).listing.clips
    prepared = prepared_clips(sources, None, 2)
    assert isinstance(next(prepared), PreparedClip)
    workers = [p.pid for p in multiprocessing.active_children() if p.name.startswith("Spawn")]
    assert len(workers) == 2
    for pid in workers:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    if then == "goes on":
        with pytest.raises(FaceFinderError, match="a process was killed or crashed"):
            list(prepared)
    prepared.close()
    assert time.monotonic() - began < 5.0
    assert not set(workers) & {p.pid for p in multiprocessing.active_children()}


def test_a_process_killed_while_it_sends_a_clip_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A clip of 4 s is more than a pipe holds, so its process waits in the middle of sending it."""
    (source,) = plan(tracks(tmp_path / "tracks", 1, seconds=4.0)).listing.clips
    worker = WorkerProcess(None)
    assert worker.receive() is None  # it is ready
    worker.pipe.send(source)
    assert worker.pipe.poll(20)
    worker.process.kill()
    with pytest.raises(FaceFinderError, match="a process was killed or crashed"):
        worker.receive()
    worker.close()


def test_a_source_that_says_otherwise_now_wants_a_new_folder(tmp_path: Path) -> None:
    source, out = tracks(tmp_path / "tracks", 8), tmp_path / "out"
    assert main(command(source, out, "--processes", "1")[2:]) == 0
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
    ],
)
def test_what_is_asked_wrongly_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    source = tracks(tmp_path / "tracks", 4)
    assert main(["--source", str(source), "--out", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kfusion-prepare: ") and message in error
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tracks(tmp_path / "tracks", 4)
    (tmp_path / "out").write_text("mine")
    assert main(["--source", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"
