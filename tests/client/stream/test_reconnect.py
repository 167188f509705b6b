"""Lost connections: what is kept and sent again, within the process and over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from math import ceil
from typing import Any

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
    ConnectionFailed,
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
from tests.client.memory_server import MemoryServer
from tests.client.scripts import ACTIONS, CUTS, IDENTITIES, Script, run_script
from tests.conftest import voice

RATE = 16_000


# The waits


def test_waits_double_up_to_the_longest_and_chance_only_shortens_them() -> None:
    backoff = Backoff()
    assert [backoff.wait(k, 0.0) for k in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [backoff.wait(k, 1.0) for k in (1, 2, 9)] == [0.1, 0.2, 2.5]
    assert backoff.wait(10**9, 0.0) == 5.0


# Within the process


@given(
    st.lists(ACTIONS, max_size=14), st.integers(2, 12), CUTS, st.integers(1, 6),
    st.sampled_from(["json", "binary"]),
)  # fmt: skip
def test_through_cut_connections_comes_what_comes_through_a_whole_one(
    script: Script, first: int, cuts: list[tuple[int, int]], capacity: int, encoding: str
) -> None:
    options: dict[str, Any] = {"mode": "file", "encoding": encoding}
    cut = CutConnections(MemoryServer(resume_s=30), [(first, first), *cuts], capacity)
    whole = asyncio.run(
        run_script(script, CutConnections(MemoryServer(resume_s=30), []), **options)
    )
    told = asyncio.run(run_script(script, cut, **options))
    assert without_connections(told) == without_connections(whole)
    if of_type(Frame, whole):
        np.testing.assert_allclose(stacked_points(told), stacked_points(whole), atol=1e-4)
    # An error is the one thing that a server does not tell again.
    assert len(of_type(wire.Error, told)) <= len(of_type(wire.Error, whole))


@pytest.mark.asyncio
async def test_marks_that_a_reset_passed_over_are_not_lost_with_the_connection() -> None:
    # The server answers the reset: dropped, mark a, mark b, reset; the third of them is the last.
    script: Script = [("sound", 9_000), ("mark", "a"), ("mark", "b"), ("reset",)]
    server = MemoryServer(resume_s=30)
    frames = 4  # blocks before them
    told = await run_script(script, CutConnections(server, [(100, 1 + frames + 2)]), mode="file")
    assert [type(e) for e in told if isinstance(e, Resumed)] == [Resumed]
    marks = [
        type(e) if not isinstance(e, wire.MarkReached) else e.id
        for e in without_connections(told)[12:]
    ]
    assert marks == [wire.Dropped, "a", "b", wire.ResetDone, wire.End]


@pytest.mark.asyncio
@pytest.mark.parametrize("answers", [1, 2, 3])  # of: dropped, mark, reset
async def test_a_mark_that_a_reset_passed_over_is_told_once(answers: int) -> None:
    script: Script = [("sound", 301), ("mark", "a"), ("sound", 233), ("reset",)]
    told = await run_script(
        script, CutConnections(MemoryServer(resume_s=30), [(100, 1 + answers)]), mode="file"
    )
    assert len(of_type(Resumed, told)) == 1
    assert without_connections(told) == [
        wire.Dropped(0, 2, "reset"), wire.MarkReached("a", 1), wire.ResetDone(2, 534),
        wire.End(0, 2, 534 / RATE),
    ]  # fmt: skip


@pytest.mark.asyncio
async def test_what_is_told_of_a_lost_connection() -> None:
    script: Script = [("sound", 16_000)]
    told = await run_script(
        script, CutConnections(MemoryServer(resume_s=30), [(2, 3), (0, 0)]), mode="file"
    )
    links: list[Any] = [e for e in told if isinstance(e, (Reconnecting, Resumed))]
    assert [type(e) for e in links] == [Reconnecting, Reconnecting, Resumed]
    assert [e.attempt for e in links[:2]] == [1, 2]
    assert "after 6 frames, before the end (code 1006)" in links[0].why
    assert "the new connection closed too (1006" in links[1].why
    assert (links[2].attempts, links[2].silence) == (2, 0)
    assert [e.n for e in told[:6] if isinstance(e, Frame)] == list(range(6))


@pytest.mark.asyncio
async def test_a_file_goes_no_further_ahead_of_its_frames_than_it_can_send_again() -> None:
    def deaf(message: str | bytes) -> Iterator[Answer]:
        if not isinstance(message, bytes):
            yield from MemoryServer(resume_s=30)(message)

    async def opener() -> Transport:
        opened.append(MemoryTransport(deaf))
        return opened[-1]

    opened: list[MemoryTransport] = []
    async with connect("memory", transport=opener, mode="file") as face:
        sending = asyncio.create_task(face.send(voice(60.0)))
        for _ in range(300):
            await asyncio.sleep(0)
        assert not sending.done()
        sound = sum(len(m) // 2 for m in opened[0].sent if isinstance(m, bytes))
        assert sound == 35 * RATE == face.stream.samples
        sending.cancel()


# Live, with a clock that the test turns


@asynccontextmanager
async def live(**options: Any) -> AsyncGenerator[tuple[ManualClock, Face, CutConnections]]:
    clock, cables = ManualClock(), CutConnections(MemoryServer(resume_s=30), [])
    async with connect(
        "memory", transport=cables, clock=clock, reconnect=Backoff(jitter=0.0), **options
    ) as face:
        yield clock, face, cables


async def speak(clock: ManualClock, face: Face, seconds: float) -> None:
    """As a microphone: 20 ms at a time, when they are over."""
    for _ in range(round(seconds / 0.02)):
        await clock.advance(0.02)
        await face.send(voice(0.02))


@pytest.mark.asyncio
async def test_a_microphone_sends_silence_for_what_was_missed_and_nothing_again() -> None:
    async with live() as (clock, face, cables):
        await speak(clock, face, 1.0)
        cables.cut()
        await speak(clock, face, 0.1)  # the connection is back after 0.2 s
        assert len(cables.opened) == 1
        await speak(clock, face, 0.9)
        await face.end()
        events = await all_events(face)
        first, second = cables.opened
        assert sum(len(m) // 2 for m in first.sent if isinstance(m, bytes)) == RATE
        (resumed,) = of_type(Resumed, events)
        heard = sum(len(m) // 2 for m in second.sent if isinstance(m, bytes))
        assert resumed.silence + heard == RATE == face.stream.samples - RATE
        assert resumed.silence / RATE == pytest.approx(resumed.away_s, abs=0.021) == 0.2
        silences = [wire.parse_client(m) for m in second.sent if isinstance(m, str)][1:-1]
        assert silences == [wire.Silence(resumed.silence)]
    assert frame_numbers(events) == list(range(60))
    assert (face.stream.frames, events[-1]) == (60, wire.End(60, 0, 2.0))


@pytest.mark.asyncio
async def test_words_said_meanwhile_come_in_their_place_in_time() -> None:
    async with live() as (clock, face, cables):
        await speak(clock, face, 1.0)
        cables.cut()
        await speak(clock, face, 0.06)
        await face.set_emotion({"happy": 1.0})
        await face.mark("here")
        await speak(clock, face, 0.06)
        await face.set_identity("me", IDENTITIES["me"])
        await speak(clock, face, 0.5)
        await face.end()
        events = await all_events(face)
    assert [(e.weights["happy"], e.n) for e in of_type(wire.EmotionSet, events)] == [(1.0, 32)]
    assert of_type(wire.MarkReached, events) == [wire.MarkReached("here", 32)]
    assert [e.id for e in of_type(wire.IdentitySet, events)] == ["me"]
    assert frame_numbers(events) == list(range(ceil(1.62 * 30)))


@pytest.mark.asyncio
async def test_of_ready_made_speech_what_is_still_to_be_spoken_is_sent_again() -> None:
    async with live(format="f32le") as (clock, face, cables):
        cables.opened[0].abort()  # before any of it has arrived
        await face.send(voice(3.0))
        await clock.advance(1.0)
        await face.end()
        events = await all_events(face)
    (resumed,) = of_type(Resumed, events)
    assert resumed.silence == pytest.approx(0.2 * RATE, abs=0.011 * RATE)
    wanted = voice(3.0)
    wanted[: resumed.silence] = 0
    np.testing.assert_allclose(stacked_points(events), offline(wanted), atol=1e-4)


@pytest.mark.asyncio
async def test_all_of_it_is_sent_again_where_that_is_asked_for() -> None:
    async with live(resend=True, format="f32le") as (clock, face, cables):
        await face.send(voice(1.0))
        cables.cut()
        sending = asyncio.create_task(face.send(voice(1.0)))
        await clock.advance(0.1)
        assert not sending.done()  # it waits
        await clock.advance(0.2)
        await sending
        await clock.advance(5.0)
        silent = face.stream.samples - 2 * RATE
        assert silent == round((6 / 30 + 0.4) * RATE)  # owed since it has been spoken
        await face.end()
        events = await all_events(face)
    assert [e.silence for e in of_type(Resumed, events)] == [0]
    wanted = np.concatenate([voice(1.0), voice(1.0), np.zeros(silent, np.float32)])
    np.testing.assert_allclose(stacked_points(events), offline(wanted), atol=1e-4)


@pytest.mark.asyncio
async def test_a_crowd_of_words_waits_for_the_connection() -> None:
    async with live(fill_silence=False) as (clock, face, cables):
        reading = asyncio.create_task(all_events(face))
        cables.cut()
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


def mute(message: str | bytes) -> list[Answer]:
    return []


@pytest.mark.asyncio
async def test_a_server_that_owes_frames_and_says_nothing_counts_as_lost() -> None:
    async with live() as (clock, face, cables):
        face.connection.timeout_s = 0.05
        await speak(clock, face, 1.0)
        cables.opened[0].server = mute
        await face.send(voice(1.0))
        async with asyncio.timeout(20):
            while len(cables.opened) < 2:
                await clock.advance(0.1)
        await speak(clock, face, 1.0)
        await face.end()
        events = await all_events(face)
    assert "nothing came for 0.05 s" in of_type(Reconnecting, events)[0].why
    assert frame_numbers(events) == list(range(ceil(face.stream.samples * 30 / RATE)))


# What ends a stream


@pytest.mark.asyncio
async def test_leaving_while_the_connection_is_away_is_immediate() -> None:
    async with asyncio.timeout(5):
        async with live() as (_, face, cables):
            cables.cut()
            await settle()
            await face.send(voice(1.0))
            await face.end()
            assert len(cables.opened) == 1
        with pytest.raises(ConnectionLost, match="closed here before its end"):
            await face.send(voice(1.0))
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.asyncio
async def test_who_waits_to_send_is_told_when_the_stream_is_lost_for_good() -> None:
    async with live(mode="file") as (clock, face, cables):
        cables.cut()
        cables.cuts = [(0, 0)] * 99
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
        assert len(cables.opened) == 1 + 5 + 4 + 1  # 0.2 ... 3.2 s, every 5 s, and a last one


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
async def test_a_refusal_ends_the_stream_with_its_name(
    error: WireError | None, code: int, kind: type[KFusionError]
) -> None:
    server = RefusingServer(error, code)
    cables = CutConnections(server, [])
    async with connect("memory", transport=cables, reconnect=NO_WAIT, mode="file") as face:
        await face.send(voice(0.5))
        cables.cut()
        with pytest.raises(kind, match=str(error) if error else f"code {code}"):
            async for _ in face.frames():
                pass
        with pytest.raises(kind):
            await face.mark("m")
    assert server.refused == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("said", [True, False])
async def test_a_busy_server_is_asked_again_when_it_says(said: bool) -> None:
    server = RefusingServer(Busy("all taken", 7) if said else None, 1013, "7", refusals=2)
    clock, cables = ManualClock(), CutConnections(server, [])
    async with connect("memory", transport=cables, clock=clock, mode="file") as face:
        await face.send(voice(0.5))
        cables.cut()
        await clock.advance(16.0, step=0.05)
        await face.end()
        events = await all_events(face)
    waits = [e.wait_s for e in of_type(Reconnecting, events)]
    assert waits[1:] == [7.0, 7.0]
    assert frame_numbers(events) == list(range(15))


@pytest.mark.asyncio
async def test_a_server_that_is_busy_for_too_long_is_named() -> None:
    clock, cables = ManualClock(), CutConnections(RefusingServer(Busy("all taken", 20), 1013), [])
    async with connect("memory", transport=cables, clock=clock, mode="file") as face:
        cables.cut()
        await clock.advance(25.0, step=0.05)
        with pytest.raises(Busy, match="all taken") as busy:
            await all_events(face)
    assert busy.value.retry_after_s == 20
    assert clock.now() < 130


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [1000, 1001, 1009, 4400, 4409])
async def test_after_a_close_that_is_meant_nobody_comes_back(code: int) -> None:
    cables = CutConnections(MemoryServer(resume_s=30), [])
    async with connect("memory", transport=cables) as face:
        cables.opened[0].feed(Closed(code, "said so"))
        with pytest.raises(ConnectionLost, match=f"code {code}, said so"):
            async for _ in face.frames():
                pass
    assert len(cables.opened) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(("resume_s", "reconnect"), [(0, True), (30, False)])
async def test_where_nothing_is_kept_or_wanted_a_lost_connection_is_the_end(
    resume_s: float, reconnect: bool
) -> None:
    cables = CutConnections(MemoryServer(resume_s), [])
    async with connect("memory", transport=cables, reconnect=reconnect) as face:
        await face.send(voice(1.0))
        cables.cut()
        with pytest.raises(ConnectionLost, match="before the end"):
            async for _ in face.frames():
                pass
        assert not face.stream.resend_queue.items
    assert len(cables.opened) == 1


@pytest.mark.asyncio
async def test_a_first_connection_is_tried_once() -> None:
    tried: list[int] = []

    async def opener() -> Transport:
        tried.append(1)
        raise ConnectionFailed("nobody there")

    with pytest.raises(ConnectionFailed, match="nobody there"):
        async with connect("memory", transport=opener):
            pass
    assert tried == [1]
