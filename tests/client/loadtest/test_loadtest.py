"""``python -m client loadtest``: what it sends, what it reckons, and real servers under it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import sys
import threading
import urllib.request
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from client import connect
from client.__main__ import main
from client.loadtest.log import Log, Measured
from client.loadtest.plan import Load, cut, parts_of, sounds_of, speech_like
from client.loadtest.report import (
    as_json,
    needed_samples,
    report,
    text,
    timed_of_all,
)
from client.loadtest.search import most_that_hold
from client.loadtest.streams import Door, State, Stream
from client.loadtest.usage import ServerUse, from_metrics, from_proc, read_once
from client.loadtest.wheel import Wheel, messages_of
from kfusion import wire
from kfusion.errors import KFusionError
from kfusion.stream import HOPS, Slider
from tests.conftest import RunningServer, start_server, stop_server, voice

LOAD = Load("ws://127.0.0.1:1", seconds=4.0, warmup=1.0)
SOUND = cut("a second", speech_like(1.0, 16_000), 16_000, 20)

# What is said


@given(
    rate=st.sampled_from([8000, 11_025, 16_000, 44_100, 48_000]),
    ms=st.integers(1, 300),
    seconds=st.floats(0.3, 2.0),
)
def test_chunks_end_at_whole_multiples_of_their_length_and_join_to_the_sound(
    rate: int, ms: int, seconds: float
) -> None:
    samples = speech_like(seconds, rate)
    sound = cut("a", samples, rate, ms)
    ends = np.cumsum(sound.samples)
    assert ends.tolist() == [k * ms * rate // 1000 for k in range(1, len(ends) + 1)]
    assert [len(pcm) for pcm in sound.pcm] == [2 * n for n in sound.samples]
    assert 0 <= len(samples) - ends[-1] <= rate * ms // 1000
    joined = np.frombuffer(b"".join(sound.pcm), "<i2") / 32768
    np.testing.assert_allclose(joined, samples[: ends[-1]], atol=1 / 32768)


def test_a_sound_shorter_than_a_chunk_is_repeated() -> None:
    ramp = np.arange(100, dtype=np.float32) / np.float32(100)
    sound = cut("a", ramp, 16_000, 20)
    assert sound.samples == (320,)
    said = np.frombuffer(sound.pcm[0], "<i2") / 32768
    np.testing.assert_allclose(said, np.tile(ramp, 4)[:320], atol=1 / 32768)


def test_files_are_brought_to_the_rate_of_the_stream(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", voice(1.0, 22_050), 22_050)
    soundfile.write(tmp_path / "b.wav", voice(2.0, 48_000), 48_000)
    one, two = sounds_of([tmp_path / "a.wav", tmp_path / "b.wav"], 48_000, 20)
    assert (len(one.pcm), len(two.pcm)) == (50, 100)
    assert one.name.endswith("a.wav") and sum(two.samples) == 96_000


def test_streams_have_their_own_places_and_more_streams_leave_them_as_they_were() -> None:
    sounds = [cut(str(k), speech_like(5.0, 16_000, k), 16_000, 20) for k in range(2)]
    few, many = (parts_of(replace(LOAD, streams=n, hop=3), sounds) for n in (20, 50))
    assert many[:20] == few
    assert {part.sound for part in many} == {0, 1}
    assert len({(part.sound, part.chunk) for part in many}) > 40
    after = [part.after for part in many]
    assert 0 <= min(after) < 0.02 and 0.08 < max(after) < 0.1
    assert parts_of(replace(LOAD, streams=20, seed=1), sounds) != few


def test_streams_in_phase_begin_at_one_instant() -> None:
    sounds = sounds_of([], 16_000, 20)
    parts = parts_of(replace(LOAD, streams=9, starts="phase"), sounds)
    assert {part.after for part in parts} == {0.0}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"streams": 0}, "--streams 0: wanted 1 to"),
        ({"chunk_ms": 0}, "--chunk-ms 0"),
        ({"processes": 0}, "--processes 0"),
        ({"warmup": 4.0}, "less than the 4 s"),
        ({"seed": -1}, "--seed -1: wanted 0 or more"),
        ({"seconds": float("inf")}, "--seconds inf: wanted more than 0"),
        ({"seconds": float("nan")}, "--seconds nan"),
        ({"hop": 4}, "wanted 1, 2, 3, 5"),
        ({"hop": 30}, "at most 30"),
        ({"rate": 7999}, "8000"),
    ],
)
def test_a_load_that_cannot_be_is_refused_and_why(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(KFusionError, match=re.escape(says)):
        replace(LOAD, **changed).check()


# What is reckoned


@given(
    rate=st.sampled_from([8000, 16_000, 22_050, 48_000]),
    hop=st.sampled_from([hop for hop in HOPS if hop <= 15]),
    lookahead=st.integers(0, 15),
)
def test_a_frames_window_needs_what_the_server_waits_for(
    rate: int, hop: int, lookahead: int
) -> None:
    slider = Slider(rate, hop, lookahead)
    for _ in range(3):
        frames = np.arange(slider.next_first, slider.next_last)
        (needed,) = set(needed_samples(frames, rate, hop, lookahead).tolist())
        slider.push_silence(needed - 1 - slider.received)
        assert not slider.ready
        slider.push_silence(1)
        assert slider.take() is not None


def log_of(load: Load, start: float, delay: float, *, late: float = 0.0, index: int = 0) -> Log:
    """A stream whose every block came ``delay`` after the chunk that completed its window."""
    size = load.rate * load.chunk_ms // 1000
    log = Log(index, start)
    for k in range(round(load.seconds * load.rate) // size):
        log.positions.append((k + 1) * size)
        log.sent.append(start + (k + 1) * load.chunk_ms / 1000 + late)
    positions = np.array(log.positions)
    for first in range(0, round(load.seconds * 30), load.hop):
        needed = needed_samples(np.array([first]), load.rate, load.hop, load.lookahead)
        chunk = min(int(np.searchsorted(positions, needed[0])), len(positions) - 1)
        log.firsts.append(first)
        log.counts.append(load.hop)
        log.arrived.append(log.sent[chunk] + delay)
    return log


def measured(load: Load, *logs: Log, use: ServerUse | None = None) -> Measured:
    return Measured(load, ("a",), 100.0, list(logs), 0.02, use)


def test_latencies_are_from_a_frames_own_time_and_from_the_chunk_that_completed_its_window() -> (
    None
):
    logs = log_of(LOAD, 100.0, 0.010), log_of(LOAD, 100.05, 0.030, index=1)
    r = report(measured(replace(LOAD, streams=2), *logs))
    assert r.total_ms is not None and r.beyond_ms is not None and r.late_ms is not None
    # Frames 3m, 3m+1, 3m+2 of a window that ends at frame 3m+6 wait 200, 167 and 133 ms.
    assert r.total_ms.max == pytest.approx(230) and r.total_ms.p50 == pytest.approx(187, abs=11)
    assert r.beyond_ms.p50 == pytest.approx(20, abs=10.1)
    assert (r.beyond_ms.p95, r.beyond_ms.max) == (pytest.approx(30), pytest.approx(30))
    assert r.late_ms.max == pytest.approx(0, abs=1e-6)
    assert (r.frames.expected, r.frames.got, r.frames.missing) == (240, 240, 0)
    assert r.failings(231) == [] and r.failings(200) == ["p95 of 230 ms is over 200 ms"]


def test_the_warm_up_and_the_frames_that_only_the_end_completes_are_not_timed() -> None:
    log = log_of(LOAD, 100.0, 0.010)
    frames = timed_of_all(measured(LOAD, log))
    # 1 s of warm-up; of 120 frames the windows of the last three lack their sound.
    assert frames.at.min() == pytest.approx(1.0) and frames.at.max() == pytest.approx(116 / 30)
    assert len(frames.total) == 117 - 30


def test_a_chunk_that_was_sent_late_counts_against_the_loader() -> None:
    log = log_of(LOAD, 100.0, 0.010, late=0.025)
    r = report(measured(LOAD, log))
    assert r.beyond_ms is not None and r.beyond_ms.max == pytest.approx(10)
    assert r.total_ms is not None and r.total_ms.max == pytest.approx(235)
    assert r.loader_late and r.failings(236) == []
    assert r.failings(230)[-1] == "but the loader itself was late"
    assert "WARNING: the loader was late" in text(r)


def test_every_frame_that_is_not_there_is_counted_as_dropped_or_missing() -> None:
    log = log_of(LOAD, 100.0, 0.010)
    for column in (log.firsts, log.counts, log.arrived):
        del cast("array[Any]", column)[4:7]
    log.dropped["overload"] = 6
    r = report(measured(LOAD, log))
    assert (r.frames.expected, r.frames.got, r.frames.missing) == (120, 111, 3)
    assert r.failings() == ["6 frames dropped", "3 frames missing"]
    assert "6 (overload 6) dropped, 3 missing" in text(r)


def test_refused_and_lost_streams_and_errors_are_told() -> None:
    refused, lost = Log(1, refused="full"), Log(2, lost="it broke")
    log = log_of(LOAD, 100.0, 0.010)
    log.errors["too_fast"] = 2
    r = report(measured(replace(LOAD, streams=3), log, refused, lost))
    assert r.failings() == ["1 refused", "1 streams lost", "2 errors"]
    assert "lost, 1 x: it broke" in text(r) and "too_fast 2" in text(r)


def test_a_stream_without_its_end_is_told_with_what_it_lacks() -> None:
    log = log_of(LOAD, 100.0, 0.010)
    log.unfinished = True
    for column in (log.firsts, log.counts, log.arrived):
        del cast("array[Any]", column)[-5:]
    r = report(measured(LOAD, log))
    assert r.failings() == ["1 streams unfinished", "15 frames missing"] and not r.lost


def test_a_run_without_frames_has_no_latency_and_does_not_hold() -> None:
    r = report(measured(LOAD, Log(0, lost="gone")))
    assert r.total_ms is None and r.failings(1000)[-1] == "no frame was timed"


def test_the_servers_own_use_is_told_and_the_token_is_not() -> None:
    url = "ws://me:secret@127.0.0.1/?token=secret"
    load = replace(LOAD, token="secret", url=url)
    use = ServerUse(0.5, {0: 2**20, -1: 3 * 2**20})
    r = report(measured(load, log_of(load, 100.0, 0.01), use=use))
    assert "server 50.0 %; server's memory 1.0 MiB at 0 s, 3.0 MiB at the end" in text(r)
    told = json.dumps(as_json(r))
    assert "secret" not in told and json.loads(told)["load"]["streams"] == 1
    assert json.loads(told)["load"]["url"] == "ws://127.0.0.1/"
    assert Door.of(load).where == "ws://127.0.0.1/v1/stream"


@pytest.mark.parametrize("said", [b"HTTP/1.1 what 200\r\n\r\n", b"HTTP/1.1 200 OK\r\n"
                                  b"Content-Length: 99\r\n\r\nshort"])  # fmt: skip
def test_metrics_that_are_none_end_no_measurement(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(9999))
                connection.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"ws://me:p%40ss@127.0.0.1:{server.getsockname()[1]}/"
        assert read_once(replace(LOAD, url=url)) is None
        answering.join(10)
    assert b"Authorization: Basic " + base64.b64encode(b"me:p@ss") in heard[0]


def test_streams_that_were_refused_are_the_exit_code_without_a_bound_too() -> None:
    server = start_server("--engine", "synthetic", "--max-sessions", "1")
    try:
        options = ["--url", server.url, "--streams", "2", "--seconds", "1.5", "--warmup", "0"]
        assert loadtest(*options) == 1
    finally:
        stop_server(server)


@given(
    holds=st.integers(0, 3000), first=st.integers(1, 300), most=st.sampled_from([300, 1000, 2048])
)
def test_the_search_finds_the_most_that_hold_and_tries_nothing_twice(
    holds: int, first: int, most: int
) -> None:
    tried: list[int] = []

    def trial(count: int) -> bool:
        assert 1 <= count <= most
        tried.append(count)
        return count <= holds

    found = most_that_hold(trial, first, most)
    wanted = min(holds, most)
    assert found <= wanted <= found + max(1, found // 32) - (found < 64)
    assert found == 0 or found in tried
    assert len(tried) == len(set(tried)) <= 24


# The server's own figures

METRICS = """# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.5e+08
process_cpu_seconds_total 12.25
kfusion_streams 3.0
"""


def test_the_metrics_tell_cpu_and_memory_or_nothing() -> None:
    reading = from_metrics(METRICS, 5.0)
    assert reading is not None
    assert (reading.at, reading.cpu_s, reading.memory_bytes) == (5.0, 12.25, 150_000_000)
    assert from_metrics("kfusion_streams 3.0\n", 5.0) is None


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads Linux's /proc")
def test_a_process_whose_name_has_brackets_is_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    numbers = " ".join(["S", *map(str, range(4, 53))])
    (tmp_path / "7" / "stat").write_text(f"7 (a) b) {numbers}\n")
    (tmp_path / "7" / "status").write_text("Name:\ta\nVmRSS:\t    2048 kB\n")
    reading = from_proc(7, 0.0, tmp_path)
    assert reading is not None and reading.memory_bytes == 2**21
    assert reading.cpu_s == pytest.approx(29 / 100)  # fields 14 and 15 of proc(5), 100 ticks a s
    assert from_proc(8, 0.0, tmp_path) is None


# One stream


class Recorder(asyncio.Transport):
    """A transport that keeps what is written; what is read is fed by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


