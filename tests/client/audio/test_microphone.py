"""The microphone with a device that a test plays; PortAudio itself is not needed."""

from __future__ import annotations

import asyncio
import builtins
import json
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Backoff, Frame, Reconnecting, Resumed, connect
from client.__main__ import arguments, main
from client.audio.devices import Device, choose_device, list_devices
from client.audio.devices import sounddevice as import_sounddevice
from client.audio.microphone import Block, BlockQueue, CaptureClock, Microphone
from client.cli.mic import stream_microphone
from client.cli.status import LatencyMeter, connection_line, level_bar, status_line
from client.stream.memory import MemoryTransport
from kfusion import wire
from kfusion.errors import ConnectionLost, MicrophoneError, MissingExtra
from tests.client.cut_connections import CutConnections
from tests.client.fake_sounddevice import FakeSounddevice
from tests.client.memory_server import MemoryServer

BLOCK = b"\x01\x00" * 960
LOUD = b"\x00\x20" * 960


# Devices


def test_only_inputs_are_listed_and_the_default_is_known(sounddevice: FakeSounddevice) -> None:
    assert list_devices("input") == [
        Device(1, "USB Microphone", 1, 44_100, default=False),
        Device(2, "Built-in Audio", 2, 48_000, default=True),
    ]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 2), (1, 1), ("1", 1), ("USB Microphone", 1), ("usb", 1), ("built", 2)],
)
def test_a_device_is_chosen_by_number_or_by_name(
    sounddevice: FakeSounddevice, wanted: str | int | None, index: int
) -> None:
    assert choose_device(wanted, "input").index == index


@pytest.mark.parametrize(
    ("wanted", "says"), [("0", "is no input"), ("tape", "is no input"), ("i", "fits several")]
)
def test_a_device_that_is_not_meant_is_refused_with_those_there_are(
    sounddevice: FakeSounddevice, wanted: str, says: str
) -> None:
    with pytest.raises(MicrophoneError, match=rf"{says}.*1 USB Microphone; 2 Built-in Audio"):
        choose_device(wanted, "input")


def test_without_a_device_the_error_says_so() -> None:
    with pytest.raises(MicrophoneError, match="no input device"):
        choose_device(None, "input")


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kfusion\[client\]'"):
        import_sounddevice()


def test_without_portaudio_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["mic", "--list"]) == 2
    assert "libportaudio2" in capsys.readouterr().err


@pytest.mark.asyncio
async def test_a_device_that_does_not_open_is_named(sounddevice: FakeSounddevice) -> None:
    sounddevice.rates.clear()
    with pytest.raises(MicrophoneError, match=r"Built-in Audio: cannot be opened.*sample rate"):
        async with Microphone():
            pass


# The queue between the threads


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 5))
def test_the_queue_keeps_every_sample_in_its_place_or_counts_it_there(
    doing: list[bool], most: int
) -> None:
    queue, put, taken = BlockQueue(most), 0, 0

    def take() -> bool:
        nonlocal taken
        block = queue.take()
        if block is None:
            return False
        if block.pcm:
            assert np.frombuffer(block.pcm, "<i2")[0] == taken
        taken += block.lost or len(block.pcm) // 2
        return True

    for sounds in doing:
        if sounds:
            queue.put(np.arange(put, put + 10, dtype="<i2").tobytes(), 0.0)
            put += 10
            assert len(queue.blocks) <= most + 1
        else:
            take()
    while take():
        pass
    assert taken + queue.pending_loss == put


def test_what_a_device_dropped_is_told_by_its_own_times() -> None:
    clock = CaptureClock(48_000)
    assert clock.missing_before(1.0, 960, overflowed=False) == 0
    assert clock.missing_before(1.021, 960, overflowed=False) == 0  # jitter
    assert clock.missing_before(1.541, 960, overflowed=True) == 24_000
    assert clock.missing_before(1.561, 960, overflowed=True) == 0
    assert clock.missing_before(0.0, 960, overflowed=True) == 0  # no times from this device
    assert clock.missing_before(9.0, 960, overflowed=True) == 0


# The microphone


