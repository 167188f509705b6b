"""The commands for sound devices, mic and say, with fake devices."""

import asyncio
import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from client import Backoff, connect
from client.__main__ import arguments, main
from client.audio.speaker import Speaker
from client.cli.mic import stream_microphone
from client.cli.say import playable
from client.cli.status import LatencyMeter
from kfusion.errors import ConnectionLost
from tests.client.cut_connections import CutConnections
from tests.client.fake_sounddevice import FakeSounddevice
from tests.client.memory_server import MemoryServer
from tests.conftest import voice

LOUD = b"\x00\x20" * 960

# The status line


def test_latency_is_from_the_sample_that_a_frame_shows() -> None:
    meter = LatencyMeter(48_000)
    for k in range(100):
        meter.captured(960 * k, 10 + 0.02 * k)
    for n in range(30):
        meter.frame(n, 10 + n / 30 + 0.25)
    assert meter.ms == pytest.approx(250, abs=0.1)


def test_latency_starts_anew_after_a_lost_connection() -> None:
    meter = LatencyMeter(48_000)
    meter.captured(0, 1.0)
    meter.clear()
    meter.frame(0, 9.0)
    meter.captured(48_000, 9.0)
    meter.frame(30, 9.2)
    assert meter.ms == pytest.approx(200)


# mic


def test_the_devices_are_listed_with_a_star_at_the_default(
    sounddevice: FakeSounddevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mic", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines] == [" ", "*"]
    assert "USB Microphone" in lines[0]


async def stream_a_second(
    sounddevice: FakeSounddevice, connections: CutConnections, out: Path, cuts: int = 0
) -> None:
    """A second of sound through ``mic``. In its middle the connection is cut, and ``cuts`` - 1
    attempts to open another one fail.
    """
    streaming = asyncio.create_task(stream_microphone(arguments(["mic", "--out", str(out)])))
    async with asyncio.timeout(20):
        while not (sounddevice.streams and sounddevice.streams[0].running):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for k in range(50):
            if k == 25 and cuts:
                connections.cuts = [(0, 0)] * cuts
                connections.cut()
            sounddevice.streams[0].record(LOUD)
            for _ in range(20):
                await asyncio.sleep(0)
        if cuts <= 1:
            assert not out.exists()  # noqa: ASYNC240
            signal.raise_signal(signal.SIGINT)
        await streaming


def frame_numbers(out: Path) -> list[int]:
    assert not out.with_name(f".{out.name}.part").exists()
    return [json.loads(line)["n"] for line in out.read_text().splitlines()]


@pytest.mark.asyncio
@pytest.mark.parametrize("cuts", [0, 1])
async def test_mic_streams_until_it_is_interrupted(
    sounddevice: FakeSounddevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cuts: int,
) -> None:
    connections = CutConnections()
    no_wait: Any = partial(connect, transport=connections, reconnect=Backoff(first_s=0.0))
    monkeypatch.setattr("client.cli.options.connect", no_wait)
    out = tmp_path / "frames.jsonl"
    await stream_a_second(sounddevice, connections, out, cuts)
    assert len(connections.opened) == 1 + cuts
    assert frame_numbers(out) == list(range(30))
    printed = capsys.readouterr().err
    assert "listening to Built-in Audio at 48000 Hz" in printed
    assert "30 frames" in printed and "dropped" not in printed
    lost = "kfusion-client: connection lost, trying again in 0.0 s\n"
    assert printed.count(lost) == cuts
    assert printed.count("kfusion-client: connected again after 0.0 s\n") == cuts


@pytest.mark.asyncio
async def test_mic_keeps_the_frames_of_a_stream_that_is_lost_for_good(
    sounddevice: FakeSounddevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    connections = CutConnections(MemoryServer(resume_s=0.05))
    monkeypatch.setattr("client.cli.options.connect", partial(connect, transport=connections))
    out = tmp_path / "frames.jsonl"
    with pytest.raises(ConnectionLost, match=r"no other one went on within 0\.05 s"):
        await stream_a_second(sounddevice, connections, out, cuts=99)
    count = len(frame_numbers(out))
    assert frame_numbers(out) == list(range(count))
    assert 6 <= count <= 15
    assert f"the {count} frames that came are in {out}" in capsys.readouterr().err


# say


def test_say_plays_at_the_rate_of_the_sound_or_the_device(
    sounddevice: FakeSounddevice,
) -> None:
    speaker = Speaker("Headphones")
    sound = voice(1.0, 16_000)
    assert playable(voice(1.0, 48_000), 48_000, speaker)[1] == 48_000
    other, rate = playable(sound, 16_000, speaker)
    assert (rate, len(other), other.dtype) == (44_100, 44_100, np.float32)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["mic"], "'tape' is no input device; wanted one of: 1 USB Microphone; 2 Built-in Audio"),
        (["say", "SOUND"], "'tape' is no output device; wanted one of: "
         "0 Headphones; 2 Built-in Audio"),
    ],
)  # fmt: skip
def test_an_unknown_device_ends_a_command_with_one_line(
    sounddevice: FakeSounddevice, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    command: list[str], line: str,
) -> None:  # fmt: skip
    sound = tmp_path / "speech.wav"
    soundfile.write(sound, voice(0.2), 16_000)
    options = [str(sound) if word == "SOUND" else word for word in command]
    assert main([*options, "--device", "tape"]) == 2
    assert capsys.readouterr().err == f"kfusion-client: {line}\n"
