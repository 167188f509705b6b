"""The session's states and promises, with time passed in."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kfusion import wire
from kfusion.coefficients import ARKIT52, Rig
from kfusion.errors import BadMessage, Busy, Internal, WireError
from kfusion.landmarks import NEUTRAL, NEUTRAL_IDENTITY
from kfusion.runtime import Animator, SyntheticEngine
from server.session.history import HISTORY
from server.session.session import MAX_UNSENT, Session
from server.session.states import State
from server.session.summary import MAX_ERRORS as ERRORS
from server.session.windows import LIVE_BACKLOG, Job, WindowScheduler
from tests.conftest import voice

ENGINE = SyntheticEngine()
MODEL = wire.Model("test", "")


class Stream:
    """A session with an engine that answers at once, and the client's view of it."""

    def __init__(self, limits: wire.Limits | None = None, **start: Any) -> None:
        self.now = 100.0
        self.session = Session(MODEL, limits or wire.Limits(), self.now)
        self.out: list[Any] = []
        self.reading = True
        if start.pop("started", True):
            self.say(type="start", **{"encoding": "binary", **start})

    @property
    def windows(self) -> WindowScheduler:
        assert self.session.stream is not None
        return self.session.stream.windows

    def lose(self) -> None:
        self.session.disconnected(1006, self.now)

    def resume(self, wanted: int) -> wire.Ready:
        """Goes on from frame ``wanted``."""
        self.take_over(wanted)
        (ready,) = [m for m in self.of(wire.Ready) if m.resume == self.session.token]
        return ready

    def take_over(self, wanted: int) -> None:
        """What came at or after frame ``wanted`` is taken as never got."""
        self.session.resumed(wire.ResumeFrom(self.session.token, wanted), self.now)
        kept: list[Any] = []
        for m in self.out:
            if isinstance(m, wire.FrameBlock):
                if m.first < wanted:
                    values = m.values[: wanted - m.first]
                    kept.append(wire.FrameBlock(m.output, m.first, m.clock_us, values))
            elif isinstance(m, wire.Dropped):
                if m.first < wanted:
                    count = min(m.count, wanted - m.first)
                    kept.append(wire.Dropped(m.first, count, m.reason))
            elif not isinstance(m, wire.End) and getattr(m, "n", -1) < wanted:
                kept.append(m)
        self.out = kept
        self.work()

    def say(self, **message: Any) -> None:
        self.give(json.dumps(message))

    def audio(self, samples: np.ndarray[Any, Any]) -> None:
        self.give((samples * 32767).astype("<i2").tobytes())

    def give(self, message: str | bytes) -> None:
        self.session.receive(message, self.now)
        self.work()

    def work(self) -> None:
        while True:
            jobs = self.jobs()
            for job in jobs:
                self.session.complete(job, run(job), self.now)
            got = self.read() if self.reading else 0
            if not jobs and not got:
                return

    def jobs(self) -> list[Job]:
        jobs: list[Job] = []
        while (job := self.session.take_window(self.now)) is not None:
            jobs.append(job)
        return jobs

    def read(self) -> int:
        count = 0
        while (message := self.session.next_message(self.now)) is not None:
            count += 1
            if isinstance(message, bytes):
                self.out.append(wire.decode_frames(message))
            else:
                self.out.append(wire.parse_server(message))
        return count

    def wait(self, seconds: float) -> None:
        """Lets time pass, waking the session when it asks to be woken."""
        until = self.now + seconds
        for _ in range(100_000):
            at = max(self.session.wake_at(), self.now + 1e-4)
            if at > until:
                break
            self.now = at
            self.session.tick(self.now)
            self.work()
        self.now = until
        self.session.tick(self.now)
        self.work()

    def of(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.out if isinstance(m, kind)]

    @property
    def codes(self) -> list[str]:
        return [e.code for e in self.of(wire.Error)]

    @property
    def frames(self) -> list[int]:
        blocks = self.of(wire.FrameBlock)
        return [n for b in blocks for n in range(b.first, b.first + len(b.values))]

    @property
    def points(self) -> np.ndarray[Any, Any]:
        return np.concatenate([b.values for b in self.of(wire.FrameBlock)]).reshape(-1, 68, 2)

    def accounted(self) -> list[int]:
        """Every frame in the order in which it was sent or announced as dropped."""
        told: list[int] = []
        for m in self.out:
            if isinstance(m, wire.FrameBlock):
                told += range(m.first, m.first + len(m.values))
            elif isinstance(m, wire.Frame):
                told.append(m.n)
            elif isinstance(m, wire.Dropped):
                told += range(m.first, m.first + m.count)
        return told


def run(job: Job) -> np.ndarray[Any, Any]:
    face = job.rendering.identity.canonical
    return ENGINE.step(job.window.audio[None], face[None], job.emotion[None])[0]


def test_ready_says_what_the_protocol_wants() -> None:
    stream = Stream(audio={"rate": 48_000}, hop=5, lookahead=2, emotion={"happy": 0.5})
    (ready,) = stream.of(wire.Ready)
    assert (ready.protocol, ready.fps, ready.points) == (1, 30, 68)
    assert (ready.hop, ready.lookahead, ready.audio_position, ready.n) == (5, 2, 0, 0)
    assert ready.latency_ms == pytest.approx(7000 / 30 + 1000 * 111 / 48_000, abs=1)
    assert ready.emotion["happy"] == 0.5 and ready.emotion["neutral"] == 0.5
    assert len(ready.outputs["points"]) == 136 and ready.identity == "neutral"
    assert ready.limits.held_s == 60 and ready.limits.message_bytes == 1 << 20


