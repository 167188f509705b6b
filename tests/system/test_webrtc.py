"""Sessions over WebRTC: aiortc's own peer against a real server process."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray
from websockets.asyncio.client import connect

from kfusion.errors import BadOptions
from kfusion.landmarks import lip_gap
from tests.conftest import RunningServer, eventually, folder_of, usual_p95, voice

pytest.importorskip("aiortc", reason="aiortc is not installed")

from aiortc import RTCConfiguration, RTCPeerConnection

from server.transports.webrtc import PeerFactory
from tests.system.raw_client import stream_file
from tests.system.webrtc_peer import RATE, Call, Relay, call_again, calling, offer_of, on_loopback

pytestmark = [pytest.mark.asyncio, pytest.mark.live]
LATENCY_S = 0.2023  # hop 3, look-ahead 3, and the resampler's delay at 48 kHz


def correlation(said: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """At the best of a few lags, for an encoder delays and a first packet may be lost."""
    best = -1.0
    for lag in range(-2, 3):
        a, b = (said[lag:], true) if lag >= 0 else (said, true[-lag:])
        n = min(len(a), len(b))
        best = max(best, float(np.corrcoef(a[:n], b[:n])[0, 1]))
    return best


def speech() -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Real speech of 48 kHz, about 15 s, and the true gap between its speaker's lips."""
    sounds: list[NDArray[np.float32]] = []
    true: list[NDArray[np.float64]] = []
    for path in sorted(folder_of("grid_s1").glob("*.flac"))[:6]:
        points = np.load(path.with_suffix(".npz"))["points_q64"] / 64
        true.append(lip_gap(points))
        sound, rate = soundfile.read(path, dtype="float32")
        sound = soxr.resample(sound, rate, RATE)
        wanted = len(points) * RATE // 30
        sounds.append(np.pad(sound, (0, max(0, wanted - len(sound))))[:wanted])
    return np.concatenate(sounds).astype(np.float32), np.concatenate(true)


async def speak(call: Call, samples: int) -> dict[str, Any]:
    """Says all of it, hears the last frame, and gives the server's last word."""
    async with asyncio.timeout(20):
        await call.open.wait()
    await eventually(lambda: call.track.sent >= samples)
    await asyncio.sleep(0.2)  # the last of it is on its way
    await call.say(type="end")
    async with asyncio.timeout(10):
        end = await call.hear("end")
        await call.shut.wait()
    return end


@pytest.mark.data
@pytest.mark.parametrize("loss", [0.0, 0.05])
async def test_speech_comes_back_as_it_would_over_a_socket(
    server: RunningServer, loss: float
) -> None:
    sound, true = speech()
    over_socket = await stream_file(server, sound, audio={"rate": RATE})
    reference = correlation(lip_gap(over_socket.points), true)
    relay = Relay(loss, seed=3)
    await relay.open()
    async with calling(server.url, sound, relay) as call:
        end = await speak(call, len(sound))
    relay.close()
    if loss:
        assert 0.03 < relay.lost / (relay.lost + relay.passed) < 0.07
    assert end["dropped"] == 0
    assert len(call.frames) >= (0.99 if loss else 1.0) * end["frames"]
    late = call.latencies() - call.ready["latency_ms"] / 1000
    print(
        f"\nloss {loss:.0%}: {len(call.frames)} of {end['frames']} frames, 95 % within "
        f"latency_ms + {1000 * np.quantile(late, 0.95):.0f} ms"
    )
    assert usual_p95(late) < 0.15
    shown = sorted(call.frames)
    heard = lip_gap(np.stack([call.frames[n] for n in shown]))
    heard = np.interp(np.arange(end["frames"]), shown, heard)
    assert correlation(heard, true) == pytest.approx(reference, abs=0.05)


async def test_the_last_frames_come_over_a_long_way(synthetic_server: RunningServer) -> None:
    sound = voice(1.0, RATE)
    relay = Relay(delay=0.1)
    await relay.open()
    async with calling(synthetic_server.url, sound, relay, hop=15) as call:
        end = await speak(call, len(sound))
    relay.close()
    assert set(call.frames) == set(range(end["frames"]))


async def test_messages_hold_a_frame_and_the_one_before_it(
    synthetic_server: RunningServer,
) -> None:
    sound = voice(2.0, RATE)
    async with calling(synthetic_server.url, sound, outputs=["points", "arkit52"], hop=3) as call:
        await speak(call, len(sound))
    by_kind = {
        kind: [b for b in call.messages if b.output == kind] for kind in ("points", "arkit52")
    }
    for blocks in by_kind.values():
        assert (blocks[0].first, len(blocks[0].values)) == (0, 1)
        assert [b.first for b in blocks[1:]] == list(range(len(blocks) - 1))
        assert {len(b.values) for b in blocks[1:]} == {2}
        for before, after in pairwise(blocks):
            np.testing.assert_array_equal(before.values[-1], after.values[0])
    delivery = [
        at - (call.ready_at + block.clock_us / 1e6)
        for at, block in zip(call.arrived, call.messages, strict=True)
    ]
    print(f"\ndelivery of a message: {1000 * np.median(delivery):.1f} ms, median")
    assert np.median(delivery) < 0.02


