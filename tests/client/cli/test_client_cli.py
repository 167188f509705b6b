"""``python -m client``: arguments, plain errors, whole files, and a real server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from client.__main__ import arguments, main
from client.cli.file import faces_at
from client.stream.events import Frame
from kfusion.landmarks import NEUTRAL
from kfusion.runtime import Animator, SyntheticEngine
from tests.client.cli.commands import ROOT, client, one_line
from tests.conftest import RunningServer, voice


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, voice(2.05, 22_050), 22_050, subtype="FLOAT")
    return path


def face(n: int, points: NDArray[Any] = NEUTRAL) -> Frame:
    return Frame(n, n / 30, points.astype(np.float32))


# Arguments


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["file", "a.wav"], "nothing to write; give --out"),
        (["file", "a.wav", "--video", "a.avi"], "ends in .mp4"),
        (["file", "a.wav", "--out", "o", "--emotion", "happy"], "wanted NAME=WEIGHT"),
        (["file", "a.wav", "--out", "o", "--url", "http://host"], "wanted one like ws://"),
        (["file", "a.wav", "--out", "o", "--life", "2"], "wanted a number from 0 to 1"),
        (["file", "a.wav", "--video", "o.mp4", "--photo", "me.jpg"], "client identity me.jpg"),
        (["file", "a.wav", "--out", "o", "--photo", "me.jpg"], "--photo is for the video"),
        (["file", "a.wav", "--out", "o", "--portrait", "ada"], "--portrait is for the video"),
        (
            ["file", "a.wav", "--video", "o.mp4", "--portrait", "ada", "--photo", "me.jpg"],
            "--portrait has its own",
        ),
        (["file", "a.wav", "--out", "-", "--to", "jsonl:-"], "-: would be written by two"),
        (["say", "a.wav", "--to", "jsonl:x", "--to", "jsonl:x"], "x: would be written by two"),
        (["say", "a.wav", "--out", "a.wav"], "a.wav: is what is read"),
        (["mic", "--out", "x", "--record", "x"], "x: would be written by two"),
        (["replay", "a.kfr", "--out", "a.kfr"], "a.kfr: is what is read"),
        (["replay", "a.kfr", "--out", "o", "--speed", "-1"], "--speed -1.0: wanted 0 or more"),
        (["identity", "me.jpg", "--id", "neutral"], "wanted 1 to 256 characters, not neutral"),
        (["sing"], "invalid choice"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_and_why(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(argv)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["speech.wav", "--emotion", "hapy=1"], "emotion 'hapy' is unknown"),
        (["speech.wav", "--emotion", "happy=0.9", "sad=0.9"], "sum"),
        (["speech.wav", "--hop", "4"], "wanted 1, 2, 3, 5, 6, 10, 15 or 30"),
        (["speech.wav", "--hop", "30", "--lookahead", "3"], "at most 30"),
        (["speech.wav", "--identity", "none.json"], "none.json: cannot be read"),
        (["speech.wav", "--to", "jsonl:no/o"], "no/o: no file can be written there"),
        (["speech.wav", "--url", "ws://127.0.0.1:1"], "is it running"),
        (["no.wav"], "no.wav: no such file"),
        (["text.wav"], "text.wav"),
    ],
)
def test_a_command_that_fails_prints_a_plain_line_and_leaves_no_file(
    speech: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(speech.parent)
    text = speech.with_name("text.wav")
    text.write_text("not a sound")
    code = 1 if "--url" in options else 2  # whose fault it is
    assert main(["file", *options, "--out", "frames.jsonl"]) == code
    assert message in one_line(capsys)
    assert sorted(speech.parent.iterdir()) == [speech, text]


# Files


def test_a_dropped_frame_shows_the_face_before_it() -> None:
    shown = faces_at([face(1, NEUTRAL + 1), face(2, NEUTRAL + 2), face(4, NEUTRAL + 4)], 6)
    np.testing.assert_allclose(shown[:, 0, 0] - NEUTRAL[0, 0], [1, 1, 2, 2, 4, 4], atol=1e-4)
    assert faces_at([], 3).shape == (0, 68, 2)


# A real server


def test_frames_can_be_printed_in_the_coordinates_of_a_face_file(
    synthetic_server: RunningServer, speech: Path
) -> None:
    own, emotion = 4 * NEUTRAL - 90, {"happy": 0.7, "surprised": 0.1}
    path = speech.with_name("face.json")
    path.write_text(json.dumps(own.tolist()))
    done = client(
        "file", speech, "--url", f"ws://127.0.0.1:{synthetic_server.port}", "--out", "-",
        "--identity", path, "--emotion", "happy=0.7", "surprised=0.1",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["n"], row["t"]) for row in frames] == [(n, n / 30) for n in range(62)]
    sound = voice(2.05, 22_050)
    expected = Animator(SyntheticEngine()).animate(sound, 22_050, identity=own, emotion=emotion)
    np.testing.assert_allclose([row["points"] for row in frames], expected, atol=1e-3)


def test_the_client_imports_without_torch_and_without_its_extra() -> None:
    code = """
import sys
for name in ("torch", "websockets", "sounddevice", "av", "PIL", "tqdm", "pythonosc"):
    sys.modules[name] = None
import client, client.__main__, client.memory, client.microphone, client.cli.file, client.cli.mic
import client.cli.replay, client.cli.identity, client.video.mp4, client.sinks.bridge
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT,
        timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
