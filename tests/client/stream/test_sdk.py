"""The SDK against servers within the process, its silence, its bounds, and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client import Face, Frame, connect
from client.stream.event_queue import EventQueue
from client.stream.memory import Answer, MemoryTransport
from client.stream.pcm import chunks, encode_pcm
from client.stream.silence import SilenceFiller
from client.stream.state import ClientStream
from client.stream.transport import Closed
from client.stream.websocket import stream_url
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.errors import (
    BadAudio,
    BadEmotion,
    BadIdentity,
    BadMessage,
    Busy,
    ConnectionFailed,
    ConnectionLost,
    KFusionError,
    Unauthorized,
    WireError,
)
from kfusion.landmarks import NEUTRAL, lip_gap
from kfusion.runtime import Animator, SyntheticEngine
from tests.client.events import all_events, stacked_points
from tests.client.manual_clock import ManualClock, settle
from tests.client.memory_server import MemoryServer, memory_transport, sent_samples, sent_silences
from tests.conftest import RunningServer, start_server, stop_server, voice

# Connect, send, frames


@pytest.mark.asyncio
async def test_a_sent_sound_comes_back_as_the_frames_of_the_offline_call() -> None:
    sound = voice(1.7)
    async with connect("memory", transport=memory_transport(), mode="file", format="f32le") as face:
        await face.send(sound)
        await face.end()
        frames = [frame async for frame in face.frames()]
    offline = Animator(SyntheticEngine()).animate(sound, 16_000)
    assert [f.n for f in frames] == list(range(51))
    assert all(f.t == f.n / 30 for f in frames)
    assert all(f.points.shape == (68, 2) and f.points.dtype == np.float32 for f in frames)
    np.testing.assert_array_equal(np.stack([f.points for f in frames]), offline)


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_both_encodings_carry_the_same_numbers(encoding: Any) -> None:
    async with connect(
        "memory", transport=memory_transport(), mode="file", encoding=encoding
    ) as face:
        await face.send(voice(0.5))
        await face.end()
        faces = stacked_points(await all_events(face))
    sound = decode_pcm(encode_pcm(voice(0.5), wire.AudioFormat()), "s16le", 1)
    np.testing.assert_array_equal(faces, Animator(SyntheticEngine()).animate(sound, 16_000))


@pytest.mark.asyncio
async def test_what_was_asked_for_is_what_the_start_says() -> None:
    transport = memory_transport()
    async with connect(
        "memory", transport=transport, rate=48_000, channels=2, format="f32le", hop=5,
        lookahead=0, mode="file", identity=2 * NEUTRAL + 7, emotion={"sad": 0.5},
    ) as face:  # fmt: skip
        assert (face.ready.hop, face.ready.lookahead) == (5, 0)
    assert isinstance(transport.sent[0], str)
    start = wire.parse_client(transport.sent[0])
    assert isinstance(start, wire.Start)
    assert start.audio == wire.AudioFormat(48_000, 2, "f32le")
    assert (start.mode, start.encoding, start.emotion) == ("file", "binary", {"sad": 0.5})
    assert isinstance(start.identity, wire.IdentityPoints)
    np.testing.assert_allclose(start.identity.points, 2 * NEUTRAL + 7)


@pytest.mark.asyncio
async def test_frames_are_in_the_coordinates_of_the_identity() -> None:
    own = 3 * NEUTRAL + 1000
    async with connect("memory", transport=memory_transport(), mode="file", identity=own) as face:
        await face.silence(1600)
        await face.end()
        faces = stacked_points(await all_events(face))
    np.testing.assert_allclose(faces, np.broadcast_to(own, (3, 68, 2)), atol=1e-3)


@pytest.mark.asyncio
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
    frames_before = [e.n for e in events[: at[wire.MarkReached]] if isinstance(e, Frame)]
    mark = events[at[wire.MarkReached]]
    assert (mark.id, mark.n, frames_before) == ("one second", 30, list(range(30)))
    emotion, identity = events[at[wire.EmotionSet]], events[at[wire.IdentitySet]]
    assert emotion.n == 30
    assert emotion.weights["happy"] == 1.0
    first_big = next(e for e in events if isinstance(e, Frame) and e.n == identity.n)
    assert first_big.points[45, 0] - first_big.points[36, 0] > 1.8 * (NEUTRAL[45] - NEUTRAL[36])[0]
    dropped, reset, end = (events[at[kind]] for kind in (wire.Dropped, wire.ResetDone, wire.End))
    assert dropped.reason == "reset"
    assert dropped.first + dropped.count == reset.n == 60
    assert end.frames + end.dropped == 60


@pytest.mark.asyncio
async def test_frames_passes_over_what_is_no_frame() -> None:
    async with connect("memory", transport=memory_transport(), mode="file") as face:
        await face.mark("a")
        await face.send(voice(0.2))
        await face.end()
        assert [f.n async for f in face.frames()] == list(range(6))


@pytest.mark.asyncio
async def test_reading_may_stop_and_go_on() -> None:
    async with connect("memory", transport=memory_transport(), mode="file") as face:
        await face.send(voice(0.5))
        await face.end()
        seen: list[int] = []
        async for frame in face.frames():
            seen.append(frame.n)
            if frame.n == 4:
                break
        seen += [frame.n async for frame in face.frames()]
    assert seen == list(range(15))


@pytest.mark.asyncio
async def test_a_long_file_is_sent_and_read_at_once_without_a_deadlock() -> None:
    async with (
        asyncio.timeout(60),
        connect("memory", transport=memory_transport(capacity=2), mode="file") as face,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(say_all(face, voice(30.0)))
        assert [f.n async for f in face.frames()] == list(range(900))


@pytest.mark.asyncio
async def test_a_file_may_be_sent_whole_before_it_is_read() -> None:
    async with (
        asyncio.timeout(60),
        connect("memory", transport=memory_transport(capacity=2), mode="file") as face,
    ):
        await say_all(face, voice(30.0))
        assert len([f async for f in face.frames()]) == 900


async def say_all(face: Face, sound: NDArray[np.float32]) -> None:
    await face.send(sound)
    await face.end()


@pytest.mark.asyncio
async def test_sending_without_end_while_nobody_reads_fails_with_what_to_do() -> None:
    transport = memory_transport(capacity=2)
    async with asyncio.timeout(60), connect("memory", transport=transport, mode="file") as face:
        face.event_queue.max_frames = 100
        with pytest.raises(KFusionError, match=r"read face\.frames\(\) or face\.events\(\)"):
            while True:
                await face.send(voice(1.0))


@pytest.mark.asyncio
async def test_a_live_reader_that_is_slow_loses_its_oldest_frames_and_is_told() -> None:
    async with connect("memory", transport=memory_transport(), fill_silence=False) as face:
        face.event_queue.max_frames = 20
        await face.send(voice(2.0))
        await face.end()
        await settle()
        events = await all_events(face)
    assert events[0] == wire.Dropped(0, 40, "slow_reader")
    assert [e.n for e in events if isinstance(e, Frame)] == list(range(40, 60))


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 8))
def test_a_live_inbox_accounts_for_every_frame_in_order(doing: list[int], most: int) -> None:
    inbox, n, due = EventQueue(most, live=True), 0, 0
    for what in doing:
        if what == 0:
            event = inbox.pop()
            if isinstance(event, wire.Dropped):
                assert event.first == due
                due += event.count
            elif isinstance(event, Frame):
                assert event.n == due
                due += 1
        elif what == 1:
            inbox.put(wire.MarkReached("m", n))
        else:
            inbox.put(Frame(n, n / 30, NEUTRAL.astype(np.float32)))
            n += 1
        assert inbox.frames <= most


# Samples


@given(st.lists(st.floats(-2, 2, width=32), max_size=30))
def test_floats_arrive_clipped_and_within_half_a_step(values: list[float]) -> None:
    sound = np.array(values, np.float32)
    clipped = np.clip(sound, -1, 1)
    heard = decode_pcm(encode_pcm(sound, wire.AudioFormat()), "s16le", 1)
    np.testing.assert_allclose(heard, np.minimum(clipped, 32767 / 32768), atol=0.51 / 32768)
    exact = decode_pcm(encode_pcm(sound, wire.AudioFormat(format="f32le")), "f32le", 1)
    np.testing.assert_array_equal(exact, clipped)


@given(st.lists(st.integers(-32768, 32767), max_size=30))
def test_int16_samples_go_through_unchanged(values: list[int]) -> None:
    sound = np.array(values, np.int16)
    assert encode_pcm(sound, wire.AudioFormat()) == sound.astype("<i2").tobytes()


@pytest.mark.parametrize(
    ("samples", "channels", "says"),
    [
        (np.zeros(4, np.float32), 2, r"\(n, 2\)"),
        (np.zeros((4, 2), np.float32), 1, r"wanted \(n,\)"),
        (np.array([np.nan], np.float32), 1, "not finite"),
        (np.zeros(4, np.int32), 1, "int32"),
        (b"abc", 1, "multiple of 2"),
    ],
)
def test_samples_that_cannot_be_meant_are_refused(samples: Any, channels: Any, says: str) -> None:
    with pytest.raises(BadAudio, match=says):
        encode_pcm(samples, wire.AudioFormat(channels=channels))


def test_long_sound_is_split_into_messages_within_the_limit() -> None:
    audio = wire.AudioFormat(96_000, 2, "f32le")
    parts = list(chunks(np.zeros((300_001, 2), np.float32), audio))
    assert sum(p.samples for p in parts) == 300_001
    assert all(p.pcm is not None and len(p.pcm) < wire.MESSAGE_BYTES for p in parts)


# Errors


def fails(code: str, *, fatal: bool, retry: int | None = None) -> str:
    after = wire.UNSET if retry is None else retry
    return wire.encode(wire.Error(code, "said the server", fatal, after))


class Refusing:
    """A server that answers the start with an error and closes."""

    def __init__(self, error: str, code: int) -> None:
        self.error, self.code = error, code

    def __call__(self, message: str | bytes) -> Iterator[Answer]:
        yield self.error
        yield Closed(self.code, "why")


@pytest.mark.asyncio
async def test_a_busy_server_says_when_to_come_back() -> None:
    transport = MemoryTransport(Refusing(fails("busy", fatal=True, retry=7), 1013))
    with pytest.raises(Busy, match="said the server") as caught:
        async with connect("memory", transport=transport):
            pass
    assert caught.value.retry_after_s == 7


@pytest.mark.asyncio
async def test_a_refusal_is_raised_by_its_name() -> None:
    transport = MemoryTransport(Refusing(fails("unauthorized", fatal=True), 1008))
    with pytest.raises(Unauthorized, match="said the server"):
        async with connect("memory", transport=transport):
            pass


@pytest.mark.asyncio
async def test_a_refusal_that_came_before_the_start_was_sent_is_read() -> None:
    transport = memory_transport()
    transport.feed(fails("unauthorized", fatal=True))
    transport.closed = Closed(1008, "unauthorized")
    with pytest.raises(Unauthorized, match="said the server"):
        async with connect("memory", transport=transport):
            pass


@pytest.mark.asyncio
async def test_an_error_of_a_later_version_keeps_its_name() -> None:
    transport = MemoryTransport(Refusing(fails("out_of_tea", fatal=True), 4400))
    with pytest.raises(WireError, match="out_of_tea: said the server"):
        async with connect("memory", transport=transport):
            pass


@pytest.mark.asyncio
async def test_an_error_that_is_not_fatal_is_an_event_and_the_stream_goes_on() -> None:
    transport = memory_transport()
    async with connect("memory", transport=transport, fill_silence=False) as face:
        await face.set_identity("never put")
        await face.send(voice(0.5))
        await face.end()
        events = await all_events(face)
    assert [(e.code, e.fatal) for e in events if isinstance(e, wire.Error)] == [
        ("bad_identity", False)
    ]
    assert len(stacked_points(events)) == 15


@pytest.mark.asyncio
async def test_a_fatal_error_ends_reading_and_sending_with_its_name() -> None:
    transport = memory_transport()
    async with connect("memory", transport=transport, fill_silence=False) as face:
        await face.send(voice(0.5))
        transport.feed(fails("idle", fatal=True), Closed(4400))
        seen = 0
        with pytest.raises(WireError, match="said the server") as caught:
            async for _ in face.frames():
                seen += 1
        assert caught.value.code == "idle"
        assert seen == 12
        with pytest.raises(WireError) as again:
            await face.send(voice(0.1))
        assert again.value is caught.value


@pytest.mark.asyncio
async def test_a_lost_connection_has_a_name_and_the_frames_before_it_are_given() -> None:
    transport = memory_transport()
    async with connect("memory", transport=transport, fill_silence=False) as face:
        await face.send(voice(0.5))
        transport.feed(Closed(1006, "gone"))
        seen: list[int] = []
        with pytest.raises(ConnectionLost, match=r"after 12 frames, before the end.*1006, gone"):
            async for frame in face.frames():
                seen.append(frame.n)  # noqa: PERF401 - those before the error count
        assert seen == list(range(12))
        with pytest.raises(ConnectionLost):
            await face.mark("m")


@pytest.mark.asyncio
async def test_a_server_that_never_answers_is_given_up() -> None:
    def silent(message: str | bytes) -> list[Answer]:
        return []

    with pytest.raises(ConnectionFailed, match="no answer to start within"):
        async with connect("memory", transport=MemoryTransport(silent), open_timeout=0.01):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"hop": 4}, BadMessage, "wanted 1, 2, 3, 5, 6, 10, 15 or 30"),
        ({"hop": 30, "lookahead": 1}, BadMessage, "at most 30"),
        ({"rate": 7999}, BadMessage, "rate"),
        ({"emotion": {"joy": 1}}, BadEmotion, "joy"),
        ({"identity": NEUTRAL[:67]}, BadIdentity, "68 pairs"),
        ({"identity": ""}, BadIdentity, "empty id"),
    ],
)
async def test_a_bad_option_is_told_before_a_server_is_asked(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    transport = memory_transport()
    with pytest.raises(error, match=says):
        async with connect("memory", transport=transport, **options):
            pass
    assert not transport.sent


@pytest.mark.asyncio
async def test_what_cannot_be_asked_is_told_at_once_and_never_sent() -> None:
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
        with pytest.raises(BadMessage, match="ending"):
            await face.send(voice(0.1))


def ready() -> str:
    return next(iter(MemoryServer()(wire.encode(wire.Start()))))  # type: ignore[return-value]


def block(first: int, count: int) -> bytes:
    return wire.encode_frames(
        wire.FrameBlock("points", first, 0, np.zeros((count, 136), np.float32))
    )


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (block(1, 3), "frame 1 where 0 was due"),
        (wire.encode(wire.Dropped(5, 1, "overload")), "dropped 5 where 0 was due"),
        (ready(), "a second ready"),
        ("{", "from the server"),
        (b"KFL2" + bytes(24), "binary frames"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_told_apart(message: Any, says: str) -> None:
    stream = ClientStream(wire.Start(), fill_silence=False)
    stream.receive(ready())
    with pytest.raises(BadMessage, match=says):
        stream.receive(message)


def test_messages_of_a_later_version_are_passed_over() -> None:
    stream = ClientStream(wire.Start(), fill_silence=False)
    assert stream.receive(ready()) == []
    assert stream.receive('{"type":"weather","sun":true}') == []
    coefficients = wire.FrameBlock("arkit52", 0, 0, np.zeros((3, 52), np.float32))
    assert stream.receive(wire.encode_frames(coefficients)) == []
    assert [e.n for e in stream.receive(block(0, 2)) if isinstance(e, Frame)] == [0, 1]


def test_a_server_of_another_version_is_refused() -> None:
    stream = ClientStream(wire.Start(), fill_silence=False)
    with pytest.raises(BadMessage, match="different versions"):
        stream.receive(ready().replace('"protocol":1', '"protocol":2'))


# The silence of a source that stops talking


@pytest.mark.asyncio
async def test_a_push_source_that_stops_gets_all_its_frames_and_marks() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        await face.send(voice(1.0))  # all at once, spoken until 101.0
        await face.mark("said")
        await clock.advance(1.09)
        assert sent_silences(transport) == []
        await clock.advance(0.02)
        assert sum(sent_silences(transport)) == pytest.approx(1600, abs=170)
        await clock.advance(5.0)
        assert sum(sent_silences(transport)) == round((6 / 30 + 0.4) * 16_000)
        events: list[Any] = []
        while not any(isinstance(e, wire.MarkReached) for e in events):
            event = await face.next_event()
            events.append(event)
    assert len(stacked_points(events)) == 30
    assert len(sent_silences(transport)) >= 5


@pytest.mark.asyncio
async def test_a_late_mark_is_answered_although_nothing_is_said() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        await face.send(voice(0.5))
        await clock.advance(5.0)
        await face.mark("late")
        await clock.advance(1.0)
        await face.end()
        events = await all_events(face)
    at = next(i for i, e in enumerate(events) if isinstance(e, wire.MarkReached))
    assert any(isinstance(e, Frame) for e in events[at:])


@pytest.mark.asyncio
async def test_after_a_reset_time_runs_on_at_once() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        await face.send(voice(10.0))
        await clock.advance(1.0)
        await face.reset()
        await clock.advance(2.0)
        assert sum(sent_silences(transport)) == round((6 / 30 + 0.4) * 16_000)


@pytest.mark.asyncio
@pytest.mark.parametrize("options", [{"mode": "file"}, {"fill_silence": False}])
async def test_files_and_who_asks_for_none_get_no_silence(options: dict[str, Any]) -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock, **options) as face:
        await face.send(voice(0.5))
        await clock.advance(5.0)
        await face.send(voice(0.5))
        assert sent_silences(transport) == []


@pytest.mark.asyncio
async def test_nothing_is_owed_before_the_first_sound_or_after_the_end() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        await face.set_emotion({"happy": 1.0})
        await clock.advance(5.0)
        assert sent_silences(transport) == []
        await face.send(voice(0.5))
        await face.end()
        await clock.advance(5.0)
        assert sent_silences(transport) == []


@pytest.mark.asyncio
async def test_more_sound_than_a_server_holds_waits_for_its_time() -> None:
    clock = ManualClock()
    server = MemoryServer(clock=clock.now)
    transport = memory_transport(server)
    async with connect("memory", transport=transport, clock=clock) as face:
        sending = asyncio.create_task(face.send(voice(90.0)))
        await settle()
        for _ in range(200):
            await asyncio.sleep(0)
        assert sent_samples(transport) == 60 * 16_000
        await clock.advance(10.0, step=0.1)
        assert sent_samples(transport) == pytest.approx(70 * 16_000, abs=8_000)
        await clock.advance(21.0, step=0.1)
        assert sending.done()
        assert sent_samples(transport) == 90 * 16_000
    assert server.session.summary().errors == {}  # no errors: none of it was too fast


@pytest.mark.asyncio
async def test_a_reset_waits_for_no_sound_that_is_still_to_be_sent() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        first = asyncio.create_task(face.send(voice(180.0)))
        for _ in range(300):
            await asyncio.sleep(0)
        behind = [asyncio.create_task(face.send(voice(1.0))), asyncio.create_task(face.silence(9))]
        await settle()
        assert sent_samples(transport) == 60 * 16_000 and not first.done()
        resetting = asyncio.create_task(face.reset())
        await settle()
        assert all(task.done() for task in (resetting, first, *behind))
        assert sent_samples(transport) == 60 * 16_000 and sent_silences(transport) == []
        assert transport.sent[-1] == wire.encode(wire.Reset())
        await face.send(voice(1.0))  # what is said afterwards is whole, at once
        assert sent_samples(transport) == 61 * 16_000


RATES = st.sampled_from([8_000, 16_000, 44_100, 48_000])


@given(RATES, st.integers(1, 30), st.lists(st.floats(0.001, 0.15), min_size=1, max_size=60))
def test_silence_keeps_up_with_time_and_ends_at_its_limit(
    rate: int, frames: int, polls: list[float]
) -> None:
    filler = SilenceFiller(rate, frames)
    filler.audio_sent(rate // 2, 10.0)
    now, paid = 10.5, 0
    for wait in polls:
        now += wait
        due = filler.due(now)
        paid += due
        elapsed = now - 10.5
        assert paid <= round(min(elapsed, frames / 30 + 0.4) * rate)
        if elapsed < 0.1 - 1e-9:
            assert due == 0
        if due == 0 and filler.hold_until is None:
            assert min(elapsed, frames / 30 + 0.4) * rate - paid <= 0.1 * rate + 1


@given(RATES, st.integers(1, 30))
def test_silence_is_due_when_it_says_so(rate: int, frames: int) -> None:
    filler = SilenceFiller(rate, frames)
    filler.audio_sent(1, 0.0)
    total = 0
    for _ in range(40):
        at = filler.wake_at()
        if at == float("inf"):
            break
        assert filler.due(at - 1e-6) == 0
        total += filler.due(at)
    assert total == round((frames / 30 + 0.4) * rate)


def test_silence_for_a_gap_gives_back_the_time_of_the_gap() -> None:
    filler = SilenceFiller(16_000, 6)
    filler.audio_sent(16_000, 0.0)
    assert filler.due(1.1) == 1_600
    before = filler.audio_sent(16_000, 1.15)
    assert before == 800
    assert filler.backlog_s(1.15) == pytest.approx(1.0)


def test_sound_that_is_sent_again_is_spoken_from_now_on_or_later() -> None:
    filler = SilenceFiller(16_000, 6)
    filler.audio_sent(32_000, 0.0)
    filler.audio_resent(16_000, 0.5)  # its time is still to come
    assert filler.backlog_s(0.5) == pytest.approx(1.5)
    filler.audio_resent(16_000, 4.0)
    assert filler.backlog_s(4.0) == pytest.approx(1.0)
    assert filler.wake_at() == pytest.approx(5.1)


def test_our_own_stall_is_no_gap_in_speech() -> None:
    filler = SilenceFiller(16_000, 6)
    filler.audio_sent(1_600, 0.0)
    assert filler.due(3.0) == 0  # the loop stood still: sound may be waiting
    assert filler.audio_sent(16_000, 3.01) == 0
    filler.due(9.0)
    assert filler.due(filler.wake_at()) > 0  # after a second look it is a gap


def test_a_pause_shorter_than_a_tenth_of_a_second_is_left_alone() -> None:
    filler = SilenceFiller(16_000, 6)
    now = 0.0
    for _ in range(50):
        assert filler.audio_sent(320, now) == 0
        now += 0.02 + 0.09
        assert filler.due(now) == 0


# Transports


@pytest.mark.parametrize(
    ("given_url", "stream"),
    [
        ("ws://127.0.0.1:8765", "ws://127.0.0.1:8765/v1/stream"),
        ("wss://face.example/", "wss://face.example/v1/stream"),
        ("wss://face.example?token=a", "wss://face.example/v1/stream?token=a"),
        ("ws://host:1/behind/a/proxy", "ws://host:1/behind/a/proxy"),
    ],
)
def test_an_address_without_a_path_gets_the_protocols(given_url: str, stream: str) -> None:
    assert stream_url(given_url) == stream


@pytest.mark.parametrize(
    "url", ["http://host", "host:8765", "ws://", "ws://host:port", "ws://[::1", "ws://a..b"]
)
def test_what_is_no_address_is_refused_with_one_that_is(url: str) -> None:
    with pytest.raises(ConnectionFailed, match="wanted one like ws://"):
        stream_url(url)


@pytest.mark.asyncio
async def test_a_server_on_the_network_answers_as_its_session_in_memory(
    synthetic_server: RunningServer,
) -> None:
    sound = voice(12.0, rate=44_100)
    options: dict[str, Any] = {"mode": "file", "rate": 44_100, "emotion": {"happy": 0.4}}
    streams: list[list[Any]] = []
    for transport in (None, memory_transport()):
        async with (
            asyncio.timeout(60),
            connect(synthetic_server.url, transport=transport, **options) as face,
        ):
            await face.send(sound[:200_000])
            await face.mark("here")
            await face.send(sound[200_000:])
            await face.end()
            streams.append(await all_events(face))
    network, within = streams
    np.testing.assert_allclose(stacked_points(network), stacked_points(within), atol=1e-4)
    marks = [[(e.id, e.n) for e in s if isinstance(e, wire.MarkReached)] for s in streams]
    assert marks[0] == marks[1] == [("here", 137)]
    assert [s[-1] for s in streams] == [wire.End(360, 0, 12.0)] * 2


@pytest.mark.asyncio
@pytest.mark.live
async def test_a_live_utterance_at_a_real_server_is_whole_without_an_end(
    synthetic_server: RunningServer,
) -> None:
    async with asyncio.timeout(20), connect(synthetic_server.url) as face:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await face.send(voice(1.0))
        await face.mark("said")
        frames: list[Frame] = []
        async for event in face.events():
            if isinstance(event, Frame):
                frames.append(event)
            elif isinstance(event, wire.MarkReached):
                break
        assert len(frames) == 30
        assert loop.time() - began < 3.0
        assert lip_gap(np.stack([f.points for f in frames])).max() > 2


@pytest.mark.asyncio
async def test_a_server_that_wants_a_token_tells_who_has_none() -> None:
    server = start_server("--engine", "synthetic", "--token", "open sesame")
    try:
        with pytest.raises(Unauthorized):
            async with connect(server.url, token="guess"):
                pass
        async with connect(server.url, token="open sesame", mode="file") as face:
            await face.send(voice(0.2))
            await face.end()
            assert len([f async for f in face.frames()]) == 6
    finally:
        stop_server(server)


@pytest.mark.asyncio
async def test_where_nobody_listens_the_error_says_so(unused_tcp_port: int) -> None:
    with pytest.raises(ConnectionFailed, match=rf"127\.0\.0\.1:{unused_tcp_port}.*is it running"):
        async with connect(f"ws://127.0.0.1:{unused_tcp_port}"):
            pass
