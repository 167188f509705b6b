"""Files that become whole: where they appear, and what is never replaced by one."""

import json
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from client.atomic_file import AtomicFile
from client.errors import OutputError
from client.loadtest.command import OutputFiles
from client.sinks.jsonl import JsonlSink
from client.stream.events import Frame
from client.video.drawn_face import DrawnFace
from client.video.mp4 import write_video
from kfusion.landmarks import NEUTRAL

REST = Frame(0, 0.0, NEUTRAL.astype(np.float32))
posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices have other names")


def test_a_file_is_replaced_when_it_is_committed_and_never_when_it_is_discarded(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    for commit in (False, True):
        file = AtomicFile(path)
        file.temporary.write_text("whole")
        assert path.read_text() == "earlier"
        file.commit() if commit else file.discard()
        file.discard()
        assert path.read_text() == ("whole" if commit else "earlier")
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_the_file_appears_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link, target = tmp_path / "link", tmp_path / "kept" / "frames.jsonl"
    try:
        link.symlink_to(Path("kept") / target.name)
    except OSError:
        pytest.skip("links cannot be made here")
    for _ in range(2):  # to what is not there yet, and over what is
        sink = JsonlSink(link)
        sink.send(REST)
        sink.close()
        assert link.is_symlink() and json.loads(target.read_text())["n"] == 0
    sink = JsonlSink(link)
    sink.discard()
    assert list(target.parent.iterdir()) == [target] and link.is_symlink()


@posix
def test_a_pipe_gets_each_line_at_once_and_stays(tmp_path: Path) -> None:
    assert sys.platform != "win32"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lines: list[str] = []
    first = threading.Event()

    def read() -> None:
        with pipe.open() as out:
            for line in out:
                lines.append(line)
                first.set()

    reader = threading.Thread(target=read)
    reader.start()
    sink = JsonlSink(pipe)
    sink.send(REST)
    assert first.wait(10)
    sink.send(REST)
    sink.close()
    reader.join(10)
    assert len(lines) == 2 and pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@posix
def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(os.devnull)
    for path in (Path(os.devnull), link):
        file = AtomicFile(path)
        assert file.direct and file.temporary == path  # before anything could be lost by it
        with ExitStack() as undo:
            OutputFiles(path, None, undo).commit({"streams": 1})
        write_video(path, NEUTRAL[None], np.zeros(534, np.float32), 16_000, DrawnFace(side=32))
        file.discard()
    assert link.is_symlink() and Path(os.devnull).is_char_device()


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_disk_that_is_full_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "a.jsonl")
    sink.out.close()
    sink.out = Path("/dev/full").open("wb")  # noqa: SIM115 - the sink closes it
    sink.send(REST)
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "such.json"):
        with pytest.raises(OutputError, match="wanted a file's path"):
            AtomicFile(path)
        with ExitStack() as undo, pytest.raises(OutputError):
            pytest.importorskip("matplotlib")
            OutputFiles(tmp_path / "a.json", path, undo)
    assert list(tmp_path.iterdir()) == []
