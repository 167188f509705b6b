"""connect(), sending and reading, against the server's session within the process."""

import asyncio
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from client import ConnectionOptions, Face, Frame, connect
from client.sdk import ConnectionKeywords
from client.stream.pcm import encode_pcm
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.errors import BadEmotion, BadIdentity, BadMessage, KFusionError
from kfusion.landmarks import NEUTRAL
from tests.client.events import all_events, frame_numbers, of_type, offline, stacked_points
from tests.client.manual_clock import settle
from tests.client.memory_server import memory_transport
from tests.conftest import voice

pytestmark = pytest.mark.asyncio


async def send_all(face: Face, seconds: float) -> None:
    await face.send(voice(seconds))
    await face.end()


@pytest.mark.parametrize(("encoding", "format_"), [("binary", "f32le"), ("json", "s16le")])
async def test_frames_are_those_of_the_offline_call(encoding: Any, format_: Any) -> None:
    options: Any = {"mode": "file", "encoding": encoding, "format": format_}
    async with connect("memory", transport=memory_transport(), **options) as face:
        await send_all(face, 1.7)
        frames = [frame async for frame in face.frames()]
    assert [f.n for f in frames] == list(range(51))
    assert all(f.t == f.n / 30 for f in frames)
    assert all(f.points.shape == (68, 2) and f.points.dtype == np.float32 for f in frames)
    assert all(f.arkit52 is None and f.vrm is None for f in frames)
    sound = decode_pcm(encode_pcm(voice(1.7), wire.AudioFormat(format=format_)), format_, 1)
    np.testing.assert_array_equal(stacked_points(frames), offline(sound))


async def test_start_carries_every_argument() -> None:
    transport = memory_transport()
    async with connect(
        "memory", transport=transport, rate=48_000, channels=2, format="f32le", hop=5,
        lookahead=0, mode="file", identity=2 * NEUTRAL + 7, emotion={"sad": 0.5},
        outputs=["vrm", "arkit52", "vrm"], life=0.5, seed=9,
    ) as face:  # fmt: skip
        assert (face.ready.hop, face.ready.lookahead) == (5, 0)
        assert list(face.ready.outputs) == ["points", "arkit52", "vrm"]
    assert isinstance(transport.sent[0], str)
    start = wire.parse_client(transport.sent[0])
    assert isinstance(start, wire.Start)
    assert start.audio == wire.AudioFormat(48_000, 2, "f32le")
    assert (start.mode, start.encoding, start.emotion) == ("file", "binary", {"sad": 0.5})
    assert (start.outputs, start.life, start.seed) == (("points", "vrm", "arkit52"), 0.5, 9)
    assert isinstance(start.identity, wire.IdentityPoints)
    np.testing.assert_allclose(start.identity.points, 2 * NEUTRAL + 7)


async def test_keywords_replace_connection_options() -> None:
    assert set(ConnectionKeywords.__annotations__) == {f.name for f in fields(ConnectionOptions)}
    used, unused = memory_transport(), memory_transport()
    options = ConnectionOptions(transport=unused, fill_silence=False)
    async with connect("memory", options=options, transport=used) as face:
        assert face.connection.transport is used
        assert not face.stream.fill_silence
    wrong: Any = {"resent": True}
    with pytest.raises(TypeError, match="resent"):
        async with connect("memory", **wrong):
            pass


async def test_marks_emotions_identities_and_resets_come_in_their_place() -> None:
    async with connect("memory", transport=memory_transport(), fill_silence=False) as face:
        await face.send(voice(1.0))
        await face.mark("one second")
        await face.set_emotion({"happy": 1.0}, ramp=0.0)
        await face.set_identity("big", 2 * NEUTRAL)
        await face.send(voice(1.0))
        await face.reset()
        await face.end()
        events = await all_events(face)
    at = {type(e): i for i, e in enumerate(events)}
    mark, emotion, identity, dropped, reset, end = (
        events[at[kind]]
        for kind in (
            wire.MarkReached, wire.EmotionSet, wire.IdentitySet, wire.Dropped, wire.ResetDone,
            wire.End,
        )
    )  # fmt: skip
    before_mark = frame_numbers(events[: at[wire.MarkReached]])
    assert (mark.id, mark.n, before_mark) == ("one second", 30, list(range(30)))
    assert (emotion.n, emotion.weights["happy"]) == (30, 1.0)
    first_big = next(e for e in events if isinstance(e, Frame) and e.n == identity.n)
    assert first_big.points[45, 0] - first_big.points[36, 0] > 1.8 * (NEUTRAL[45] - NEUTRAL[36])[0]
    assert dropped.reason == "reset"
    assert dropped.first + dropped.count == reset.n == 60
    assert end.frames + end.dropped == 60


