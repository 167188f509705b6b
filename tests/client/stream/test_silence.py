"""The silence that a live stream sends when its source stops talking."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import Frame, connect
from client.stream.silence import SilenceFiller
from kfusion import wire
from tests.client.events import all_events, stacked_points
from tests.client.manual_clock import ManualClock, settle
from tests.client.memory_server import (
    MemoryServer,
    memory_transport,
    sent_samples,
    sent_silences,
)
from tests.conftest import voice

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
def test_silence_is_due_at_wake_at(rate: int, frames: int) -> None:
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


def test_audio_after_a_gap_is_preceded_by_the_rest_of_its_silence() -> None:
    filler = SilenceFiller(16_000, 6)
    filler.audio_sent(16_000, 0.0)
    assert filler.due(1.1) == 1_600
    before = filler.audio_sent(16_000, 1.15)
    assert before == 800
    assert filler.backlog_s(1.15) == pytest.approx(1.0)


def test_audio_that_is_sent_again_is_played_from_now_on_or_later() -> None:
    filler = SilenceFiller(16_000, 6)
    filler.audio_sent(32_000, 0.0)
    filler.audio_resent(16_000, 0.5)  # its time is still to come
    assert filler.backlog_s(0.5) == pytest.approx(1.5)
    filler.audio_resent(16_000, 4.0)
    assert filler.backlog_s(4.0) == pytest.approx(1.0)
    assert filler.wake_at() == pytest.approx(5.1)


def test_a_late_poll_is_no_gap_in_speech() -> None:
    filler = SilenceFiller(16_000, 6)
    filler.audio_sent(1_600, 0.0)
    assert filler.due(3.0) == 0  # the loop stood still: sound may be waiting
    assert filler.audio_sent(16_000, 3.01) == 0
    filler.due(9.0)
    assert filler.due(filler.wake_at()) > 0  # after a second look it is a gap


# In a stream


@pytest.mark.asyncio
async def test_a_push_source_that_stops_gets_all_its_frames_and_marks() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        await face.send(voice(1.0))  # all at once, spoken until 101.0
        await face.mark("spoken")
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
async def test_a_late_mark_is_answered_although_no_audio_is_sent() -> None:
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
async def test_files_and_streams_without_fill_silence_get_none(options: dict[str, Any]) -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock, **options) as face:
        await face.send(voice(0.5))
        await clock.advance(5.0)
        await face.send(voice(0.5))
        assert sent_silences(transport) == []


@pytest.mark.asyncio
async def test_nothing_is_sent_before_the_first_sound_or_after_the_end() -> None:
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
async def test_more_audio_than_a_server_holds_waits() -> None:
    clock = ManualClock()
    server = MemoryServer(clock=clock.now)
    transport = memory_transport(server)
    async with connect("memory", transport=transport, clock=clock) as face:
        sending = asyncio.create_task(face.send(bytes(2 * 90 * 16_000)))
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
async def test_a_reset_does_not_wait_for_unsent_audio() -> None:
    clock, transport = ManualClock(), memory_transport()
    async with connect("memory", transport=transport, clock=clock) as face:
        first = asyncio.create_task(face.send(bytes(2 * 180 * 16_000)))
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
        await face.send(voice(1.0))  # later audio is sent whole, at once
        assert sent_samples(transport) == 61 * 16_000