async def test_words_go_over_the_socket(synthetic_server: RunningServer) -> None:
    sound = voice(2.5, RATE)
    async with calling(synthetic_server.url, sound) as call:
        await call.open.wait()
        await eventually(lambda: call.track.sent >= RATE // 2)
        await call.say(type="emotion", weights={"happy": 1.0})
        told = await call.hear("emotion")
        assert 10 <= told["n"] <= 40
        await call.say(type="mark", id="here")
        assert (await call.hear("mark"))["id"] == "here"
        await call.say(type="reset")
        reset = await call.hear("reset")
        end = await speak(call, len(sound))
    assert reset["n"] in call.frames
    gone = {
        n
        for m in call.said
        if m["type"] == "dropped"
        for n in range(m["first"], m["first"] + m["count"])
    }
    assert gone | set(call.frames) == set(range(end["frames"] + end["dropped"]))


async def test_another_offer_takes_the_place_of_the_first(
    synthetic_server: RunningServer,
) -> None:
    sound = voice(1.0, RATE)
    async with calling(synthetic_server.url, sound) as call:
        await call.open.wait()
        await eventually(lambda: len(call.frames) >= 6)
        await call_again(call, call.ws, max(call.frames) + 20)


async def test_silence_over_the_socket_fills_a_pause_of_the_track_once(
    synthetic_server: RunningServer,
) -> None:
    sound = voice(1.0, RATE)
    async with calling(synthetic_server.url, sound) as call:
        await eventually(lambda: call.track.sent >= RATE)
        call.track.pause(RATE)
        await call.say(type="silence", samples=RATE)
        await call.say(type="mark", id="paused")
        paused = await call.hear("mark")
        await eventually(lambda: call.track.sent >= 3 * RATE)
        await asyncio.sleep(0.2)
        await call.say(type="end")
        end = await call.hear("end")
    assert paused["n"] == pytest.approx(60, abs=3)
    assert end["seconds"] == pytest.approx(call.track.sent / RATE, abs=0.1)


async def test_what_cannot_be_answered_is_said_and_the_session_lives(
    synthetic_server: RunningServer,
) -> None:
    on_loopback()
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("video")
    pc.createDataChannel("kfusion")
    video = await offer_of(pc)
    await pc.close()
    async with connect(synthetic_server.url) as ws:

        async def ask(message: dict[str, Any]) -> dict[str, Any]:
            await ws.send(json.dumps(message))
            return json.loads(await ws.recv())

        assert (await ask({"type": "start", "media": "webrtc"}))["type"] == "ready"
        for sdp, words in (
            (video, "video"),
            ("v=0", "no media"),
            ("\0" * 9, ""),
            ("x" * 70_000, "70000"),
        ):
            told = await ask({"type": "offer", "sdp": sdp})
            assert (told["code"], told["fatal"]) == ("bad_message", False)
            assert words in told["message"]
        for _ in range(6):
            told = await ask({"type": "offer", "sdp": "v=0"})
        assert "one a second" in told["message"]
        await ws.send(b"\0\0")
        told = json.loads(await ws.recv())
        assert "track" in told["message"]
        await ws.send(json.dumps({"type": "silence", "samples": 2 * RATE}))
        await ws.send(json.dumps({"type": "end"}))
        told = [json.loads(text) async for text in ws]
    # Nobody took the frames: they are told as dropped, each once.
    assert [m["type"] for m in told] == ["dropped", "end"]
    assert (told[-1]["frames"], told[-1]["dropped"]) == (0, 60)


async def test_a_file_is_refused(synthetic_server: RunningServer) -> None:
    async with connect(synthetic_server.url) as ws:
        await ws.send(json.dumps({"type": "start", "media": "webrtc", "mode": "file"}))
        told = json.loads(await ws.recv())
        assert told["fatal"] and "mode file" in told["message"]


async def test_a_resumed_session_calls_again(synthetic_server: RunningServer) -> None:
    sound = voice(1.0, RATE)
    async with calling(synthetic_server.url, sound) as call:
        await call.open.wait()
        await eventually(lambda: len(call.frames) >= 6)
        call.ws.transport.abort()
        wanted = max(call.frames) + 1
        async with connect(synthetic_server.url) as ws:
            resume = {"token": call.ready["resume"], "next": wanted}
            await ws.send(json.dumps({"type": "start", "resume": resume}))
            ready = json.loads(await ws.recv())
            assert (ready["type"], ready["n"]) == ("ready", wanted)
            await call_again(call, ws, wanted + 20)
    assert set(range(max(call.frames))) <= set(call.frames)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
async def test_nothing_is_left_of_a_call_that_is_over(synthetic_server: RunningServer) -> None:
    pid = synthetic_server.process.pid

    def counts() -> tuple[int, int]:
        threads, files = Path(f"/proc/{pid}/task"), Path(f"/proc/{pid}/fd")
        return len(list(threads.iterdir())), len(list(files.iterdir()))

    async def call_and_leave() -> None:
        async with calling(synthetic_server.url, voice(0.5, RATE)) as call:
            await eventually(lambda: len(call.frames) > 3)

    await call_and_leave()
    await asyncio.sleep(0.5)
    before = counts()
    for _ in range(3):
        await call_and_leave()
    await eventually(lambda: counts()[0] <= before[0] and counts()[1] <= before[1])


@pytest.mark.parametrize("server", ["http://x", "stun:a b", "turn:a b c d"])
async def test_an_ice_server_that_cannot_be_is_named(server: str) -> None:
    with pytest.raises(BadOptions, match="--ice-server"):
        PeerFactory(servers=(server,))


async def test_ice_servers_are_asked_only_where_they_are_given() -> None:
    assert PeerFactory().configuration.iceServers == []
    factory = PeerFactory(servers=("turn:host:3478 me secret",))
    (given,) = factory.configuration.iceServers or []
    assert (given.urls, given.username, given.credential) == ("turn:host:3478", "me", "secret")
