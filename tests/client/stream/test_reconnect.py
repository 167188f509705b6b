"""Lost connections: what is sent again, and what ends a stream."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Backoff, Face, Frame, Reconnecting, Resumed, connect
from client.stream.memory import Answer, MemoryTransport
from client.stream.resend_queue import ResendQueue
from client.stream.transport import Closed, Transport
from kfusion import wire
from kfusion.errors import (
    BadMessage,
    Busy,
    ConnectionLost,
    KFusionError,
    Unauthorized,
    UnknownSession,
    WireError,
)
from tests.client.cut_connections import NO_WAIT, CutConnections, RefusingServer
from tests.client.events import (
    all_events,
    frame_numbers,
    of_type,
    offline,
    stacked_points,
    without_connections,
)
from tests.client.manual_clock import ManualClock, settle
from tests.client.memory_server import MemoryServer, sent_samples, sent_silences
from tests.client.scripts import ACTIONS, CUTS, Script, run_script
from tests.conftest import voice

RATE = 16_000


# The waits


def test_waits_double_up_to_the_longest_and_chance_only_shortens_them() -> None:
    backoff = Backoff()
    assert [backoff.wait(k, 0.0) for k in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [backoff.wait(k, 1.0) for k in (1, 2, 9)] == [0.1, 0.2, 2.5]
    assert backoff.wait(10**9, 0.0) == 5.0


# Files


@given(
    st.lists(ACTIONS, max_size=14), st.integers(2, 12), CUTS, st.integers(1, 6),
    st.sampled_from(["json", "binary"]), st.sampled_from([("points",), get_args(wire.Output)]),
)  # fmt: skip
def test_lost_connections_change_no_event(
    script: Script, first: int, cuts: list[tuple[int, int]], capacity: int, encoding: str,
    outputs: tuple[str, ...],
) -> None:  # fmt: skip
    options: dict[str, Any] = {
        "mode": "file", "encoding": encoding, "outputs": outputs, "life": 1.0,
    }  # fmt: skip
    cut = CutConnections(cuts=[(first, first), *cuts], capacity=capacity)
    expected = asyncio.run(run_script(script, CutConnections(), **options))
    events = asyncio.run(run_script(script, cut, **options))
    assert without_connections(events) == without_connections(expected)
    for frame, other in zip(of_type(Frame, events), of_type(Frame, expected), strict=True):
        for name in outputs:
            np.testing.assert_array_equal(getattr(frame, name), getattr(other, name))
    # The server repeats everything but errors.
    assert len(of_type(wire.Error, events)) <= len(of_type(wire.Error, expected))


@pytest.mark.asyncio
@pytest.mark.parametrize("answers", [1, 2, 3, 4])  # of: dropped, mark a, mark b, reset
async def test_marks_that_a_reset_passed_over_come_once_after_a_loss_between_them(
    answers: int,
) -> None:
    script: Script = [("sound", 301), ("mark", "a"), ("mark", "b"), ("sound", 233), ("reset",)]
    events = await run_script(script, CutConnections(cuts=[(100, 1 + answers)]), mode="file")
    assert len(of_type(Resumed, events)) == 1
    assert without_connections(events) == [
        wire.Dropped(0, 2, "reset"), wire.MarkReached("a", 1), wire.MarkReached("b", 1),
        wire.ResetDone(2, 534), wire.End(0, 2, 534 / RATE),
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_the_events_of_a_lost_connection() -> None:
    connections = CutConnections(cuts=[(2, 3), (0, 0)])
    events = await run_script([("sound", 16_000)], connections, mode="file")
    first, second = of_type(Reconnecting, events)
    (resumed,) = of_type(Resumed, events)
    assert (first.attempt, second.attempt) == (1, 2)
    assert "after 6 frames, before the end (code 1006)" in first.why
    assert "the new connection closed too (1006" in second.why
    assert (resumed.attempts, resumed.silence) == (2, 0)
    assert frame_numbers(events[: events.index(first)]) == list(range(6))


@pytest.mark.asyncio
async def test_a_file_goes_no_further_ahead_of_its_frames_than_it_can_send_again() -> None:
    def without_frames(message: str | bytes) -> Iterator[Answer]:
        if not isinstance(message, bytes):
            yield from MemoryServer(resume_s=30)(message)

    async def opener() -> Transport:
        opened.append(MemoryTransport(without_frames))
        return opened[-1]

    opened: list[MemoryTransport] = []
    async with connect("memory", transport=opener, mode="file") as face:
        sending = asyncio.create_task(face.send(voice(60.0)))
        for _ in range(300):
            await asyncio.sleep(0)
        assert not sending.done()
        assert sent_samples(opened[0]) == 35 * RATE == face.stream.samples
        sending.cancel()


# Live streams, with a clock that the test moves


@asynccontextmanager
async def live(**options: Any) -> AsyncGenerator[tuple[ManualClock, Face, CutConnections]]:
    clock, connections = ManualClock(), CutConnections()
    async with connect(
        "memory", transport=connections, clock=clock, reconnect=Backoff(jitter=0.0), **options
    ) as face:
        yield clock, face, connections


async def speak_live(clock: ManualClock, face: Face, seconds: float) -> None:
    """As a microphone: 20 ms at a time, when they are over."""
    for _ in range(round(seconds / 0.02)):
        await clock.advance(0.02)
        await face.send(voice(0.02))


@pytest.mark.asyncio
async def test_a_microphone_sends_silence_for_lost_audio() -> None:
    async with live() as (clock, face, connections):
        await speak_live(clock, face, 1.0)
        connections.cut()
        await speak_live(clock, face, 0.1)  # the connection is back after 0.2 s
        assert len(connections.opened) == 1
        await speak_live(clock, face, 0.9)
        await face.end()
        events = await all_events(face)
        first, second = connections.opened
        assert sent_samples(first) == RATE
        (resumed,) = of_type(Resumed, events)
        assert resumed.silence + sent_samples(second) == RATE == face.stream.samples - RATE
        assert resumed.silence / RATE == pytest.approx(resumed.away_s, abs=0.021) == 0.2
        assert sent_silences(second) == [resumed.silence]
    assert frame_numbers(events) == list(range(60))
    assert (face.stream.frames, events[-1]) == (60, wire.End(60, 0, 2.0))


@pytest.mark.asyncio
async def test_a_live_stream_resends_speech_that_is_still_to_be_played() -> None:
    async with live(format="f32le") as (clock, face, connections):
        connections.opened[0].abort()  # before any of it has arrived
        await face.send(voice(3.0))
        await clock.advance(1.0)
        await face.end()
        events = await all_events(face)
    (resumed,) = of_type(Resumed, events)
    assert resumed.silence == pytest.approx(0.2 * RATE, abs=0.011 * RATE)
    expected = voice(3.0)
    expected[: resumed.silence] = 0
    np.testing.assert_allclose(stacked_points(events), offline(expected), atol=1e-4)


@pytest.mark.asyncio
async def test_a_live_stream_with_resend_resends_all_audio() -> None:
    async with live(resend=True, format="f32le") as (clock, face, connections):
        await face.send(voice(1.0))
        connections.cut()
        sending = asyncio.create_task(face.send(voice(1.0)))
        await clock.advance(0.1)
        assert not sending.done()  # it waits
        await clock.advance(0.2)
        await sending
        await clock.advance(5.0)
        silent = face.stream.samples - 2 * RATE
        assert silent == round((6 / 30 + 0.4) * RATE)  # sent since it was played
        await face.end()
        events = await all_events(face)
    assert [e.silence for e in of_type(Resumed, events)] == [0]
    expected = np.concatenate([voice(1.0), voice(1.0), np.zeros(silent, np.float32)])
    np.testing.assert_allclose(stacked_points(events), offline(expected), atol=1e-4)


@pytest.mark.asyncio
async def test_many_messages_wait_for_the_connection() -> None:
    async with live(fill_silence=False) as (clock, face, connections):
        reading = asyncio.create_task(all_events(face))
        connections.cut()
        await settle()
        for k in range(ResendQueue.MAX_MESSAGES):
            await face.mark(f"{k}")
        one_more = asyncio.create_task(face.mark("more"))
        await settle()
        assert not one_more.done()
        await clock.advance(1.0)
        await one_more
        await face.silence(RATE)
        await face.end()
        events = await reading
    marks = [e.id for e in of_type(wire.MarkReached, events)]
    assert marks == [*(f"{k}" for k in range(ResendQueue.MAX_MESSAGES)), "more"]


def no_answers(message: str | bytes) -> list[Answer]:
    return []


@pytest.mark.asyncio
async def test_a_connection_without_the_frames_that_are_due_counts_as_lost() -> None:
    async with live() as (clock, face, connections):
        face.connection.timeout_s = 0.05
        await speak_live(clock, face, 1.0)
        connections.opened[0].server = no_answers
        await face.send(voice(1.0))
        async with asyncio.timeout(20):
            while len(connections.opened) < 2:
                await clock.advance(0.1)
        await speak_live(clock, face, 1.0)
        await face.end()
        events = await all_events(face)
    assert "nothing came for 0.05 s" in of_type(Reconnecting, events)[0].why
    assert frame_numbers(events) == list(range(ceil(face.stream.samples * 30 / RATE)))


# What ends a stream


@pytest.mark.asyncio
async def test_closing_without_a_connection_is_immediate() -> None:
    async with asyncio.timeout(5):
        async with live() as (_, face, connections):
            connections.cut()
            await settle()
            await face.send(voice(1.0))
            await face.end()
            assert len(connections.opened) == 1
        with pytest.raises(ConnectionLost, match="closed here before its end"):
            await face.send(voice(1.0))
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.asyncio
async def test_a_stream_that_is_lost_for_good_ends_the_waiting_send() -> None:
    async with live(mode="file") as (clock, face, connections):
        connections.cut()
        connections.cuts = [(0, 0)] * 99
        await settle()
        sending = asyncio.create_task(face.send(voice(1.0)))
        await clock.advance(29.0, step=0.1)
        assert not sending.done()
        await clock.advance(2.0, step=0.1)
        with pytest.raises(ConnectionLost, match="no other one went on within 30 s"):
            await sending
        with pytest.raises(ConnectionLost, match=r"before the end \(code 1006\)"):
            async for _ in face.frames():
                pass
        assert len(connections.opened) == 1 + 5 + 4 + 1  # 0.2 ... 3.2 s, every 5 s, and a last one


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (UnknownSession("forgotten"), 4400, UnknownSession),
        (Unauthorized("who are you"), 1008, Unauthorized),
        (BadMessage("resume.next is 9"), 4400, BadMessage),
        (None, 4409, ConnectionLost),
        (None, 4400, ConnectionLost),
    ],
)
async def test_a_refused_resumption_ends_the_stream_with_its_error(
    error: WireError | None, code: int, kind: type[KFusionError]
) -> None:
    server = RefusingServer(error, code)
    connections = CutConnections(server)
    async with connect("memory", transport=connections, reconnect=NO_WAIT, mode="file") as face:
        await face.send(voice(0.5))
        connections.cut()
        with pytest.raises(kind, match=str(error) if error else f"code {code}"):
            async for _ in face.frames():
                pass
        with pytest.raises(kind):
            await face.mark("m")
    assert server.refused == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("has_error", [True, False])
async def test_a_busy_server_sets_the_time_of_the_next_attempt(has_error: bool) -> None:
    server = RefusingServer(Busy("all taken", 7) if has_error else None, 1013, "7", refusals=2)
    clock, connections = ManualClock(), CutConnections(server)
    async with connect("memory", transport=connections, clock=clock, mode="file") as face:
        await face.send(voice(0.5))
        connections.cut()
        await clock.advance(16.0, step=0.05)
        await face.end()
        events = await all_events(face)
    waits = [e.wait_s for e in of_type(Reconnecting, events)]
    assert waits[1:] == [7.0, 7.0]
    assert frame_numbers(events) == list(range(15))


@pytest.mark.asyncio
async def test_a_server_that_stays_busy_ends_the_stream_with_busy() -> None:
    clock, connections = ManualClock(), CutConnections(RefusingServer(Busy("all taken", 20), 1013))
    async with connect("memory", transport=connections, clock=clock, mode="file") as face:
        connections.cut()
        await clock.advance(25.0, step=0.05)
        with pytest.raises(Busy, match="all taken") as busy:
            await all_events(face)
    assert busy.value.retry_after_s == 20
    assert clock.now() < 130


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [1000, 1001, 1009, 4400, 4409])
async def test_a_final_close_code_ends_the_stream(code: int) -> None:
    connections = CutConnections()
    async with connect("memory", transport=connections) as face:
        connections.opened[0].feed(Closed(code, "a reason"))
        with pytest.raises(ConnectionLost, match=f"code {code}, a reason"):
            async for _ in face.frames():
                pass
    assert len(connections.opened) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("resume_s", "reconnect"), [(0, True), (30, False)])
async def test_without_resumption_a_lost_connection_ends_the_stream(
    resume_s: float, reconnect: bool
) -> None:
    connections = CutConnections(MemoryServer(resume_s))
    async with connect("memory", transport=connections, reconnect=reconnect) as face:
        await face.send(voice(1.0))
        connections.cut()
        with pytest.raises(ConnectionLost, match="before the end"):
            async for _ in face.frames():
                pass
        assert not face.stream.resend_queue.items
    assert len(connections.opened) == 1
