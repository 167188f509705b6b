"""Killed, stopped or out of disk: whole clips stay, and the same command goes on from them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kfusion.errors import DataError
from kfusion.faces import FaceFinderError
from tests.training.corpus.drawn_video import MarkTracker, write_clip
from tests.training.tracks import corpus_files, prepare_options, write_tracks
from training.corpus.format import Corpus
from training.corpus.workers import PreparedClip, WorkerProcess, prepared_clips
from training.prepare import main, plan, prepare

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "training.prepare"]


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


def wait_for_lines(out: Path, count: int, run: subprocess.Popen[str]) -> None:
    """Waits until so many clips are written, or the command has ended."""
    index, give_up = out / "clips.jsonl", time.monotonic() + 60
    while run.poll() is None and not (index.exists() and index.read_bytes().count(b"\n") >= count):
        assert time.monotonic() < give_up
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_it_goes_on_and_ends_with_the_same_files(tmp_path: Path) -> None:
    source, killed = write_tracks(tmp_path / "tracks", 300), tmp_path / "killed"
    for processes, lines in (("1", 3), ("2", 40)):
        options = prepare_options(source, killed, "--processes", processes)
        with subprocess.Popen([*COMMAND, *options], cwd=ROOT, text=True) as run:
            wait_for_lines(killed, lines, run)
            children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
            workers = children.read_text().split() if children.exists() else []
            run.kill()
        give_up = time.monotonic() + 20
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < give_up, "a worker outlived its parent"
        assert not (killed / "corpus.json").exists(), "it ended before it was killed"
    with pytest.raises(DataError, match="begun and not finished"):
        Corpus(killed)
    for out in (killed, tmp_path / "whole"):
        assert main(prepare_options(source, out, "--processes", "1")) == 0
    assert corpus_files(killed) == corpus_files(tmp_path / "whole")


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
    source, full = write_tracks(tmp_path / "tracks", 9), tmp_path / "full"
    arguments = prepare_options(source, full, "--processes", "1")
    run = subprocess.run(
        [sys.executable, "-c", FULL.format(limit=limit), *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert f"kfusion-prepare: {full}: cannot be written ([Errno 27]" in run.stderr
    assert "Traceback" not in run.stderr and not (full / "corpus.json").exists()
    if limit > 32_000:
        written = limit // 32_000
        assert (full / "clips.jsonl").read_bytes().count(b"\n") == written
        assert (full / "audio.i16").stat().st_size == 32_000 * written
    assert main(arguments) == 0
    assert main(prepare_options(source, tmp_path / "whole", "--processes", "1")) == 0
    assert corpus_files(full) == corpus_files(tmp_path / "whole")


def test_stopped_by_the_keyboard_it_says_that_it_goes_on(tmp_path: Path) -> None:
    source, out = write_tracks(tmp_path / "tracks", 400), tmp_path / "out"
    with subprocess.Popen(
        [*COMMAND, *prepare_options(source, out, "--processes", "2")],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as run:  # fmt: skip
        try:
            wait_for_lines(out, 1, run)
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does
            _, errors = run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 130
    assert "stopped; the same command goes on" in errors and "Traceback" not in errors
    assert main(prepare_options(source, out, "--processes", "1")) == 0


@pytest.mark.timeout(30)
@pytest.mark.parametrize("then", ["goes on", "stops"])
def test_processes_that_are_killed_keep_nobody_waiting(tmp_path: Path, then: str) -> None:
    sources = plan(write_tracks(tmp_path / "tracks", 8), held_out=["p2"]).found.clips
    prepared = prepared_clips(sources, None, 2)
    assert isinstance(next(prepared), PreparedClip)
    workers = [p.pid for p in multiprocessing.active_children() if p.name.startswith("Spawn")]
    assert len(workers) == 2
    for pid in workers:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    if then == "goes on":
        with pytest.raises(FaceFinderError, match="a process was killed or crashed"):
            list(prepared)
    prepared.close()
    assert not set(workers) & {p.pid for p in multiprocessing.active_children()}


def test_a_process_killed_while_it_sends_a_clip_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A clip of 4 s is more than a pipe holds, so its process waits in the middle of sending it."""
    (source,) = plan(write_tracks(tmp_path / "tracks", 1, seconds=4.0)).found.clips
    worker = WorkerProcess(None)
    assert worker.receive() is None  # it is ready
    worker.pipe.send(source)
    assert worker.pipe.poll(20)
    worker.process.kill()
    with pytest.raises(FaceFinderError, match="a process was killed or crashed"):
        worker.receive()
    worker.close()