@pytest.mark.asyncio
async def test_what_is_heard_is_streamed_at_the_rate_of_the_device(
    sounddevice: FakeSounddevice,
) -> None:
    transport = MemoryTransport(MemoryServer())
    mic = Microphone("usb")
    async with (
        connect("memory", transport=transport, rate=mic.rate, fill_silence=False) as face,
        mic,
    ):
        stream = sounddevice.streams[0]
        assert stream.running
        assert stream.options["samplerate"] == 44_100
        pumping = asyncio.create_task(mic.pump(face))
        for _ in range(50):
            stream.record(BLOCK)
            await asyncio.sleep(0)
        mic.stop()
        await pumping
        await face.end()
        frames = [f async for f in face.frames()]
    assert not sounddevice.streams[0].running
    assert b"".join(m for m in transport.sent if isinstance(m, bytes)) == BLOCK * 50
    assert len(frames) == -(-50 * 960 * 30 // 44_100)
    assert mic.level == pytest.approx(1 / 32768)


@pytest.mark.asyncio
async def test_what_did_not_fit_becomes_silence_of_its_length(sounddevice: FakeSounddevice) -> None:
    transport = MemoryTransport(MemoryServer())
    async with (
        Microphone() as mic,
        connect("memory", transport=transport, rate=48_000, fill_silence=False) as face,
    ):
        for _ in range(130):  # 2.6 s while the loop stands still; 2 s fit
            sounddevice.streams[0].record(BLOCK)
        pumping = asyncio.create_task(mic.pump(face))
        await asyncio.sleep(0)
        sounddevice.streams[0].record(BLOCK)
        mic.stop()
        await pumping
        await face.end()
        events = [e async for e in face.events()]
    silence = [wire.parse_client(m) for m in transport.sent if isinstance(m, str)]
    assert mic.queue.lost == 30 * 960
    assert [m.samples for m in silence if isinstance(m, wire.Silence)] == [30 * 960]
    assert sum(isinstance(e, Frame) for e in events) == -(-131 * 960 * 30 // 48_000)


@pytest.mark.asyncio
async def test_a_device_that_is_unplugged_ends_the_blocks(sounddevice: FakeSounddevice) -> None:
    async with Microphone() as mic:
        sounddevice.streams[0].record(BLOCK)
        sounddevice.streams[0].options["finished_callback"]()
        blocks = [b async for b in mic.blocks()]
    assert [type(b) for b in blocks] == [Block]


def test_the_callback_outlives_the_loop_without_a_word(sounddevice: FakeSounddevice) -> None:
    async def open_only() -> None:
        await Microphone().__aenter__()

    asyncio.run(open_only())
    sounddevice.streams[0].record(BLOCK)  # PortAudio's thread does not know yet


# The status line


def test_latency_is_from_the_sample_that_a_frame_shows() -> None:
    meter = LatencyMeter(48_000)
    for k in range(100):
        meter.captured(960 * k, 10 + 0.02 * k)
    for n in range(30):
        meter.frame(n, 10 + n / 30 + 0.25)
    assert meter.ms == pytest.approx(250, abs=0.1)


def test_latency_is_unknown_until_a_frame_comes() -> None:
    meter = LatencyMeter(48_000)
    meter.frame(0, 1.0)
    assert meter.ms is None


def test_what_was_heard_without_a_connection_teaches_no_latency() -> None:
    meter = LatencyMeter(48_000)
    meter.captured(0, 1.0)
    meter.clear()
    meter.frame(0, 9.0)
    meter.captured(48_000, 9.0)
    meter.frame(30, 9.2)
    assert meter.ms == pytest.approx(200)


def test_a_lost_connection_stands_where_the_latency_was() -> None:
    away = connection_line(Reconnecting(12, 4.96, "why"))
    assert away == "connection lost, trying again in 5.0 s (attempt 12)"
    line = status_line(0.1, 250.0, 100, 0, 0.0, away)
    assert away in line
    assert "250 ms" not in line
    assert len(status_line(0.1, 250.0, 10**9, 3, 1.0, away)) <= 79
    assert connection_line(Reconnecting(1, 0.2, "why")) == "connection lost, trying again in 0.2 s"
    assert connection_line(Resumed(2, 3.14, 0)) == "connected again after 3.1 s"


@pytest.mark.parametrize(
    ("level", "filled"), [(0.0, 0), (1e-3, 0), (10**-1.5, 10), (1.0, 20), (2.0, 20)]
)
def test_the_bar_spans_sixty_decibels(level: float, filled: int) -> None:
    assert level_bar(level) == "#" * filled + "." * (20 - filled)


def test_the_line_tells_only_what_went_wrong() -> None:
    quiet = status_line(0.1, None, 10, 0, 0.0)
    assert "dropped" not in quiet
    assert "unheard" not in quiet
    assert len(status_line(0.1, 123456.0, 10**9, 10**9, 1e6)) <= 79
    assert "3 dropped  0.6 s unheard" in status_line(0.1, 250.0, 10, 3, 0.6)


# The command


def test_the_devices_are_listed_with_a_star_at_the_default(
    sounddevice: FakeSounddevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mic", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines] == [" ", "*"]
    assert "USB Microphone" in lines[0]


def test_an_unknown_device_ends_the_command_with_a_plain_line(
    sounddevice: FakeSounddevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mic", "--device", "tape"]) == 2
    assert capsys.readouterr().err.startswith("kfusion-client: 'tape' is no input device")


@pytest.mark.asyncio
async def test_the_command_streams_until_it_is_interrupted_and_keeps_every_frame(
    sounddevice: FakeSounddevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transport = MemoryTransport(MemoryServer())
    monkeypatch.setattr("client.cli.options.connect", partial(connect, transport=transport))
    out = tmp_path / "frames.jsonl"
    talking = asyncio.create_task(stream_microphone(arguments(["mic", "--out", str(out)])))
    async with asyncio.timeout(20):
        while not (sounddevice.streams and sounddevice.streams[0].running):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for _ in range(100):
            sounddevice.streams[0].record(LOUD)
            await asyncio.sleep(0)
        assert not out.exists()
        signal.raise_signal(signal.SIGINT)
        await talking
    frames = [json.loads(line) for line in out.read_text().splitlines()]
    assert [frame["n"] for frame in frames] == list(range(60))
    assert not out.with_name(".frames.jsonl.part").exists()
    told = capsys.readouterr().err
    assert "listening to Built-in Audio at 48000 Hz" in told
    assert "60 frames" in told
    assert "dropped" not in told


async def heard_by_the_command(
    sounddevice: FakeSounddevice, cables: CutConnections, out: Path, cut_for_good: bool = False
) -> None:
    """A second of sound through ``mic``, whose connection is cut in the middle."""
    talking = asyncio.create_task(stream_microphone(arguments(["mic", "--out", str(out)])))
    async with asyncio.timeout(20):
        while not (sounddevice.streams and sounddevice.streams[0].running):  # noqa: ASYNC110
            await asyncio.sleep(0)
        for k in range(50):
            if k == 25:
                cables.cuts = [(0, 0)] * 99 if cut_for_good else []
                cables.cut()
            sounddevice.streams[0].record(LOUD)
            for _ in range(20):
                await asyncio.sleep(0)
        if not cut_for_good:
            signal.raise_signal(signal.SIGINT)
        await talking


@pytest.mark.asyncio
async def test_the_command_goes_on_after_a_lost_connection_and_says_so(
    sounddevice: FakeSounddevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cables = CutConnections(MemoryServer(resume_s=30), [])
    again = partial(connect, transport=cables, reconnect=Backoff(first_s=0.0))
    monkeypatch.setattr("client.cli.options.connect", again)
    out = tmp_path / "frames.jsonl"
    await heard_by_the_command(sounddevice, cables, out)
    assert len(cables.opened) == 2
    frames = [json.loads(line) for line in out.read_text().splitlines()]
    assert [frame["n"] for frame in frames] == list(range(30))
    told = capsys.readouterr().err
    assert "kfusion-client: connection lost, trying again in 0.0 s\n" in told
    assert "kfusion-client: connected again after 0.0 s\n" in told
    assert "30 frames" in told


@pytest.mark.asyncio
async def test_of_a_stream_that_is_lost_for_good_the_frames_that_came_are_kept(
    sounddevice: FakeSounddevice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cables = CutConnections(MemoryServer(resume_s=0.05), [])
    monkeypatch.setattr("client.cli.options.connect", partial(connect, transport=cables))
    out = tmp_path / "frames.jsonl"
    with pytest.raises(ConnectionLost, match=r"no other one went on within 0\.05 s"):
        await heard_by_the_command(sounddevice, cables, out, cut_for_good=True)
    frames = [json.loads(line) for line in out.read_text().splitlines()]
    assert [frame["n"] for frame in frames] == list(range(len(frames)))
    assert 6 <= len(frames) <= 15
    assert f"the {len(frames)} frames that came are in {out}" in capsys.readouterr().err
    assert not out.with_name(".frames.jsonl.part").exists()