def ready_text() -> str:
    return wire.encode(
        wire.ready(
            wire.Start(), session="s", resume="t", model=wire.Model("m", "0"), emotion={},
            identity=None, limits=wire.Limits(),
        )
    )  # fmt: skip


def block(first: int, count: int) -> bytes:
    values = np.zeros((count, 136), np.float32)
    return wire.encode_frames(wire.FrameBlock("points", first, 0, values))


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


SAID = [
    frame(Opcode.PING, b"are you there"),
    frame(Opcode.BINARY, block(0, 3)),
    frame(Opcode.BINARY, block(3, 3)[:700], fin=False),
    frame(Opcode.PING, b""),
    frame(Opcode.CONT, block(3, 3)[700:]),
    frame(Opcode.TEXT, b'{"type": "news", "of": "a later version"}'),
    frame(Opcode.TEXT, wire.encode(wire.Dropped(6, 2, "overload")).encode()),
    frame(Opcode.TEXT, wire.encode(wire.Frame(8, 8 / 30, [0.5] * 136)).encode()),
    frame(Opcode.BINARY, block(9, 200)),  # a length of 64 bits
    frame(Opcode.TEXT, wire.encode(wire.Error("too_fast", "held", False)).encode()),
    frame(Opcode.BINARY, block(300, 1)),
    frame(Opcode.TEXT, wire.encode(wire.End(207, 2, 7.0)).encode()),
    frame(Opcode.CLOSE, b"\x03\xe8"),
]


