"""What the frames of a stream are, when they come, and what they are shown as."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfusion import wire
from kfusion.coefficients import ARKIT52, Rig
from kfusion.landmarks import NEUTRAL, NEUTRAL_IDENTITY
from kfusion.runtime import Animator
from server.session.history import HISTORY
from tests.conftest import voice
from tests.server.session.driven_session import ENGINE, DrivenSession, engine_output, pcm


def test_ready_has_what_the_protocol_says() -> None:
    driven = DrivenSession(audio={"rate": 48_000}, hop=5, lookahead=2, emotion={"happy": 0.5})
    (ready,) = driven.received
    assert (ready.protocol, ready.fps, ready.points) == (1, 30, 68)
    assert (ready.hop, ready.lookahead, ready.audio_position, ready.n) == (5, 2, 0, 0)
    assert ready.latency_ms == pytest.approx(7000 / 30 + 1000 * 111 / 48_000, abs=1)
    assert ready.emotion["happy"] == 0.5 and ready.emotion["neutral"] == 0.5
    assert len(ready.outputs["points"]) == 136 and ready.identity == "neutral"
    assert ready.limits.held_s == 60 and ready.limits.message_bytes == 1 << 20


# The frames


@pytest.mark.parametrize("mode", ["live", "file"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_stream_gives_what_the_offline_call_gives(mode: str, rate: int) -> None:
    sound = (voice(2.3, rate) * 32767).astype("<i2")
    driven = DrivenSession(mode=mode, audio={"rate": rate}, emotion={"happy": 0.5})
    for chunk in np.array_split(sound, 37):
        driven.give(chunk.tobytes())
        driven.wait(len(chunk) / rate)
    driven.send(type="end")
    driven.wait(1)
    expected = Animator(ENGINE).animate(sound / 32768, rate, emotion={"happy": 0.5})
    assert driven.frames == list(range(len(expected)))
    np.testing.assert_allclose(driven.points, expected, atol=1e-4)
    (end,) = driven.of(wire.End)
    assert end.frames == len(expected) and end.dropped == 0
    assert end.seconds == pytest.approx(2.3)
    assert driven.close_code == 1000


@given(
    st.lists(st.integers(0, 6000), max_size=10),
    st.sampled_from([(3, 3), (1, 0), (2, 5), (30, 0)]),
    st.sampled_from([8000, 16_000, 44_100]),
)
def test_any_chunking_gives_the_same_frames(
    cuts: list[int], shape: tuple[int, int], rate: int
) -> None:
    sound = (voice(0.9, rate) * 32767).astype("<i2")
    results: list[np.ndarray[Any, Any]] = []
    for parts in ([len(sound)], [*cuts, len(sound)]):
        driven = DrivenSession(mode="file", audio={"rate": rate}, hop=shape[0], lookahead=shape[1])
        at = 0
        for part in parts:
            driven.give(sound[at : at + part].tobytes())
            at = min(len(sound), at + part)
        driven.send(type="end")
        results.append(driven.points)
    assert np.array_equal(results[0], results[1])


def test_windows_may_be_answered_in_any_order() -> None:
    forwards, backwards = DrivenSession(), DrivenSession()
    forwards.audio(voice(0.8))
    backwards.session.receive(pcm(voice(0.8)), backwards.now)
    for job in reversed(backwards.take_jobs()):
        assert backwards.frames == []
        backwards.session.complete(job, engine_output(job), backwards.now)
    backwards.work()
    assert backwards.frames == forwards.frames and len(backwards.frames) > 15
    np.testing.assert_array_equal(backwards.points, forwards.points)


# Time


def test_live_frames_come_as_soon_as_their_sound_is_in() -> None:
    driven = DrivenSession(hop=3, lookahead=3)
    sound = voice(2.0)
    for k in range(0, len(sound), 320):
        driven.audio(sound[k : k + 320])
        received = k + 320
        whole = max(0, (received * 30 // 16_000 - 3) // 3 * 3)
        assert len(driven.frames) == whole
        driven.now += 0.02


def test_live_frames_are_computed_at_most_two_seconds_early() -> None:
    driven = DrivenSession()
    driven.audio(voice(10.0))
    assert len(driven.frames) == 60  # two seconds of them at once
    for _ in range(7):
        driven.wait(1)
    assert len(driven.frames) == 60 + 7 * 30


def test_an_hour_of_chunks_neither_drifts_nor_grows() -> None:
    driven = DrivenSession(hop=30, lookahead=0)
    t0 = driven.now
    chunk = bytes(2 * 1600)
    for k in range(36_000):
        driven.now = t0 + (k + 1) * 0.1
        driven.give(chunk)
        if k % 1000 == 0:
            assert len(driven.windows.slider.queue.chunks) < 30
            assert len(driven.windows.clock.segments) < 30
            assert len(driven.windows.clock.arrivals) < 300
    assert driven.frames == list(range(108_000))
    end = driven.windows.clock.end
    assert end is not None and abs(end - (t0 + 3600.1)) < 1 / 30


def test_the_clock_in_a_binary_message_is_the_time_since_ready() -> None:
    driven = DrivenSession()
    driven.wait(1.5)
    driven.audio(voice(0.5))
    assert driven.of(wire.FrameBlock)[0].clock_us == 1_500_000


def test_the_deadline_of_a_window_is_when_its_sound_is_complete() -> None:
    early, late = DrivenSession(hop=3, lookahead=3), DrivenSession(hop=3, lookahead=3)
    early.session.receive(pcm(voice(2.0)), early.now)
    for job in early.take_jobs():
        assert job.deadline == pytest.approx(100.0 + job.window.end / 30, abs=0.01)
    late.audio(voice(0.5))
    late.now += 9.5
    late.session.receive('{"type":"silence","samples":152000}', late.now)
    jobs = late.take_jobs()  # of sound that makes up for a gap
    assert jobs and all(late.now - 0.02 <= job.deadline <= late.now + 0.1 for job in jobs)


# Readers that are slow, or away


def test_only_so_many_unsent_frames_are_kept_for_a_lost_client() -> None:
    driven = DrivenSession(limits=wire.Limits(resume_s=60))
    for _ in range(60):
        driven.audio(voice(1.0))
    assert driven.frames == list(range(60))
    driven.lose()
    driven.reading = False
    driven.wait(55)
    driven.reading = True
    driven.resume(50)
    dropped = 57 * 30 - 60 - HISTORY
    assert driven.of(wire.Dropped) == [wire.Dropped(60, dropped, "resume")]
    assert driven.frames == [*range(60), *range(60 + dropped, 57 * 30)]


def test_a_resumed_session_says_how_it_stands() -> None:
    driven = DrivenSession(audio={"rate": 48_000})
    driven.audio(voice(1.0, 48_000))
    driven.send(type="emotion", weights={"sad": 0.25})
    driven.send(type="identity", id="me", points=(NEUTRAL * 2).tolist())
    (first,) = driven.of(wire.Ready)
    last = driven.frames[-1]
    driven.lose()
    driven.wait(5)
    ready = driven.resume(last - 3)
    assert ready.session == first.session and ready.resume != first.resume
    assert (ready.audio_position, ready.n) == (48_000, last - 3)
    assert (ready.emotion["sad"], ready.identity) == (0.25, "me")
    assert driven.frames == list(range(last + 1))


# After a reset


def test_after_a_resume_a_reset_eases_from_the_last_frame_that_came() -> None:
    driven = DrivenSession(mode="file", emotion={"surprised": 1})
    driven.audio(voice(1.0))
    driven.send(type="emotion", weights={}, ramp=0)
    driven.give(bytes(2 * 16_000))
    driven.lose()
    driven.reading = False
    driven.request_resume(20)
    last = driven.points[19]  # with its mouth open; later ones are shut
    driven.send(type="reset")
    driven.give(bytes(2 * 8000))
    driven.reading = True
    driven.send(type="end")
    first = driven.points[driven.frames.index(60)]
    np.testing.assert_allclose(first[8], NEUTRAL[8] + (last - NEUTRAL)[8] * 0.75, atol=1e-3)


def test_a_reset_eases_from_the_face_without_its_life() -> None:
    plain, lively = DrivenSession(mode="file"), DrivenSession(mode="file", life=1, seed=3)
    for driven in (plain, lively):
        driven.audio(voice(1.0))
        driven.send(type="reset")
        driven.audio(voice(1.0, seed=1))
        driven.send(type="end")
    head = [27, 28, 29, 30]
    away = np.abs(lively.points - plain.points)[:, head].max()
    assert 0 < away < 3  # the head's motion alone, never twice
    mouth = np.diff(lively.points - plain.points, axis=0)[:, 48:]
    assert np.abs(mouth).max() < 0.5


# What frames are shown as


@pytest.mark.parametrize("encoding", ["json", "binary"])
def test_coefficients_come_beside_the_points_or_alone(encoding: str) -> None:
    both = DrivenSession(
        mode="file", encoding=encoding, outputs=["vrm", "points", "arkit52", "vrm"]
    )
    (ready,) = both.of(wire.Ready)
    widths = {"points": 136, "arkit52": 52, "vrm": 14}
    assert {name: len(of) for name, of in ready.outputs.items()} == widths
    alone = DrivenSession(mode="file", encoding=encoding, outputs=["arkit52"])
    for driven in (both, alone):
        driven.audio(voice(1.0))
        driven.send(type="end")
    if encoding == "binary":
        assert [b.output for b in both.of(wire.FrameBlock)] == [*widths] * 10
        assert {b.output for b in alone.of(wire.FrameBlock)} == {"arkit52"}
        values = {
            name: np.concatenate([b.values for b in both.of(wire.FrameBlock) if b.output == name])
            for name in widths
        }
    else:
        assert not any(f.points for f in alone.of(wire.Frame))
        values = {
            name: np.array([getattr(f, name) for f in both.of(wire.Frame)]) for name in widths
        }
    rig = Rig(NEUTRAL_IDENTITY)
    moved = values["points"].reshape(-1, 68, 2) - NEUTRAL
    np.testing.assert_allclose(values["arkit52"], rig.arkit52(moved), atol=1e-4)
    np.testing.assert_allclose(values["vrm"], rig.vrm(moved), atol=1e-4)
    assert values["arkit52"][:, ARKIT52.index("jawOpen")].max() > 0.1
    assert both.of(wire.End)[0].frames == alone.of(wire.End)[0].frames == 30


@settings(max_examples=10)
@given(st.integers(0, 2**40), st.lists(st.integers(500, 9000), min_size=1, max_size=6))
def test_life_is_a_function_of_seed_frame_and_sound_whatever_the_chunks_and_the_losses(
    seed: int, sizes: list[int]
) -> None:
    sound = voice(3.0)
    whole = DrivenSession(mode="file", life=1, seed=seed)
    whole.audio(sound)
    whole.send(type="end")
    parts = DrivenSession(mode="file", life=1, seed=seed)
    at = 0
    for size in itertools.cycle(sizes):
        parts.audio(sound[at : at + size])
        at += size
        if at >= len(sound):
            break
        if at % 3 == 0:
            parts.lose()
            parts.resume(len(parts.frames) // 2)
    parts.send(type="end")
    np.testing.assert_array_equal(parts.points, whole.points)
    other = DrivenSession(mode="file", life=1, seed=seed + 1)
    other.audio(sound)
    assert not np.array_equal(other.points, whole.points[: len(other.points)])
