"""Frames to several sinks: each in its time, none waits for another, no mouth freezes open."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer

from client import Backoff, Frame, connect
from client.__main__ import arguments, main
from client.cli.mic import stream_microphone
from client.sinks import open_sink
from client.sinks.bridge import AHEAD, Bridge
from client.sinks.openseeface import OpenSeeFaceSink
from client.sinks.schedule import EASE
from client.stream.memory import MemoryTransport
from client.stream.transports import Transport
from kfusion import wire
from kfusion.coefficients.vrm import VRM
from kfusion.errors import ConnectionLost
from kfusion.landmarks import INNER_LOWER, NEUTRAL, lip_gap
from tests.client.cli.test_client_cli import ROOT, rows
from tests.client.fake_sounddevice import FakeSounddevice
from tests.client.manual_clock import ManualClock, settle
from tests.client.memory_server import MemoryServer
from tests.client.sinks.packets import read_live_link, read_openseeface
from tests.conftest import RunningServer, voice


class Eyes:
    """A sink that remembers what it saw, and when."""

    needs: tuple[wire.Output, ...] = ("vrm",)
    trouble = ""

    def __init__(self, now: Callable[[], float], *, live: bool = True) -> None:
        self.now, self.live = now, live
        self.seen: list[tuple[float, Frame]] = []
        self.open = True

    def send(self, frame: Frame) -> None:
        self.seen.append((self.now(), frame))

    def close(self) -> None:
        self.open = False

    def discard(self) -> None:
        self.open = False

    @property
    def numbers(self) -> list[int]:
        return [frame.n for _, frame in self.seen]

    @property
    def gaps(self) -> NDArray[np.float64]:
        return np.array([lip_gap(frame.points.astype(np.float64)) for _, frame in self.seen])


def talking(n: int) -> Frame:
    face = NEUTRAL.copy()
    face[list(INNER_LOWER), 1] += 10
    return Frame(n, n / 30, face.astype(np.float32))


# Within the process


@pytest.mark.asyncio
async def test_files_have_a_frame_as_it_comes_and_live_sinks_in_its_time() -> None:
    hand = ManualClock()
    file, live = Eyes(hand.now, live=False), Eyes(hand.now)
    async with Bridge([live, file], clock=hand) as bridge:
        for n in range(9):
            await bridge.put(talking(n))
        await settle()
        assert (len(file.seen), len(live.seen)) == (9, 1)
        await hand.advance(0.25)
        assert live.numbers == list(range(8))
        finishing = asyncio.create_task(hand.advance(1.0))
    await finishing
    assert live.numbers == list(range(9 + EASE)) and live.gaps[-1] < 1e-3
    assert file.numbers == list(range(9))
    bridge.close()
    assert not (live.open or file.open)


@pytest.mark.asyncio
async def test_whoever_puts_a_file_waits_and_a_microphone_never_does() -> None:
    hand = ManualClock()
    for skips, waits in ((False, True), (True, False)):
        live = Eyes(hand.now)
        async with Bridge([live], skips=skips, clock=hand) as bridge:

            async def put(bridge: Bridge) -> None:
                for n in range(2 * AHEAD):
                    await bridge.put(talking(n))

            putting = asyncio.create_task(put(bridge))
            await settle()
            assert putting.done() != waits
            finishing = asyncio.create_task(hand.advance(4.0))
            await putting
        await finishing
        assert bool(bridge.showing.skipped) == skips
        assert len(bridge.troubles) == skips


@pytest.mark.asyncio
async def test_what_a_bridge_asks_for_is_what_its_sinks_need() -> None:
    bridge = Bridge.open(
        None,
        ["vmc://127.0.0.1:9", "osf://127.0.0.1:9", "livelink://127.0.0.1:9", "vmc://127.0.0.1:9"],
        None, hop=3, skips=True,
    )  # fmt: skip
    assert bridge.outputs == ("points", "vrm", "arkit52")
    assert (bridge.life(None), bridge.life(0.0), bridge.life(0.3)) == (1.0, 0.0, 0.3)
    bridge.close()
    plain = Bridge.open("-", [], None, hop=3, skips=False)
    assert (plain.outputs, plain.life(None), plain.life(0.5)) == (("points",), 0.0, 0.5)


@pytest.mark.asyncio
async def test_a_stream_that_fails_leaves_a_closed_mouth() -> None:
    hand = ManualClock()
    live = Eyes(hand.now)
    turning = None
    with pytest.raises(ConnectionLost):
        async with Bridge([live], clock=hand) as bridge:
            await bridge.put(talking(0))
            await settle()
            turning = asyncio.create_task(hand.advance(1.0))
            raise ConnectionLost("the cable")
    assert turning is not None
    await turning
    assert live.gaps[0] > 9 and live.gaps[-1] < 1e-3 and len(live.seen) == 1 + EASE


@pytest.mark.asyncio
async def test_being_cancelled_waits_for_nothing() -> None:
    hand = ManualClock()
    live = Eyes(hand.now)
    with pytest.raises(asyncio.CancelledError):
        async with Bridge([live], clock=hand) as bridge:
            for n in range(9):
                await bridge.put(talking(n))
            raise asyncio.CancelledError
    assert len(asyncio.all_tasks()) == 1 and len(live.seen) <= 1


@pytest.mark.asyncio
@pytest.mark.parametrize("ended_by", [asyncio.CancelledError, KeyboardInterrupt, OSError])
async def test_whatever_ends_it_leaves_a_closed_mouth(ended_by: type[BaseException]) -> None:
    hand = ManualClock()
    live, file = Eyes(hand.now), Eyes(hand.now, live=False)
    with pytest.raises(ended_by):
        async with Bridge([live, file], clock=hand) as bridge:
            await bridge.put(replace(talking(0), vrm=np.full(len(VRM), 0.5, np.float32)))
            await settle()
            assert live.gaps[-1] > 9
            raise ended_by
    assert live.gaps[-1] < 1e-3 and live.numbers == [0, 1] and hand.now() == 100.0
    rest = live.seen[-1][1]
    assert rest.vrm is not None and rest.vrm[-1] == 1 and rest.vrm[:-1].max() == 0
    assert rest.arkit52 is None and file.numbers == [0]


@pytest.mark.asyncio
async def test_being_cancelled_on_the_way_to_rest_is_at_rest_at_once() -> None:
    hand = ManualClock()
    live = Eyes(hand.now)

    async def stream() -> None:
        async with Bridge([live], clock=hand) as bridge:
            await bridge.put(talking(0))
            await settle()

    streaming = asyncio.create_task(stream())
    await hand.advance(0.08)
    assert not streaming.done() and live.gaps[-1] > 1
    streaming.cancel()
    await asyncio.gather(streaming, return_exceptions=True)
    assert streaming.cancelled() and live.gaps[-1] < 1e-3


@pytest.mark.asyncio
async def test_a_sink_that_breaks_is_told_of_and_hangs_nobody() -> None:
    class Broken(Eyes):
        def send(self, frame: Frame) -> None:
            raise RuntimeError("a sink's own mistake")

    with pytest.raises(RuntimeError, match="own mistake"):
        async with asyncio.timeout(5), Bridge([Broken(time.monotonic)]) as bridge:
            for n in range(5 * AHEAD):
                await bridge.put(talking(n))


class Flaky:
    """Opens connections to a server, while it ``up`` is."""

    def __init__(self, server: MemoryServer) -> None:
        self.server, self.up = server, True
        self.opened: list[MemoryTransport] = []

    async def __call__(self) -> Transport:
        self.opened.append(MemoryTransport(self.server))
        if not self.up:
            self.opened[-1].abort()
        return self.opened[-1]


@pytest.mark.asyncio
async def test_while_a_lost_connection_is_replaced_the_mouth_is_closed() -> None:
    hand = ManualClock()
    live = Eyes(hand.now)
    cables = Flaky(MemoryServer(resume_s=30))
    loud = np.full(1600, 0.3, np.float32) * np.resize([1, -1], 1600)
    async with (
        Bridge([live], skips=True, clock=hand) as bridge,
        connect(
            "memory", transport=cables, clock=hand, outputs=live.needs,
            reconnect=Backoff(0.5, 0.5, 0.0),
        ) as face,
    ):  # fmt: skip

        async def listen() -> None:
            async for frame in face.frames():
                await bridge.put(frame)

        async def speak(seconds: float) -> tuple[int, int]:
            """Which of the packets were seen meanwhile."""
            before = len(live.seen)
            for _ in range(round(10 * seconds)):
                await face.send(loud)
                await hand.advance(0.1)
            return before, len(live.seen)

        listening = asyncio.create_task(listen())
        await speak(2.0)
        assert live.gaps[-1] > 2
        cables.up = False
        cables.opened[-1].abort()
        start, end = await speak(2.0)
        assert abs(live.gaps[end - 1]) < 1e-3
        # Some frames were on their way; then 0.3 s of nothing, and 30 a second again.
        assert 40 <= end - start <= 54
        assert np.abs(np.diff(live.gaps[start:end])).max() < 0.4 * live.gaps[start]
        rest = live.seen[end - 1][1]
        assert rest.vrm is not None and rest.vrm[-1] == 1 and rest.vrm[:-1].max() == 0
        cables.up = True
        start, end = await speak(2.0)
        assert live.gaps[end - 1] > 2
        await face.end()
        await listening
        finishing = asyncio.create_task(hand.advance(1.0))
    await finishing
    assert abs(live.gaps[-1]) < 1e-3
    assert (np.diff(live.numbers) > 0).all()
    times = [at for at, _ in live.seen]
    assert np.diff(times).max() < 0.3 + 0.05


@pytest.mark.asyncio
async def test_a_program_that_does_not_listen_costs_no_frame_elsewhere(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    out = tmp_path / "frames.jsonl"
    hand = ManualClock()
    live = Eyes(hand.now)
    sinks = [open_sink(f"osf://127.0.0.1:{port}"), live, open_sink(f"jsonl:{out}")]
    async with Bridge(sinks, clock=hand) as bridge:
        for n in range(20):
            await bridge.put(talking(n))
        finishing = asyncio.create_task(hand.advance(2.0))
    await finishing
    bridge.close()
    assert [row["n"] for row in rows(out)] == list(range(20))
    assert live.numbers == list(range(20 + EASE))
    (told,) = bridge.troubles
    assert re.search(rf"\d+ of {20 + EASE} packets were lost \(Connection refused\)", told)


def test_a_bridge_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "frames.jsonl"
    assert main(["file", "a.wav", "--out", str(out), "--to", "osf://127.0.0.1:x"]) == 2
    assert main(["mic", "--out", str(out), "--to", "fax://127.0.0.1"]) == 2
    assert list(tmp_path.iterdir()) == []


# The command


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--life", "2"], "wanted a number from 0 to 1"),
        (["--life", "much"], "wanted a number from 0 to 1"),
        (["--seed", "x"], "--seed"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments(["file", "a.wav", "--out", "-", *options])
    assert says in capsys.readouterr().err


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "speech.wav", voice(1.2), 16_000, subtype="FLOAT")
    return tmp_path / "speech.wav"


def test_a_place_that_is_none_ends_the_command_with_a_plain_line(
    speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["file", str(speech), "--to", "osf:127.0.0.1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "kfusion-client: osf:127.0.0.1: no address; wanted osf://HOST:PORT"


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
    found = [Listener(), Listener()]
    yield found
    for listener in found:
        if listener.thread.is_alive():
            listener.close()


class Puppet:
    """What a program does that receives VMC, with python-osc's own server."""

    def __init__(self) -> None:
        self.shown: list[dict[str, float]] = []
        self._next: dict[str, float] = {}
        dispatcher = Dispatcher()
        dispatcher.map("/VMC/Ext/Blend/Val", self._value)
        dispatcher.map("/VMC/Ext/Blend/Apply", self._apply)
        self.server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
        self.place = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def _value(self, _: str, name: Any, value: Any) -> None:
        self._next[name] = value

    def _apply(self, _: str) -> None:
        self.shown.append(dict(self._next))

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_a_sound_drives_three_programs_at_once_and_is_written_too(
    synthetic_server: RunningServer, speech: Path, listeners: list[Listener]
) -> None:
    eyes, unreal = listeners
    puppet = Puppet()
    out = speech.parent / "frames.jsonl"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "client", "file", str(speech),
             "--url", synthetic_server.url, "--out", str(out), "--to", f"osf://{eyes.place}",
             "--to", f"vmc://{puppet.place}", "--to", f"livelink://{unreal.place}?subject=Ada"],
            capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
        )  # fmt: skip
    finally:
        puppet.close()
        eyes.close()
        unreal.close()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = rows(out)
    count = len(lines)
    assert count == 36
    assert (len(eyes.packets), len(puppet.shown), len(unreal.packets)) == (count + EASE,) * 3
    seconds = eyes.packets[-1][0] - eyes.packets[0][0]
    assert seconds > 0.7 * count / 30  # at their own time, not as fast as a file can
    faces = [read_openseeface(packet) for _, packet in eyes.packets]
    true = [lip_gap(np.array(line["points"])) for line in lines]
    assert max(true) > 5
    assert np.corrcoef(true, [face.mouth_gap for face in faces[:count]])[0, 1] > 0.99
    assert np.abs(list(faces[-1].features.values())).max() < 1e-3
    for line, shown, (_, packet) in zip(lines, puppet.shown, unreal.packets, strict=False):
        assert shown["A"] == pytest.approx(line["vrm"][0])
        values = read_live_link(packet).values
        assert values["EyeBlinkLeft"] == pytest.approx(line["arkit52"][8])
    assert puppet.shown[-1] == dict.fromkeys(puppet.shown[0], 0.0) | {"Neutral": 1.0}
    frames = [read_live_link(packet).frame for _, packet in unreal.packets]
    assert frames == list(range(frames[0], frames[0] + count + EASE))


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
    asked = json.loads(start)
    assert (asked["outputs"], asked["life"], asked["seed"]) == (["points", "vrm"], 1.0, 3)
    assert [frame["n"] for frame in rows(out)] == list(range(60))
    shown = [read_openseeface(packet) for _, packet in listeners[0].packets]
    told = capsys.readouterr().err
    skipped = int(re.findall(r"kfusion-client: (\d+) frames came too late", told)[0])
    assert len(shown) == len(listeners[1].packets) >= 60 - skipped + EASE
    assert max(face.mouth_gap for face in shown) > 5 > shown[-1].mouth_gap


def test_a_program_that_is_not_there_is_told_of_once_and_the_run_is_whole(
    synthetic_server: RunningServer, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        url = f"osf://127.0.0.1:{gone.getsockname()[1]}"
    out = speech.parent / "frames.jsonl"
    command = ["file", str(speech), "--url", synthetic_server.url, "--out", str(out), "--to", url]
    assert main(command) == 0
    assert len(rows(out)) == 36
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kfusion-client: {url}: ")
    assert "of 41 packets were lost (Connection refused); does a program listen there?" in line


def test_an_openseeface_sink_knows_the_face_that_it_shows() -> None:
    own = 2 * NEUTRAL + 300
    sink = open_sink("osf://127.0.0.1:9", own)
    assert isinstance(sink, OpenSeeFaceSink)
    p = read_openseeface(sink.packet(Frame(0, 0.0, own.astype(np.float32))))
    sink.close()
    np.testing.assert_allclose(p.points[30], [320, NEUTRAL[30, 1] * 480 / 256], atol=1e-2)
    assert np.abs(list(p.features.values())).max() < 1e-4