@pytest.mark.parametrize("mode", ["live", "file"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_stream_gives_what_the_offline_call_gives(mode: str, rate: int) -> None:
    sound = (voice(2.3, rate) * 32767).astype("<i2")
    stream = Stream(mode=mode, audio={"rate": rate}, emotion={"happy": 0.5})
    for chunk in np.array_split(sound, 37):
        stream.give(chunk.tobytes())
        stream.wait(len(chunk) / rate)
    stream.say(type="end")
    stream.wait(1)
    expected = Animator(ENGINE).animate(sound / 32768, rate, emotion={"happy": 0.5})
    assert stream.frames == list(range(len(expected)))
    np.testing.assert_allclose(stream.points, expected, atol=1e-4)
    (end,) = stream.of(wire.End)
    assert end.frames == len(expected) and end.dropped == 0
    assert end.seconds == pytest.approx(2.3)
    assert stream.session.closing is not None and stream.session.closing.code == 1000


@given(
    st.lists(st.integers(0, 6000), max_size=10),
    st.sampled_from([(3, 3), (1, 0), (2, 5), (30, 0)]),
    st.sampled_from([8000, 16_000, 44_100]),
)
def test_any_chunking_gives_the_same_frames(
    cuts: list[int], shape: tuple[int, int], rate: int
) -> None:
    sound = (voice(0.9, rate) * 32767).astype("<i2")
    seen: list[np.ndarray[Any, Any]] = []
    for parts in ([len(sound)], [*cuts, len(sound)]):
        stream = Stream(mode="file", audio={"rate": rate}, hop=shape[0], lookahead=shape[1])
        at = 0
        for part in parts:
            stream.give(sound[at : at + part].tobytes())
            at = min(len(sound), at + part)
        stream.say(type="end")
        seen.append(stream.points)
    assert np.array_equal(seen[0], seen[1])


def test_no_audio_at_all_gives_no_frames() -> None:
    stream = Stream(mode="file")
    stream.say(type="end")
    assert stream.of(wire.End) == [wire.End(0, 0, 0.0)]


def test_json_frames_carry_their_time_and_float32_points() -> None:
    stream = Stream(encoding="json", mode="file")
    stream.audio(voice(0.5))
    stream.say(type="end")
    frames = stream.of(wire.Frame)
    assert [f.n for f in frames] == list(range(15))
    assert frames[3].t == pytest.approx(0.1)
    expected = Animator(ENGINE).animate((voice(0.5) * 32767).astype("<i2") / 32768, 16_000)
    got = np.array([f.points for f in frames], np.float32).reshape(-1, 68, 2)
    assert np.array_equal(got, expected)


# Errors


def first_errors() -> list[tuple[str | bytes, str, bool]]:
    return [
        (b"\0\0", "not_started", False),
        ('{"type":"silence","samples":5}', "not_started", False),
        ('{"type":"mark","id":"a"}', "not_started", True),
        ('{"type":"end"}', "not_started", True),
        ("nonsense", "bad_message", True),
        ('{"type":"start","hop":7}', "bad_message", True),
        ('{"type":"start","audio":{"rate":4000}}', "bad_message", True),
        ('{"type":"start","hop":30,"lookahead":1}', "bad_message", True),
        ('{"type":"start","emotion":{"joy":1}}', "bad_emotion", True),
        ('{"type":"start","identity":"who"}', "bad_identity", True),
        ('{"type":"start","outputs":["tongue"]}', "bad_message", True),
        ('{"type":"start","life":1.5}', "bad_message", True),
        ('{"type":"start","media":"webrtc"}', "bad_message", True),
        ('{"type":"start","resume":{"token":"x","next":-1}}', "bad_message", True),
        ('{"type":"start","resume":{"token":"x"}}', "bad_message", True),
        (
            json.dumps({"type": "start", "identity": {"points": [[i, i] for i in range(68)]}}),
            "bad_identity",
            True,
        ),
    ]


@pytest.mark.parametrize(("message", "code", "fatal"), first_errors())
def test_an_error_in_answer_to_the_first_message(
    message: str | bytes, code: str, fatal: bool
) -> None:
    stream = Stream(started=False)
    stream.give(message)
    assert stream.codes == [code]
    assert stream.of(wire.Error)[0].fatal is fatal
    closing = stream.session.closing
    assert (closing is not None and closing.code == 4400) is fatal
    if not fatal:
        stream.say(type="start")
        assert len(stream.of(wire.Ready)) == 1


def collinear() -> list[list[float]]:
    return [[float(i * 4), float(i)] for i in range(68)]


def identity(name: str, points: list[list[float]]) -> str:
    return json.dumps({"type": "identity", "id": name, "points": points})


LATER_ERRORS: list[tuple[str | bytes, str]] = [
    ("{", "bad_message"),
    ('{"type":"what"}', "bad_message"),
    ('{"type":"start"}', "bad_message"),
    ('{"type":"offer","sdp":""}', "bad_message"),
    ('{"type":"silence","samples":960001}', "bad_message"),
    ('{"type":"identity","id":"a","image":"aaaa"}', "bad_message"),
    (b"odd", "bad_audio"),
    ('{"type":"emotion","weights":{"joy":1}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"happy":2}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"happy":0.9,"sad":0.9}}', "bad_emotion"),
    ('{"type":"identity","id":"who"}', "bad_identity"),
    (identity("neutral", NEUTRAL.tolist()), "bad_identity"),
    (identity("a", collinear()), "bad_identity"),
    (identity("a", (NEUTRAL / 50).tolist()), "bad_identity"),
    (identity("a", [[0.0, 0.0]] * 67), "bad_message"),
]


@pytest.mark.parametrize(("message", "code"), LATER_ERRORS)
def test_a_later_error_is_answered_and_leaves_the_session_as_it_was(
    message: str | bytes, code: str
) -> None:
    sound = voice(1.0)
    calm, hit = Stream(mode="file"), Stream(mode="file")
    for stream in (calm, hit):
        stream.audio(sound[:7000])
        if stream is hit:
            stream.give(message)
        stream.audio(sound[7000:])
        stream.say(type="end")
    assert hit.codes == [code] and not hit.of(wire.Error)[0].fatal
    assert hit.of(wire.Error)[0].message
    assert np.array_equal(hit.points, calm.points)


def test_not_finite_floats_are_bad_audio() -> None:
    stream = Stream(audio={"format": "f32le"})
    stream.give(np.array([0.0, np.nan], "<f4").tobytes())
    assert stream.codes == ["bad_audio"]


def test_every_message_in_every_state_is_answered_by_the_wires_own_words() -> None:
    messages: list[str | bytes] = [
        json.dumps({"type": "start"}),
        json.dumps({"type": "silence", "samples": 16_000}),
        json.dumps({"type": "emotion", "weights": {"sad": 1}}),
        json.dumps({"type": "identity", "id": "neutral"}),
        json.dumps({"type": "mark", "id": "m"}),
        json.dumps({"type": "reset"}),
        json.dumps({"type": "end"}),
        json.dumps({"type": "offer", "sdp": ""}),
        b"\0\0\0\0",
        "?",
    ]
    for path in itertools.product(messages, repeat=3):
        stream = Stream(started=False, mode="file")
        for message in path:
            stream.give(message)
        stream.wait(0.1)
        assert None not in stream.out
        assert stream.accounted() == list(range(len(stream.accounted())))


def test_a_hundred_errors_in_ten_seconds_end_the_session() -> None:
    stream = Stream()
    for _ in range(ERRORS - 1):
        stream.give("?")
        stream.now += 0.05
    assert stream.session.state is State.OPEN
    stream.give("?")
    assert stream.of(wire.Error)[-1].fatal and len(stream.codes) == ERRORS
    assert stream.session.closing is not None and stream.session.closing.code == 4400


def test_errors_far_apart_do_not_add_up() -> None:
    stream = Stream()
    for _ in range(3 * ERRORS):
        stream.give("?")
        stream.now += 0.2
    assert stream.session.state is State.OPEN


def test_ten_seconds_without_a_start_end_it() -> None:
    stream = Stream(started=False)
    stream.wait(9.9)
    assert stream.session.closing is None
    stream.wait(0.2)
    assert stream.codes == ["not_started"]
    assert stream.session.closing is not None and stream.session.closing.code == 4400


def test_a_client_that_says_nothing_is_idle() -> None:
    stream = Stream(limits=wire.Limits(idle_s=5))
    stream.audio(voice(1.0))
    stream.wait(5.5)
    assert stream.codes == []  # a second of it was speech
    stream.wait(0.6)
    assert stream.codes == ["idle"] and stream.session.closing is not None


def test_a_file_that_is_not_read_from_is_not_idle() -> None:
    stream = Stream(limits=wire.Limits(idle_s=5), mode="file")
    stream.reading = False
    for _ in range(4):
        stream.give(bytes(2 * 16_000 * 6))
    assert not stream.session.wants_input
    for _ in range(30):
        stream.wait(1)
    stream.reading = True
    stream.work()
    stream.wait(4)
    assert stream.codes == [] and stream.session.wants_input
    stream.wait(2)
    assert stream.codes == ["idle"]


def test_replies_that_are_never_read_end_the_session() -> None:
    stream = Stream()
    stream.reading = False
    for _ in range(3000):
        stream.say(type="emotion", weights={"happy": 0.5})
    assert len(stream.session.outbox.items) <= MAX_UNSENT + 2
    assert stream.session.closing is not None and stream.session.closing.code == 4400


def test_busy_carries_when_to_come_back_in_its_close_reason() -> None:
    stream = Stream(started=False)
    stream.session.fail(Busy("full", 7), stream.now)
    stream.work()
    (error,) = stream.of(wire.Error)
    assert (error.code, error.fatal, error.retry_after_s) == ("busy", True, 7)
    assert stream.session.closing is not None
    assert (stream.session.closing.code, stream.session.closing.reason) == (1013, "7")


# Time


def test_live_frames_come_as_soon_as_their_sound_is_in() -> None:
    stream = Stream(hop=3, lookahead=3)
    sound = voice(2.0)
    for k in range(0, len(sound), 320):
        stream.audio(sound[k : k + 320])
        received = k + 320
        whole = max(0, (received * 30 // 16_000 - 3) // 3 * 3)
        assert len(stream.frames) == whole
        stream.now += 0.02


def test_live_frames_are_computed_at_most_two_seconds_early() -> None:
    stream = Stream()
    stream.audio(voice(10.0))
    assert len(stream.frames) == 60  # two seconds of them at once
    for _ in range(7):
        stream.wait(1)
    assert len(stream.frames) == 60 + 7 * 30


def test_audio_beyond_a_minute_held_is_too_fast_and_counts_nothing() -> None:
    stream = Stream()
    for _ in range(62):
        stream.give(bytes(2 * 16_000))
    assert stream.codes == []
    stream.give(bytes(2 * 16_000))
    assert stream.codes == ["too_fast"]
    assert stream.windows.slider.received == 62 * 16_000
    stream.wait(1.0)
    stream.give(bytes(2 * 16_000))
    assert stream.codes == ["too_fast"]


def test_silence_gives_back_the_time_of_the_gap() -> None:
    stream = Stream()
    stream.audio(voice(1.0))
    stream.wait(6)  # a pause of five seconds, told late
    stream.say(type="silence", samples=5 * 16_000)
    assert len(stream.frames) == (6 * 30 - 3) // 3 * 3  # all of it is already due
    stream.audio(voice(1.0))
    assert stream.windows.clock.end == pytest.approx(stream.now + 1.0)


def test_audio_after_a_pause_without_silence_is_due_when_it_arrives() -> None:
    stream = Stream()
    stream.audio(voice(1.0))
    stream.wait(6)
    stream.audio(voice(4.0))
    assert stream.windows.clock.end == pytest.approx(stream.now + 4.0)
    last = stream.windows.slider.total
    assert len(stream.frames) < last  # frames beyond two seconds wait


def test_an_hour_of_chunks_neither_drifts_nor_grows() -> None:
    stream = Stream(hop=30, lookahead=0)
    t0 = stream.now
    chunk = bytes(2 * 1600)
    for k in range(36_000):
        stream.now = t0 + (k + 1) * 0.1
        stream.give(chunk)
        if k % 1000 == 0:
            assert len(stream.windows.slider.queue.chunks) < 30
            assert len(stream.windows.clock.segments) < 30
    assert stream.frames == list(range(108_000))
    end = stream.windows.clock.end
    assert end is not None and abs(end - (t0 + 3600.1)) < 1 / 30


def test_a_file_is_read_only_while_little_of_it_waits() -> None:
    stream = Stream(mode="file")
    stream.reading = False
    stream.give(bytes(2 * 16_000 * 5))
    assert stream.session.wants_input
    for _ in range(6):
        stream.give(bytes(2 * 16_000 * 5))
    assert not stream.session.wants_input
    assert stream.session.outbox.waiting <= 330
    stream.reading = True
    stream.work()
    assert stream.session.wants_input
    stream.say(type="end")
    assert stream.frames == list(range(35 * 30)) and not stream.of(wire.Dropped)


# Marks, reset, slow readers


def test_a_mark_comes_between_the_frames_around_it() -> None:
    stream = Stream(mode="file", hop=10, lookahead=0)
    stream.audio(voice(0.5))
    stream.say(type="mark", id="here")
    stream.audio(voice(0.5))
    stream.say(type="end")
    order = [
        m.id if isinstance(m, wire.MarkReached) else (m.first, m.first + len(m.values))
        for m in stream.out
        if isinstance(m, (wire.MarkReached, wire.FrameBlock))
    ]
    assert order == [(0, 10), (10, 15), "here", (15, 20), (20, 30)]
    assert stream.of(wire.MarkReached)[0].n == 15


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=8), st.sampled_from([1, 3, 10]))
def test_marks_come_in_their_place_whatever_the_chunks(chunks: list[int], hop: int) -> None:
    stream = Stream(mode="file", hop=hop, lookahead=2)
    wanted, total = [], 0
    for i, chunk in enumerate(chunks):
        stream.give(bytes(2 * chunk))
        total += chunk
        stream.say(type="mark", id=str(i))
        wanted.append((str(i), -(-total * 30 // 16_000)))
    stream.say(type="end")
    seen, below = [], 0
    for m in stream.out:
        if isinstance(m, wire.FrameBlock):
            assert m.first == below
            below += len(m.values)
        elif isinstance(m, wire.MarkReached):
            assert m.n == below
            seen.append((m.id, m.n))
    assert seen == wanted


def test_the_last_frames_of_an_utterance_wait_for_silence() -> None:
    stream = Stream()
    stream.audio(voice(1.0))
    stream.say(type="mark", id="said")
    stream.wait(1)
    assert not stream.of(wire.MarkReached)
    stream.say(type="silence", samples=16_000 * 6 // 30 + 6400)
    assert [m.id for m in stream.of(wire.MarkReached)] == ["said"]


def test_reset_forgets_what_is_unsent_and_goes_on_at_once() -> None:
    stream = Stream()
    stream.audio(voice(8.0))
    stream.say(type="mark", id="late")
    sent = len(stream.frames)
    stream.say(type="reset")
    kinds = [type(m).__name__ for m in stream.out[-3:]]
    assert kinds == ["Dropped", "MarkReached", "ResetDone"]
    (dropped,) = stream.of(wire.Dropped)
    assert (dropped.first, dropped.count, dropped.reason) == (sent, 240 - sent, "reset")
    (done,) = stream.of(wire.ResetDone)
    assert (done.n, done.audio_position) == (240, 8 * 16_000)
    stream.audio(voice(1.0))
    stream.say(type="end")
    stream.wait(2)  # the eight seconds that were forgotten are not waited for
    assert stream.accounted() == list(range(270))
    assert stream.of(wire.End)[0].frames == sent + 30


def test_windows_in_flight_when_reset_comes_are_ignored() -> None:
    stream = Stream()
    stream.session.receive((voice(1.0) * 32767).astype("<i2").tobytes(), stream.now)
    jobs = stream.jobs()
    assert jobs
    stream.session.receive('{"type":"reset"}', stream.now)
    for job in jobs:
        stream.session.complete(job, run(job), stream.now)
    stream.say(type="end")
    assert stream.accounted() == list(range(30))
    assert stream.of(wire.End)[0] == wire.End(0, 30, 1.0)


def test_after_a_reset_the_face_eases_from_where_it_was() -> None:
    stream = Stream(mode="file", emotion={"surprised": 1})
    stream.audio(voice(1.0))
    last = stream.points[-1]
    stream.say(type="emotion", weights={}, ramp=0)
    stream.say(type="reset")
    stream.give(bytes(2 * 8000))
    stream.say(type="end")
    n = stream.of(wire.ResetDone)[0].n
    first = dict(zip(stream.frames, stream.points, strict=True))
    jaw = [float(first[k][8, 1]) for k in range(n, n + 5)]
    rest, was = float(NEUTRAL[8, 1]), float(last[8, 1])
    np.testing.assert_allclose(
        jaw, [rest + (was - rest) * w for w in (0.75, 0.5, 0.25, 0, 0)], atol=1e-3
    )


def test_a_slow_reader_loses_its_oldest_frames_and_is_told() -> None:
    stream = Stream()
    stream.reading = False
    for _ in range(100):
        stream.audio(voice(0.1))
        stream.now += 0.1
    assert stream.session.outbox.waiting <= LIVE_BACKLOG
    stream.reading = True
    stream.say(type="end")
    assert stream.accounted() == list(range(300))
    dropped = stream.of(wire.Dropped)
    assert {d.reason for d in dropped} == {"slow_reader"}
    assert dropped[0].first == 0
    (end,) = stream.of(wire.End)
    assert end.frames + end.dropped == 300 and end.dropped >= 300 - LIVE_BACKLOG - 9


ACTIONS = ("audio", "silence", "mark", "reset", "stall", "read", "wait", "emotion", "bad")


@given(
    st.lists(st.sampled_from(ACTIONS), max_size=30),
    st.sampled_from(["live", "file"]),
    st.sampled_from([(3, 3), (1, 0), (10, 5)]),
)
def test_frames_are_consecutive_and_add_up_whatever_happens(
    script: list[str], mode: str, shape: tuple[int, int]
) -> None:
    stream = Stream(mode=mode, hop=shape[0], lookahead=shape[1])
    total, marks = 0, 0
    for step in script:
        if step == "audio":
            stream.give(bytes(2 * 4321))
            total += 4321
        elif step == "silence":
            stream.say(type="silence", samples=10_000)
            total += 10_000
        elif step == "mark":
            stream.say(type="mark", id=str(marks))
            marks += 1
        elif step == "reset":
            stream.say(type="reset")
        elif step == "emotion":
            stream.say(type="emotion", weights={"fear": 0.5})
        elif step == "bad":
            stream.give("{")
        elif step == "wait":
            stream.wait(0.7)
        else:
            stream.reading = step == "read"
            stream.work()
    stream.reading = True
    stream.say(type="end")
    stream.wait(60)
    frames = -(-total * 30 // 16_000)
    assert stream.accounted() == list(range(frames))
    assert [m.id for m in stream.of(wire.MarkReached)] == [str(k) for k in range(marks)]
    (end,) = stream.of(wire.End)
    assert end.frames + end.dropped == frames and end.frames == len(stream.frames)


# Lost connections


SOUND = voice(0.35)


@dataclass
class Script:
    """A stream driven by steps, with or without the losses among them."""

    stream: Stream
    lossy: bool
    marks: int = 0
    resets: list[int] = field(default_factory=list[int])
    sent: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict[int, Any])

    def step(self, name: str, size: int) -> None:
        stream = self.stream
        if name == "audio":
            stream.audio(SOUND[size : size + 4000])
        elif name == "silence":
            stream.say(type="silence", samples=3000)
        elif name == "mark":
            stream.say(type="mark", id=str(self.marks))
            self.marks += 1
        elif name == "emotion":
            stream.say(type="emotion", weights={"happy": size / 1000})
        elif name == "identity":
            points = (NEUTRAL * (1 + size / 1000)).tolist()
            stream.say(type="identity", id=f"face {size}", points=points)
        elif name == "reset":
            self.resets.append(stream.windows.slider.total)
            stream.say(type="reset")
        elif name == "wait":
            stream.wait(size / 1000)
        elif name == "lose":
            self.lose(size)
        else:
            stream.reading = name == "read"
            stream.work()

    def lose(self, size: int) -> None:
        """A second without a connection, then on from one of the frames that were sent."""
        stream = self.stream
        if not self.lossy:
            return stream.wait(1.0)
        reading, stream.reading = stream.reading, False
        stream.lose()
        stream.wait(1.0)
        stream.reading = reading
        self.see()
        stream.take_over(round(stream.session.outbox.history.end * size / 1000))
        return None

    def see(self) -> None:
        """However often a frame comes, it is the same."""
        for block in self.stream.of(wire.FrameBlock):
            for k, values in enumerate(block.values):
                n = block.first + k
                assert np.array_equal(self.sent.setdefault(n, values), values)


STEPS = ("audio", "silence", "mark", "emotion", "identity", "reset", "wait", "stall", "read")


@given(
    st.lists(
        st.tuples(st.sampled_from((*STEPS, "lose", "lose", "audio")), st.integers(0, 1000)),
        max_size=25,
    ),
    st.sampled_from(["live", "file"]),
    st.sampled_from([(3, 3), (1, 0), (10, 5)]),
)
def test_a_lost_connection_costs_no_frame_no_mark_and_no_reply(
    steps: list[tuple[str, int]], mode: str, shape: tuple[int, int]
) -> None:
    scripts = [
        Script(Stream(mode=mode, hop=shape[0], lookahead=shape[1]), lossy)
        for lossy in (False, True)
    ]
    for script in scripts:
        for name, size in steps:
            script.step(name, size)
        script.stream.say(type="end")
        script.step("lose", 900)
        script.stream.wait(60)
        script.step("read", 0)
        script.see()
    calm, hit = scripts
    total = hit.stream.windows.slider.total
    assert hit.stream.accounted() == list(range(total))
    (end,) = hit.stream.of(wire.End)
    assert (end.frames, end.frames + end.dropped) == (len(hit.stream.frames), total)
    assert [m.id for m in hit.stream.of(wire.MarkReached)] == [str(k) for k in range(hit.marks)]
    kinds = (wire.EmotionSet, wire.IdentitySet, wire.ResetDone)
    for kind in kinds:
        assert hit.stream.of(kind) == calm.stream.of(kind)
    below = 0
    for m in hit.stream.out:
        if isinstance(m, wire.FrameBlock):
            below = m.first + len(m.values)
        elif isinstance(m, wire.Dropped):
            below = m.first + m.count
        elif isinstance(m, (wire.MarkReached, wire.ResetDone)):
            assert m.n <= below
    # A reset eases from the frame that came last, which is another one where frames are unread.
    eased = {n + k for n in hit.resets for k in range(3)}
    for n, values in hit.sent.items():
        if n in calm.sent and n not in eased:
            assert np.array_equal(values, calm.sent[n]), n


def test_a_resumed_session_says_how_it_stands() -> None:
    stream = Stream(audio={"rate": 48_000})
    stream.audio(voice(1.0, 48_000))
    stream.say(type="emotion", weights={"sad": 0.25})
    stream.say(type="identity", id="me", points=(NEUTRAL * 2).tolist())
    (first,) = stream.of(wire.Ready)
    seen = stream.frames[-1]
    stream.lose()
    stream.wait(5)
    ready = stream.resume(seen - 3)
    assert ready.session == first.session and ready.resume != first.resume
    assert (ready.audio_position, ready.n) == (48_000, seen - 3)
    assert (ready.emotion["sad"], ready.identity) == (0.25, "me")
    assert (ready.hop, ready.lookahead, ready.limits.resume_s) == (3, 3, 30)
    assert stream.frames == list(range(seen + 1))


def test_what_was_received_is_computed_while_nobody_is_connected() -> None:
    stream = Stream()
    stream.audio(voice(10.0))
    assert len(stream.frames) == 60
    stream.lose()
    stream.reading = False
    stream.wait(9)
    stream.reading = True
    stream.resume(60)
    assert stream.frames == list(range(297)) and not stream.of(wire.Dropped)


def test_only_so_many_unsent_frames_are_kept_for_a_lost_client() -> None:
    stream = Stream(limits=wire.Limits(resume_s=60))
    for _ in range(60):
        stream.audio(voice(1.0))
    assert stream.frames == list(range(60))
    stream.lose()
    stream.reading = False
    stream.wait(55)
    stream.reading = True
    stream.resume(50)
    total = 57 * 30
    (dropped,) = stream.of(wire.Dropped)
    assert dropped == wire.Dropped(60, total - 60 - HISTORY, "resume")
    assert stream.accounted() == list(range(total))


def test_frames_that_come_again_do_not_make_a_slow_reader() -> None:
    stream = Stream()
    for _ in range(20):
        stream.audio(voice(1.0))
        stream.wait(1)
    stream.lose()
    stream.reading = False
    stream.wait(1)
    stream.session.resumed(wire.ResumeFrom(stream.session.token, 0), stream.now)
    stream.audio(voice(2.0))  # comes to be sent before the rest was read
    assert stream.session.outbox.waiting > LIVE_BACKLOG
    assert not stream.session.outbox.dropped


def test_after_a_resume_a_reset_eases_from_the_last_frame_that_came() -> None:
    stream = Stream(mode="file", emotion={"surprised": 1})
    stream.audio(voice(1.0))
    stream.say(type="emotion", weights={}, ramp=0)
    stream.give(bytes(2 * 16_000))
    stream.lose()
    stream.reading = False
    stream.session.resumed(wire.ResumeFrom(stream.session.token, 20), stream.now)
    came = stream.points[19]  # with its mouth open; later ones are shut
    stream.say(type="reset")
    stream.give(bytes(2 * 8000))
    stream.reading = True
    stream.say(type="end")
    first = stream.points[stream.frames.index(60)]
    np.testing.assert_allclose(first[8], NEUTRAL[8] + (came - NEUTRAL)[8] * 0.75, atol=1e-3)


def test_replies_that_come_again_are_not_held_against_the_client() -> None:
    stream = Stream()
    for _ in range(MAX_UNSENT):
        stream.say(type="emotion", weights={"happy": 0.5})
    stream.lose()
    stream.reading = False
    stream.session.resumed(wire.ResumeFrom(stream.session.token, 0), stream.now)
    for _ in range(MAX_UNSENT - 1):
        stream.say(type="mark", id="m")
    assert stream.codes == [] and stream.session.closing is None


def test_a_resume_whose_answer_never_left_is_answered_once_by_the_next() -> None:
    stream = Stream()
    stream.lose()
    stream.session.resumed(wire.ResumeFrom(stream.session.token, 0), stream.now)
    stream.lose()
    stream.resume(0)
    assert len(stream.of(wire.Ready)) == 1


def test_a_frame_beyond_what_was_sent_cannot_be_resumed_from() -> None:
    stream = Stream()
    stream.audio(voice(1.0))
    token, sent = stream.session.token, len(stream.frames)
    stream.lose()
    with pytest.raises(BadMessage):
        stream.session.resumed(wire.ResumeFrom(token, sent + 1), stream.now)
    assert stream.session.lost_at is not None and stream.session.token == token
    assert stream.resume(sent).n == sent


def test_a_lost_session_is_neither_idle_nor_kept_for_long() -> None:
    stream = Stream(limits=wire.Limits(idle_s=2, resume_s=10))
    stream.audio(voice(1.0))
    stream.lose()
    stream.wait(9.9)
    assert stream.session.state is State.OPEN and not stream.codes
    stream.wait(0.2)
    assert stream.session.state is State.CLOSED and not stream.codes


def test_a_resumed_session_can_be_idle_again() -> None:
    stream = Stream(limits=wire.Limits(idle_s=2))
    stream.lose()
    stream.wait(5)
    stream.resume(0)
    stream.wait(1.9)
    assert stream.codes == []
    stream.wait(0.2)
    assert stream.codes == ["idle"]


def test_an_end_that_may_not_have_come_is_told_again() -> None:
    stream = Stream(mode="file")
    stream.audio(voice(1.0))
    stream.say(type="end")
    assert stream.session.state is State.ENDED
    stream.lose()
    stream.wait(20)
    stream.resume(12)
    assert stream.frames == list(range(30)) and stream.of(wire.End) == [wire.End(30, 0, 1.0)]
    assert stream.session.closing is not None and stream.session.closing.code == 1000


def test_a_client_that_does_not_know_whether_its_end_came_says_it_again() -> None:
    stream = Stream()
    stream.audio(voice(8.0))
    stream.say(type="end")
    stream.lose()
    stream.resume(0)
    stream.say(type="end")
    assert stream.codes == [] and stream.session.state is State.ENDING
    stream.say(type="mark", id="late")
    assert stream.codes == ["bad_message"]


def test_what_cannot_be_resumed_ends_with_its_connection() -> None:
    new, failed, off = Stream(started=False), Stream(), Stream(limits=wire.Limits(resume_s=0))
    failed.session.fail(Internal("broken"), failed.now)
    for stream in (new, failed, off):
        stream.lose()
        assert stream.session.state is State.CLOSED


def test_a_resume_is_for_the_first_message_alone() -> None:
    stream = Stream()
    stream.say(type="start", resume={"token": stream.session.token, "next": 0})
    assert stream.codes == ["bad_message"] and stream.session.resume_request is None
    stream = Stream(started=False)
    stream.say(type="start", resume={"token": "t", "next": 7})
    assert stream.session.resume_request == wire.ResumeFrom("t", 7) and not stream.out


def test_a_microphone_gives_back_the_time_of_the_gap_by_silence() -> None:
    stream = Stream()
    stream.audio(voice(1.0))
    stream.lose()
    stream.wait(6)
    ready = stream.resume(0)
    stream.say(type="silence", samples=5 * 16_000)
    assert stream.accounted() == list(range((6 * 30 - 3) // 3 * 3))  # all of it is due already
    stream.audio(voice(1.0))
    assert ready.audio_position == 16_000
    assert stream.windows.clock.end == pytest.approx(stream.now + 1.0)


# Emotion and identity


def test_an_emotion_takes_effect_at_its_audio_position() -> None:
    stream = Stream(mode="file", hop=1, lookahead=0)
    stream.give(bytes(2 * 16_000))
    stream.say(type="emotion", weights={"surprised": 1}, ramp=0.5)
    stream.give(bytes(2 * 16_000))
    stream.say(type="end")
    (told,) = stream.of(wire.EmotionSet)
    assert (told.n, told.ramp, told.weights["surprised"]) == (30, 0.5, 1)
    chin = stream.points[:, 8, 1] - NEUTRAL[8, 1]
    assert not chin[:30].any() and 0 < chin[37] < chin[44] < chin[50]
    np.testing.assert_allclose(chin[50:], chin[59], atol=1e-5)


def test_an_identity_holds_whole_from_the_frame_it_names() -> None:
    stream = Stream(mode="file")
    stream.give(bytes(2 * 16_000))
    mine = (NEUTRAL * 2 + 100).tolist()
    stream.say(type="identity", id="me", points=mine)
    stream.give(bytes(2 * 8000))
    stream.say(type="identity", id="neutral")
    stream.give(bytes(2 * 8000))
    stream.say(type="identity", id="me")
    stream.say(type="end")
    me, neutral, again = stream.of(wire.IdentitySet)
    assert (me.id, neutral.id, again.id) == ("me", "neutral", "me")
    np.testing.assert_allclose(me.points, mine)
    for n, frame in zip(stream.frames, stream.points, strict=True):
        inside = me.n <= n < neutral.n or n >= again.n
        face = np.array(mine) if inside else NEUTRAL
        np.testing.assert_allclose(frame, face, atol=1e-2)


def test_an_id_keeps_its_face() -> None:
    stream = Stream()
    points = (NEUTRAL * 2).tolist()
    stream.say(type="identity", id="me", points=points)
    stream.say(type="identity", id="me", points=points)
    assert stream.codes == []
    stream.say(type="identity", id="me", points=NEUTRAL.tolist())
    assert stream.codes == ["bad_identity"]


def test_only_so_many_identities_are_kept() -> None:
    stream = Stream(limits=wire.Limits(identities=2))
    for name in ("a", "b", "c"):
        stream.say(type="identity", id=name, points=NEUTRAL.tolist())
    assert stream.codes == ["bad_identity"]


@given(st.one_of(st.binary(max_size=64), st.text(max_size=64)))
def test_any_message_is_answered_without_any_other_error(message: str | bytes) -> None:
    stream = Stream()
    try:
        stream.give(message)
    except WireError as error:  # pragma: no cover - the session must have told it
        pytest.fail(repr(error))
    stream.audio(voice(0.3))
    assert stream.of(wire.Ready)


def test_the_clock_in_a_binary_message_is_the_time_since_ready() -> None:
    stream = Stream()
    stream.wait(1.5)
    stream.audio(voice(0.5))
    assert stream.of(wire.FrameBlock)[0].clock_us == 1_500_000


# Overload, order, the server's end


def test_windows_may_be_answered_in_any_order() -> None:
    there, back = Stream(), Stream()
    there.audio(voice(0.8))
    back.session.receive((voice(0.8) * 32767).astype("<i2").tobytes(), back.now)
    for job in reversed(back.jobs()):
        assert back.frames == []
        back.session.complete(job, run(job), back.now)
    back.work()
    assert back.frames == there.frames and len(back.frames) > 15
    np.testing.assert_array_equal(back.points, there.points)


@given(st.lists(st.booleans(), min_size=9, max_size=9), st.lists(st.integers(0, 30), max_size=4))
def test_what_the_engine_gives_up_is_announced_in_whole_hops_with_the_marks_in_place(
    given_up: list[bool], marks: list[int]
) -> None:
    stream = Stream(hop=3, lookahead=3)
    sound = (voice(1.0) * 32767).astype("<i2").tobytes()
    at = 0
    for k, n in enumerate(sorted(marks)):
        stream.session.receive(sound[at : n * 16_000 // 30 * 2], stream.now)
        at = n * 16_000 // 30 * 2
        stream.session.receive(json.dumps({"type": "mark", "id": f"{k} at {n}"}), stream.now)
    stream.session.receive(sound[at:], stream.now)
    stream.session.receive('{"type":"end"}', stream.now)
    fates = iter([*given_up, False, False])
    gone: set[int] = set()
    while jobs := stream.jobs():
        for job in jobs:
            late = next(fates)
            gone |= set(range(job.window.first, job.window.last)) if late else set()
            stream.session.complete(job, None if late else run(job), stream.now)
        stream.read()
    stream.read()
    assert stream.accounted() == list(range(30))
    assert set(stream.frames) == set(range(30)) - gone
    assert {d.reason for d in stream.of(wire.Dropped)} <= {"overload"}
    seen = 0
    for m in stream.out:
        if isinstance(m, wire.FrameBlock):
            seen = m.first + len(m.values)
        elif isinstance(m, wire.Dropped):
            seen = m.first + m.count
        elif isinstance(m, wire.MarkReached):
            assert m.n == seen and m.id.endswith(f" {m.n}")
    assert len(stream.of(wire.MarkReached)) == len(marks)
    assert stream.of(wire.End) == [wire.End(30 - len(gone), len(gone), 1.0)]


def test_a_late_window_is_one_whose_sound_was_there_long_ago_not_one_that_makes_up_for_a_gap() -> (
    None
):
    stream = Stream(hop=3, lookahead=3)
    stream.audio(voice(0.5))
    stream.now += 9.5
    stream.session.receive('{"type":"silence","samples":152000}', stream.now)
    jobs = stream.jobs()
    assert jobs and all(stream.now - 0.02 <= job.deadline <= stream.now + 0.1 for job in jobs)


def test_a_window_of_audio_that_comes_early_is_not_due_before_it_is_spoken() -> None:
    stream = Stream(hop=3, lookahead=3)
    stream.session.receive((voice(2.0) * 32767).astype("<i2").tobytes(), stream.now)
    for job in stream.jobs():
        assert job.deadline == pytest.approx(100.0 + job.window.end / 30, abs=0.01)


def test_a_server_that_stops_finishes_what_it_was_given_without_waiting_for_its_time() -> None:
    stream = Stream()
    stream.audio(voice(8.0))
    assert len(stream.frames) < 90
    stream.session.stop(stream.now)
    stream.work()
    assert stream.frames == list(range(240)) and stream.out[-1] == wire.End(240, 0, 8.0)
    assert stream.session.closing is not None and stream.session.closing.code == 1001


def test_a_newcomer_is_told_busy_by_a_server_that_stops() -> None:
    stream = Stream(started=False)
    stream.session.stop(stream.now)
    stream.read()
    assert stream.codes == ["busy"]
    assert stream.session.closing is not None and stream.session.closing.code == 1013


@pytest.mark.parametrize(("mode", "hop", "demand"), [("live", 3, 10.0), ("file", 3, 0.0)])
def test_a_place_is_asked_for_when_a_stream_starts(mode: str, hop: int, demand: float) -> None:
    asked: list[float] = []

    def full(more: float) -> None:
        asked.append(more)
        raise Busy("no place", 7)

    session = Session(MODEL, wire.Limits(), 0.0, admit=full)
    session.receive(json.dumps({"type": "start", "mode": mode, "hop": hop}), 0.0)
    error = wire.parse_server(str(session.next_message(0.0)))
    assert isinstance(error, wire.Error) and (error.code, error.retry_after_s) == ("busy", 7)
    assert session.closing is not None and session.closing.code == 1013
    assert asked == [demand]


# What frames are shown as


@pytest.mark.parametrize("encoding", ["json", "binary"])
def test_coefficients_come_beside_the_points_or_alone(encoding: str) -> None:
    both = Stream(mode="file", encoding=encoding, outputs=["vrm", "points", "arkit52", "vrm"])
    (ready,) = both.of(wire.Ready)
    assert {name: len(of) for name, of in ready.outputs.items()} == {
        "points": 136, "arkit52": 52, "vrm": 14,
    }  # fmt: skip
    alone = Stream(mode="file", encoding=encoding, outputs=["arkit52"])
    for stream in (both, alone):
        stream.audio(voice(1.0))
        stream.say(type="end")
    if encoding == "binary":
        kinds = [b.output for b in both.of(wire.FrameBlock)]
        assert kinds == ["points", "arkit52", "vrm"] * 10
        assert {b.output for b in alone.of(wire.FrameBlock)} == {"arkit52"}
        values = {
            name: np.concatenate([b.values for b in both.of(wire.FrameBlock) if b.output == name])
            for name in ("points", "arkit52", "vrm")
        }
    else:
        frames = both.of(wire.Frame)
        assert not any(f.points for f in alone.of(wire.Frame))
        values = {name: np.array([getattr(f, name) for f in frames]) for name in ready.outputs}
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
    whole = Stream(mode="file", life=1, seed=seed)
    whole.audio(sound)
    whole.say(type="end")
    parts = Stream(mode="file", life=1, seed=seed, encoding="json")
    at = 0
    for size in itertools.cycle(sizes):
        parts.audio(sound[at : at + size])
        at += size
        if at >= len(sound):
            break
        if at % 3 == 0:
            parts.lose()
            parts.resume(len(parts.of(wire.Frame)) // 2)
    parts.say(type="end")
    chunked = np.array([f.points for f in parts.of(wire.Frame)]).reshape(-1, 68, 2)
    np.testing.assert_array_equal(chunked.astype(np.float32), whole.points)
    other = Stream(mode="file", life=1, seed=seed + 1)
    other.audio(sound)
    assert not np.array_equal(other.points, whole.points[: len(other.points)])


def test_a_reset_eases_from_the_face_without_its_life() -> None:
    plain, lively = Stream(mode="file"), Stream(mode="file", life=1, seed=3)
    for stream in (plain, lively):
        stream.audio(voice(1.0))
        stream.say(type="reset")
        stream.audio(voice(1.0, seed=1))
        stream.say(type="end")
    head = [27, 28, 29, 30]
    away = np.abs(lively.points - plain.points)[:, head].max()
    assert 0 < away < 3  # the head's motion alone, never twice
    mouth = np.diff(lively.points - plain.points, axis=0)[:, 48:]
    assert np.abs(mouth).max() < 0.5


def test_empty_messages_of_sound_are_nothing() -> None:
    client = Stream(mode="live")
    client.audio(np.zeros(1600, np.float32))
    before = len(client.windows.clock.segments)
    for _ in range(500):
        client.now += 0.1
        client.give(b"")
    assert len(client.windows.clock.segments) == before and not client.codes


def test_an_offer_that_was_not_answered_is_forgotten_with_its_connection() -> None:
    client = Stream(mode="live")
    session = client.session
    assert session.stream is not None
    session.stream.start = msgspec.structs.replace(session.stream.start, media="webrtc")
    client.say(type="offer", sdp="one")
    session.disconnected(1006, client.now)
    client.resume(0)
    client.say(type="offer", sdp="two")
    assert session.negotiation.offer == "two" and not client.codes
