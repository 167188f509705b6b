"""Commands with sinks: programs that receive packets, and files written at the same time."""

import asyncio
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from client import connect
from client.__main__ import arguments, main
from client.cli.mic import stream_microphone
from client.sinks.schedule import EASE_FRAMES
from client.stream.memory import MemoryTransport
from kfusion.landmarks import lip_gap
from tests.client.cli.commands import client, one_line, rows
from tests.client.fake_sounddevice import FakeSounddevice
from tests.client.memory_server import MemoryServer
from tests.client.sinks.packets import read_live_link, read_openseeface, read_vmc
from tests.conftest import RunningServer, voice


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "speech.wav", voice(1.2), 16_000, subtype="FLOAT")
    return tmp_path / "speech.wav"


class Listener:
    """Receives packets on a port of its own until it is closed."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.packets: list[tuple[float, bytes]] = []
        self.thread = threading.Thread(target=self._receive)
        self.thread.start()

    def _receive(self) -> None:
        while packet := self.socket.recv(65_536):
            self.packets.append((time.monotonic(), packet))

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    found = [Listener() for _ in range(3)]
    yield found
    for listener in found:
        if listener.thread.is_alive():
            listener.close()


def test_a_sound_drives_three_programs_at_once_and_is_written_too(
    synthetic_server: RunningServer, speech: Path, listeners: list[Listener]
) -> None:
    eyes, unreal, puppet = listeners
    out = speech.parent / "frames.jsonl"
    done = client(
        "file", speech, "--url", synthetic_server.url, "--out", out,
        "--to", f"osf://{eyes.place}", "--to", f"vmc://{puppet.place}",
        "--to", f"livelink://{unreal.place}?subject=Ada",
    )  # fmt: skip
    for listener in listeners:
        listener.close()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = rows(out)
    count = len(lines)
    assert count == 36
    assert tuple(len(one.packets) for one in listeners) == (count + EASE_FRAMES,) * 3
    seconds = eyes.packets[-1][0] - eyes.packets[0][0]
    assert seconds > 0.7 * count / 30  # at their own time, not as fast as a file can
    faces = [read_openseeface(packet) for _, packet in eyes.packets]
    true = [lip_gap(np.array(line["points"])) for line in lines]
    assert max(true) > 5
    assert np.corrcoef(true, [face.mouth_gap for face in faces[:count]])[0, 1] > 0.99
    assert np.abs(list(faces[-1].features.values())).max() < 1e-3
    shown = [read_vmc(packet) for _, packet in puppet.packets]
    for line, expressions, (_, packet) in zip(lines, shown, unreal.packets, strict=False):
        assert expressions["A"] == pytest.approx(line["vrm"][0])
        values = read_live_link(packet).values
        assert values["EyeBlinkLeft"] == pytest.approx(line["arkit52"][8])
    assert shown[-1] == dict.fromkeys(shown[0], 0.0) | {"Neutral": 1.0}
    frames = [read_live_link(packet).frame for _, packet in unreal.packets]
    assert frames == list(range(frames[0], frames[0] + count + EASE_FRAMES))


def test_life_is_on_with_a_program_that_draws_and_off_in_a_file(
    synthetic_server: RunningServer, speech: Path, listeners: list[Listener]
) -> None:
    out = speech.parent / "frames.jsonl"

    def written(*options: str) -> NDArray[np.float64]:
        command = ["file", str(speech), "--url", synthetic_server.url, "--out", str(out), *options]
        assert main(command) == 0
        return np.array([row["points"] for row in rows(out)])

    to = ["--to", f"osf://{listeners[0].place}"]
    plain, lively = written(), written(*to)
    assert np.abs(lively - plain).max() > 0.2
    np.testing.assert_array_equal(written(*to, "--life", "0"), plain)
    np.testing.assert_array_equal(written("--life", "1"), lively)
    assert np.abs(written("--life", "1", "--seed", "7") - lively).max() > 0.2


@pytest.mark.asyncio
async def test_a_microphone_drives_a_program_and_a_file_loses_nothing(
    sounddevice: FakeSounddevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    listeners: list[Listener],
) -> None:
    transport = MemoryTransport(MemoryServer())
    monkeypatch.setattr("client.cli.options.connect", partial(connect, transport=transport))
    out = tmp_path / "frames.jsonl"
    to = ["--to", f"osf://{listeners[0].place}", "--to", f"vmc://{listeners[1].place}?vrm=1"]
    talking = asyncio.create_task(
        stream_microphone(arguments(["mic", "--out", str(out), *to, "--seed", "3"]))
    )
    async with asyncio.timeout(20):
        while not (sounddevice.streams and sounddevice.streams[0].running):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(100):  # two seconds' worth at once: what piles up is passed over
            sounddevice.streams[0].record(b"\x00\x20" * 960)
            await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await talking
    for listener in listeners:
        listener.close()
    start = transport.sent[0]
    assert isinstance(start, str)
    request = json.loads(start)
    assert (request["outputs"], request["life"], request["seed"]) == (["points", "vrm"], 1.0, 3)
    assert [frame["n"] for frame in rows(out)] == list(range(60))
    shown = [read_openseeface(packet) for _, packet in listeners[0].packets]
    output = capsys.readouterr().err
    skipped = int(re.findall(r"kfusion-client: (\d+) frames came too late", output)[0])
    assert len(shown) == len(listeners[1].packets) >= 60 - skipped + EASE_FRAMES
    assert max(face.mouth_gap for face in shown) > 5 > shown[-1].mouth_gap


def test_a_program_that_is_not_there_costs_no_frame_elsewhere_and_is_named_once(
    synthetic_server: RunningServer,
    speech: Path,
    capsys: pytest.CaptureFixture[str],
    listeners: list[Listener],
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"osf://127.0.0.1:{unused.getsockname()[1]}"
    out = speech.parent / "frames.jsonl"
    command = ["file", str(speech), "--url", synthetic_server.url, "--out", str(out), "--to", url]
    assert main([*command, "--to", f"osf://{listeners[0].place}"]) == 0
    assert len(rows(out)) == 36
    line = one_line(capsys)
    assert line.startswith(f"kfusion-client: {url}: ")
    assert "of 41 packets were lost (Connection refused); does a program listen there?" in line
    listeners[0].close()
    assert len(listeners[0].packets) == 41