def opened_stream() -> tuple[Stream, Recorder]:
    """A stream that has its ``ready``; what it wrote until then is forgotten."""
    (part,) = parts_of(LOAD, [SOUND])
    stream, transport = Stream(Door.of(LOAD), part, messages_of(SOUND), SOUND, 16_000), Recorder()
    stream.connection_made(transport)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", transport.written)
    assert key is not None
    accept = accept_key(key[1].decode())
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: kfusion.v1\r\n\r\n"
    )
    answer = head.encode() + frame(Opcode.TEXT, ready_text().encode())
    for k in range(0, len(answer), 100):
        stream.data_received(answer[k : k + 100])
    assert stream.state is State.OPEN and stream.opened.done()
    transport.written = b""
    return stream, transport


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=60))
def test_a_stream_hears_the_same_however_the_bytes_come(sizes: list[int]) -> None:
    async def heard() -> tuple[Log, State, bytes]:
        stream, transport = opened_stream()
        data, k = b"".join(SAID), 0
        while data:
            size = sizes[k % len(sizes)]
            stream.data_received(data[:size])
            data, k = data[size:], k + 1
        return stream.log, stream.state, transport.written

    log, state, written = asyncio.run(heard())
    assert list(zip(log.firsts, log.counts, strict=True)) == [
        (0, 3), (3, 3), (8, 1), (9, 200), (300, 1)
    ]  # fmt: skip
    assert log.dropped == {"overload": 2} and log.errors == {"too_fast": 1, "out_of_order": 1}
    assert (state, log.lost) == (State.DONE, None)
    assert [written[0], written[19], written[25]] == [0x8A, 0x8A, 0x88]  # two pongs and a close


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (frame(Opcode.BINARY, b"KFL1"), "a header of 24"),
        (frame(Opcode.BINARY, b"KFL2" + block(0, 1)[4:]), "wanted points of frames"),
        (frame(Opcode.BINARY, block(0, 3)[:-4]), "wanted points of frames"),
        (frame(Opcode.TEXT, b"{}"), "from the server"),
        (Frame(Opcode.PING, b"").serialize(mask=True), "a masked frame"),
        (frame(Opcode.TEXT, wire.encode(wire.Error("idle", "silent", True)).encode()), "silent"),
    ],
)
def test_what_is_no_stream_is_lost_and_why(wrong: bytes, says: str) -> None:
    async def heard() -> tuple[Stream, Recorder]:
        stream, transport = opened_stream()
        stream.data_received(wrong + frame(Opcode.BINARY, block(0, 3)))
        return stream, transport

    stream, transport = asyncio.run(heard())
    assert stream.state is State.LOST and transport.aborted
    assert says in str(stream.log.lost) and not stream.log.firsts


