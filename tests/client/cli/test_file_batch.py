"""Several sound files in one command: output paths, failures, videos, progress."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from client import connect
from client.__main__ import main
from client.cli.output_paths import plan_jobs
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.errors import BadOptions
from kfusion.landmarks import lip_gap
from kfusion.runtime import Animator, SyntheticEngine
from tests.client.cli.commands import ROOT, client, rows
from tests.client.cut_connections import CutConnections
from tests.client.memory_server import MemoryServer
from tests.client.video.faces import decode, photo
from tests.conftest import RunningServer, voice


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    """Three of different lengths, kinds and rates."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    paths = [folder / name for name in ("a.wav", "b.flac", "c.ogg")]
    for k, path in enumerate(paths):
        rate = (16_000, 22_050, 48_000)[k]
        soundfile.write(path, voice(0.6 + 0.4 * k, rate, seed=k), rate)
    return paths


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


# Where each goes


def test_of_several_sounds_the_name_is_put_in_for_its_braces() -> None:
    jobs = plan_jobs(
        [Path("x/a.wav"), Path("b.c.flac")], "o/{name}.jsonl", Path("{name}/{name}.mp4"), None
    )
    assert [(job.out, job.video, job.record) for job in jobs] == [
        ("o/a.jsonl", Path("a/a.mp4"), None), ("o/b.c.jsonl", Path("b.c/b.c.mp4"), None)
    ]  # fmt: skip
    (job,) = plan_jobs([Path("a.wav")], "-", Path("v.mp4"), Path("r.kfr"))
    assert (job.out, job.video, job.record) == ("-", Path("v.mp4"), Path("r.kfr"))

    one, two = plan_jobs(
        [Path("a.wav"), Path("b.flac")], None, None, None, ["vmc://127.0.0.1", "jsonl:o/{name}.x"]
    )
    assert one.to == ("vmc://127.0.0.1", "jsonl:o/a.x")
    assert two.to == ("vmc://127.0.0.1", "jsonl:o/b.x")


@pytest.mark.parametrize(
    ("out", "video", "record", "to", "message"),
    [
        ("a.jsonl", None, None, [], r"--out a\.jsonl: one place for 2 sounds; wanted {name}"),
        ("o/x.jsonl", None, None, [], r"e\.g\. --out 'o/{name}\.jsonl'"),
        ("-", None, None, [], r"e\.g\. --out '{name}\.jsonl'"),
        (None, "v.mp4", None, [], r"--video v\.mp4: one place"),
        ("{name}.jsonl", None, "r.kfr", [], r"--record r\.kfr: one place"),
        ("{name}.flac", None, None, [], r"b\.flac: is what is read"),
        (None, None, None, ["jsonl:o/x.jsonl"], r"e\.g\. --to 'jsonl:o/{name}\.jsonl'"),
        (None, None, None, ["osf://127.0.0.1", "jsonl:-"], r"--to jsonl:-: one place for 2 sounds"),
        (None, None, None, ["jsonl:{name}.flac"], r"b\.flac: is what is read"),
        (None, None, None, ["jsonl:./a.out", "jsonl:{name}.out"], "one place"),
        (None, None, None, ["jsonl:o/../{name}.out", "jsonl:{name}.out"], r"a\.out: would be writ"),
        ("{name}.x", None, None, ["jsonl:{name}.x"], r"a\.x: would be written by two options"),
    ],
)
def test_one_file_for_two_sounds_or_options_is_refused(
    out: str | None, video: str | None, record: str | None, to: list[str], message: str
) -> None:
    videos, records = (None if path is None else Path(path) for path in (video, record))
    with pytest.raises(BadOptions, match=message):
        plan_jobs([Path("a.wav"), Path("b.flac")], out, videos, records, to)


def test_sounds_of_the_same_name_are_told_apart_or_refused() -> None:
    with pytest.raises(BadOptions, match=r"x/a\.wav and y/a\.flac would both be written to a\.js"):
        plan_jobs([Path("x/a.wav"), Path("y/a.flac")], "{name}.jsonl", None, None)


# A real server