async def test_frames_has_no_other_events_and_may_stop_and_go_on() -> None:
    async with connect("memory", transport=memory_transport(), mode="file") as face:
        await face.mark("a")
        await send_all(face, 0.5)
        numbers: list[int] = []
        async for frame in face.frames():
            numbers.append(frame.n)
            if frame.n == 4:
                break
        numbers += [frame.n async for frame in face.frames()]
    assert numbers == list(range(15))


@pytest.mark.parametrize("reads_meanwhile", [True, False])
async def test_a_long_file_is_sent_without_a_deadlock(reads_meanwhile: bool) -> None:
    async with (
        asyncio.timeout(25),
        connect("memory", transport=memory_transport(capacity=2), mode="file") as face,
        asyncio.TaskGroup() as tasks,
    ):
        sending = tasks.create_task(send_all(face, 30.0))
        if not reads_meanwhile:
            await sending
        assert [f.n async for f in face.frames()] == list(range(900))


async def test_sending_while_nothing_reads_fails_in_the_end() -> None:
    transport = memory_transport(capacity=2)
    async with asyncio.timeout(25), connect("memory", transport=transport, mode="file") as face:
        face.event_queue.max_frames = 100
        with pytest.raises(KFusionError, match=r"read face\.frames\(\) or face\.events\(\)"):
            while True:
                await face.send(voice(1.0))


async def test_a_slow_live_reader_loses_its_oldest_frames() -> None:
    async with connect("memory", transport=memory_transport(), fill_silence=False) as face:
        face.event_queue.max_frames = 20
        await send_all(face, 2.0)
        await settle()
        events = await all_events(face)
    assert events[0] == wire.Dropped(0, 40, "slow_reader")
    assert [frame.n for frame in of_type(Frame, events)] == list(range(40, 60))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hop": 4}, BadMessage, "wanted 1, 2, 3, 5, 6, 10, 15 or 30"),
        ({"hop": 30, "lookahead": 1}, BadMessage, "at most 30"),
        ({"rate": 7999}, BadMessage, "rate"),
        ({"emotion": {"joy": 1}}, BadEmotion, "joy"),
        ({"identity": NEUTRAL[:67]}, BadIdentity, "68 pairs"),
        ({"identity": ""}, BadIdentity, "empty id"),
        ({"outputs": ("visemes",)}, BadMessage, "outputs"),
        ({"outputs": "vrm"}, BadMessage, "outputs"),
        ({"life": 1.5}, BadMessage, "life"),
        ({"life": -0.1}, BadMessage, "life"),
        ({"seed": 1.5}, BadMessage, "seed"),
    ],
)
async def test_a_bad_option_is_refused_before_a_connection_is_opened(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    transport = memory_transport()
    with pytest.raises(error, match=message):
        async with connect("memory", transport=transport, **options):
            pass
    assert not transport.sent


async def test_a_bad_request_is_refused_at_once_and_never_sent() -> None:
    transport = memory_transport()
    async with connect("memory", transport=transport, fill_silence=False) as face:
        sent = len(transport.sent)
        with pytest.raises(BadEmotion, match="sum"):
            await face.set_emotion({"happy": 0.7, "sad": 0.7})
        with pytest.raises(BadMessage, match="ramp"):
            await face.set_emotion({"happy": 0.7}, ramp=-1)
        with pytest.raises(BadIdentity, match="68 pairs"):
            await face.set_identity("me", [(1, 2)])
        with pytest.raises(BadMessage, match="256"):
            await face.mark("x" * 257)
        with pytest.raises(BadMessage, match="0 or more"):
            await face.silence(-1)
        assert len(transport.sent) == sent
        await face.end()
        with pytest.raises(BadMessage, match="audio while the stream is ending"):
            await face.send(voice(0.1))
        with pytest.raises(BadMessage, match="mark while the stream is ending"):
            await face.mark("m")