def test_a_stream_says_its_chunks_when_they_are_spoken_and_then_the_end() -> None:
    async def spoken() -> tuple[Stream, bytes]:
        stream, transport = opened_stream()
        wheel = Wheel()
        stream.begin(wheel.loop.time(), 16_000 // 10)
        wheel.add(stream)
        async with asyncio.timeout(5):
            while stream.state is State.OPEN:  # noqa: ASYNC110 (it has nothing else to tell)
                await asyncio.sleep(0.01)
        return stream, transport.written

    stream, written = asyncio.run(spoken())
    assert list(stream.log.positions) == [320, 640, 960, 1280, 1600]
    late = np.array(stream.log.sent) - stream.log.start - np.arange(1, 6) * 0.02
    assert late.min() >= 0
    assert len(written) == 5 * (8 + 640) + 6 + len(wire.encode(wire.EndOfAudio()))


# Real servers


def loadtest(*options: str) -> int:
    return main(["loadtest", *options])


def test_every_frame_comes_and_is_timed(
    synthetic_server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    out, plot = tmp_path / "o.json", tmp_path / "o.png"
    status = loadtest(
        "--url", synthetic_server.url, "--streams", "3", "--seconds", "2", "--warmup", "0.5",
        "--rate", "48000", "--bound-ms", "5000", "--json", str(out), "--plot", str(plot),
        "--server-pid", str(synthetic_server.process.pid),
    )  # fmt: skip
    said = capsys.readouterr().out
    assert status == 0 and said.endswith("5000 ms: held\n"), said
    told = json.loads(out.read_text())
    assert told["frames"] == {"expected": 180, "got": 180, "dropped": {}, "missing": 0}
    assert told["total_ms"]["count"] == 3 * (60 - 15 - 6)  # all but the warm-up and what end gives
    # The least that a frame can wait: it is the last of its hop, and look-ahead follows it.
    assert told["total_ms"]["p50"] > 133 and 0 < told["beyond_ms"]["p50"] < told["total_ms"]["p50"]
    assert 0 < told["loader_cpu"] < 2 and 0 <= told["server_cpu"] < 2
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")
    assert sorted(tmp_path.iterdir()) == [out, plot]


@pytest.mark.parametrize(
    "options",
    [
        ["--processes", "2", "--encoding", "json", "--starts", "phase"],
        ["--no-ramp", "--hop", "1", "--lookahead", "0", "--mode", "file", "--chunk-ms", "50"],
    ],
)
def test_other_ways_to_load_lose_no_frame_either(
    synthetic_server: RunningServer, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "o.json"
    common = ["--streams", "4", "--seconds", "1", "--warmup", "0.2", "--json", str(out)]
    assert loadtest("--url", synthetic_server.url, *common, *options) == 0
    told = json.loads(out.read_text())
    assert told["frames"] == {"expected": 120, "got": 120, "dropped": {}, "missing": 0}
    assert not told["errors"] and not told["lost"] and not told["refused"]


def test_a_bound_that_does_not_hold_is_the_exit_code(
    synthetic_server: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--seconds", "1", "--warmup", "0.2", "--bound-ms", "20"]
    assert loadtest("--url", synthetic_server.url, *options) == 1
    assert "is over 20 ms" in capsys.readouterr().out


def test_the_search_ends_where_the_server_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server("--engine", "synthetic", "--max-sessions", "3")
    out, plot = tmp_path / "o.json", tmp_path / "o.png"
    try:
        status = loadtest(
            "--url", server.url, "--find", "--seconds", "1", "--warmup", "0.2",
            "--bound-ms", "5000", "--json", str(out), "--plot", str(plot),
        )  # fmt: skip
    finally:
        stop_server(server)
    assert status == 0
    said = capsys.readouterr().out
    assert "4 streams: 1 refused" in said and "3 streams hold within 5000 ms" in said
    told = json.loads(out.read_text())
    assert told["streams"] == 3
    assert [t["load"]["streams"] for t in told["trials"]] == [1, 2, 4, 3]
    assert plot.read_bytes().startswith(b"\x89PNG\r\n")


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kfusion-client: ")
    return line


def test_a_server_that_dies_is_told_and_the_report_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server("--engine", "synthetic")
    over = threading.Event()

    def kill() -> None:
        """Once frames are being sent."""
        while not over.wait(0.05):
            with urllib.request.urlopen(f"{server.http}/metrics", timeout=5) as answer:
                sent = re.search(rb"^kfusion_frames_sent_total (\S+)", answer.read(), re.MULTILINE)
            if sent is not None and float(sent[1]) > 20:
                break
        server.process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    out = tmp_path / "o.json"
    try:
        options = ["--streams", "2", "--seconds", "30", "--json", str(out)]
        status = loadtest("--url", server.url, *options)
    finally:
        over.set()
        killer.join()
        stop_server(server)
    assert status == 2
    shown = capsys.readouterr()
    assert "all 2 streams: the connection closed after" in shown.err
    assert "2 lost" in shown.out
    assert sum(json.loads(out.read_text())["lost"].values()) == 2


@pytest.mark.asyncio
async def test_a_full_server_is_named_busy(capsys: pytest.CaptureFixture[str]) -> None:
    server = start_server("--engine", "synthetic", "--max-sessions", "1")
    try:
        async with connect(server.url):
            status = await asyncio.to_thread(loadtest, "--url", server.url, "--streams", "2")
    finally:
        await asyncio.to_thread(stop_server, server)
    assert status == 2
    assert "all 2 streams were refused" in one_line(capsys)


def test_a_wrong_token_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    server = start_server("--engine", "synthetic", "--token", "right")
    try:
        assert loadtest("--url", server.url, "--token", "wrong", "--streams", "2") == 2
        assert "token" in one_line(capsys)
        given_right = ["--token", "right", "--seconds", "1", "--warmup", "0.2"]
        assert loadtest("--url", server.url, *given_right) == 0
    finally:
        stop_server(server)


def test_where_nobody_listens_and_what_is_no_stream_are_named(
    synthetic_server: RunningServer, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loadtest("--url", f"ws://127.0.0.1:{unused_tcp_port}", "--streams", "3") == 2
    assert "is it running" in one_line(capsys)
    where = f"ws://127.0.0.1:{synthetic_server.port}/elsewhere"
    assert loadtest("--url", where, "--streams", "3", "--processes", "2") == 2
    assert "answered HTTP 404; wanted a KFusion stream" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--clip", "no.wav"], "no.wav: no such file"),
        (["--hop", "4"], "wanted 1, 2, 3, 5"),
        (["--seconds", "1"], "--warmup 2"),
        (["--json", "no/such/o.json"], "no file can be written there"),
        (["--streams", "9", "--most", "8"], "--most 8"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_opened(
    options: list[str], says: str, unused_tcp_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loadtest("--url", f"ws://127.0.0.1:{unused_tcp_port}", *options) == 2
    assert says in one_line(capsys)


def test_a_chart_without_matplotlib_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert loadtest("--plot", str(tmp_path / "o.png")) == 2
    assert "pip install matplotlib" in one_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.asyncio
async def test_a_server_that_never_ends_leaves_streams_unfinished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def deaf(ws: ServerConnection) -> None:
        await ws.recv()
        await ws.send(ready_text())
        async for _ in ws:
            pass

    monkeypatch.setattr("client.loadtest.workers.GRACE_S", 0.1)
    async with serve(deaf, "127.0.0.1", 0, subprotocols=[Subprotocol(wire.SUBPROTOCOL)]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        options = ["--url", f"ws://127.0.0.1:{port}", "--seconds", "0.5", "--warmup", "0"]
        assert await asyncio.to_thread(loadtest, *options) == 1
        assert await asyncio.to_thread(loadtest, *options, "--bound-ms", "300") == 1
    said = capsys.readouterr().out
    assert "0 lost, 1 unfinished" in said and "15 expected, 0 got, 0 dropped, 15 missing" in said