def test_each_sound_becomes_its_own_frames_and_video(
    synthetic_server: RunningServer, sounds: list[Path], tmp_path: Path
) -> None:
    done = client(
        "file", *sounds, "--url", synthetic_server.url, "--out", tmp_path / "{name}.jsonl",
        "--video", tmp_path / "{name}.mp4", "--emotion", "0.2-0.5:happy",
        "--to", f"jsonl:{tmp_path}/{{name}}",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = [sound.stem + ending for sound in sounds for ending in ("", ".jsonl", ".mp4")]
    assert names(tmp_path) == expected
    for sound in sounds:
        faces = Animator(SyntheticEngine()).animate(
            sound, emotion=EmotionTimeline.parse("0.2-0.5:happy")
        )
        frames = rows(tmp_path / f"{sound.stem}.jsonl")
        assert rows(tmp_path / sound.stem) == frames
        np.testing.assert_allclose([row["points"] for row in frames], faces, atol=1e-4)
        pictures, decoded, rate = decode(tmp_path / f"{sound.stem}.mp4")
        assert len(pictures) == len(faces)
        assert len(decoded) / rate == pytest.approx(soundfile.info(sound).duration, abs=0.1)


def test_a_file_that_fails_does_not_stop_the_others_and_leaves_none_of_its_files(
    synthetic_server: RunningServer, sounds: list[Path], tmp_path: Path
) -> None:
    sounds[1].write_text("no sound")
    missing = tmp_path / "none.wav"
    (tmp_path / "c.mp4").mkdir()
    done = client(
        "file", sounds[1], missing, sounds[2], sounds[0], "--url", synthetic_server.url, "--out",
        tmp_path / "{name}.jsonl", "--video", tmp_path / "{name}.mp4",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    first, second, third, last = done.stderr.splitlines()
    assert first.startswith(f"kfusion-client: {sounds[1]}: ")
    assert second == f"kfusion-client: {missing}: no such file"
    assert third.startswith(f"kfusion-client: {sounds[2]}: ")
    assert "c.mp4: no file can be written there" in third
    failed = f"{sounds[1]}, {missing}, {sounds[2]}"
    assert last == f"kfusion-client: 3 of 4 sounds failed: {failed}"
    assert names(tmp_path) == ["a.jsonl", "a.mp4"]


def test_where_nobody_listens_it_is_said_once(
    sounds: list[Path], tmp_path: Path, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}"
    out = str(tmp_path / "{name}.jsonl")
    assert main(["file", *map(str, sounds), "--url", url, "--out", out]) == 1
    first, last = capsys.readouterr().err.splitlines()
    assert "is it running" in first
    listed = ", ".join(map(str, sounds))
    assert last == f"kfusion-client: 3 of 3 sounds failed or were not tried: {listed}"
    assert names(tmp_path) == []


def test_a_stream_that_is_lost_for_good_costs_one_file(
    sounds: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    opened: list[int] = []

    def open_stream(*options: Any, **named: Any) -> Any:
        opened.append(1)
        cuts = [(3, 9), *[(0, 0)] * 99] if len(opened) == 2 else []
        connections = CutConnections(MemoryServer(resume_s=0.05), cuts)
        return connect(*options, **named, transport=connections)

    monkeypatch.setattr("client.cli.options.connect", partial(open_stream))
    out = str(tmp_path / "{name}.jsonl")
    assert main(["file", *map(str, sounds), "--out", out]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == f"kfusion-client: 1 of 3 sounds failed: {sounds[1]}"
    assert names(tmp_path) == ["a.jsonl", "c.jsonl"]


def test_a_photo_speaks_in_its_own_pixels(synthetic_server: RunningServer, tmp_path: Path) -> None:
    pixels, points = photo()
    Image.fromarray(pixels).save(tmp_path / "me.png")
    (tmp_path / "me.json").write_text(json.dumps({"points": points.tolist()}))
    soundfile.write(tmp_path / "a.wav", voice(1.0), 16_000)
    done = client(
        "file", tmp_path / "a.wav", "--url", synthetic_server.url, "--out", tmp_path / "a.jsonl",
        "--video", tmp_path / "a.mp4", "--photo", tmp_path / "me.png", "--identity",
        tmp_path / "me.json",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    faces = np.array([row["points"] for row in rows(tmp_path / "a.jsonl")])
    np.testing.assert_allclose(faces[:, 36], np.tile(points[36], (30, 1)), atol=1e-3)
    pictures = [p.to_ndarray(format="rgb24").astype(int) for p in decode(tmp_path / "a.mp4")[0]]
    assert pictures[0].shape == pixels.shape
    gap = lip_gap(faces)
    shut, wide = pictures[int(gap.argmin())], pictures[int(gap.argmax())]
    x, y = np.round(points[66]).astype(int)
    dark = [int((p[y : y + 12, x - 8 : x + 8].sum(axis=-1) < 240).sum()) for p in (shut, wide)]
    assert dark[0] < dark[1] and dark[1] > 30
    assert np.abs(shut - pixels)[: int(points[27, 1])].mean() < 6  # the photo, but for H.264


# Drawing


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to one process group")
def test_ctrl_c_while_videos_are_drawn_leaves_nothing_behind(
    synthetic_server: RunningServer, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", voice(40.0), 16_000)
    running = subprocess.Popen(
        [sys.executable, "-m", "client", "file", str(tmp_path / "a.wav"), str(tmp_path / "b.wav"),
         "--url", synthetic_server.url, "--video", str(tmp_path / "{name}.mp4"), "--out",
         str(tmp_path / "{name}.jsonl")],
        stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    assert running.stderr is not None
    part = tmp_path / ".a.mp4.part"
    until = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    assert part.exists()
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(30) == 130
    assert running.stderr.read() == ""
    running.stderr.close()
    assert names(tmp_path) == ["a.wav", "b.wav"]


def test_without_the_clients_packages_the_command_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0), 16_000)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    out = tmp_path / "a.jsonl"
    assert main(["file", str(tmp_path / "a.wav"), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "tqdm is not installed; pip install 'kfusion[client]'" in error
    assert "Traceback" not in error and not out.exists()
