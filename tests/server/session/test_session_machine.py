"""The session driven through everything at once, against a client that knows only the protocol.

Every message in every state, time, an engine that answers late, a slow reader, lost connections
with messages still on the wire. For a longer search than the usual one::

    SESSION_EXAMPLES=5000 SESSION_STEPS=80 python -m pytest \\
        tests/server/session/test_session_machine.py
"""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from numpy.typing import NDArray

from kfusion import wire
from kfusion.config import SAMPLE_RATE, WINDOW
from kfusion.emotion import EMOTIONS, vector
from kfusion.errors import BadMessage, NoFace
from kfusion.landmarks import NEUTRAL, Identity
from kfusion.stream import HOPS
from server.pictures.request import FoundFace, Search
from server.session.history import HISTORY, MAX_HISTORY
from server.session.session import MAX_UNSENT, START_S, Session
from server.session.states import State
from server.session.summary import ERRORS_S
from server.session.summary import MAX_ERRORS as ERRORS
from server.session.windows import (
    AHEAD_S,
    FILE_AHEAD_S,
    FILE_BACKLOG,
    LIVE_BACKLOG,
    MAX_IN_FLIGHT,
    MAX_MARKS,
    SLACK_S,
    Job,
    WindowScheduler,
)

FACES: Final = {name: NEUTRAL * size + 5 for name, size in zip("abcd", (1, 2, 0.5, 3), strict=True)}
EDGES: Final = {
    State.NEW: {State.OPEN, State.CLOSED},
    State.OPEN: {State.ENDING, State.ENDED, State.CLOSED},  # no frame left to wait for: ENDED
    State.ENDING: {State.ENDED, State.CLOSED},
    State.ENDED: {State.CLOSED},
    State.CLOSED: set[State](),
}
KEPT: Final = (State.OPEN, State.ENDING, State.ENDED)  # with a connection or without
MOST_ITEMS: Final = MAX_UNSENT + MAX_HISTORY + 10  # unread, and those that came again
DEEP: Final = "deep"  # a name for brackets, for the sake of who reads a failure
NEVER: Final = [  # refused wherever sound is wanted
    ("{", "bad_message"),
    ("\ud800", "bad_message"),
    (DEEP, "bad_message"),
    ("[1]", "bad_message"),
    ('{"type":"what"}', "bad_message"),
    ('{"type":"start"}', "bad_message"),
    ('{"type":"start","resume":{"token":"t","next":0}}', "bad_message"),
    ('{"type":"offer","sdp":"v=0"}', "bad_message"),
    ('{"type":"silence","samples":-1}', "bad_message"),
    ('{"type":"silence","samples":1.5}', "bad_message"),
    ('{"type":"silence","samples":1e400}', "bad_message"),
    (f'{{"type":"silence","samples":{10**15}}}', "bad_message"),
    (f'{{"type":"silence","samples":{10**4000}}}', "bad_message"),
    (b"odd", "bad_audio"),
    ('{"type":"emotion","weights":{"joy":1}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"sad":-0.1}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"sad":0.7,"fear":0.7}}', "bad_emotion"),
    ('{"type":"emotion","weights":{"sad":NaN}}', "bad_message"),
    ('{"type":"emotion","weights":{},"ramp":1e9}', "bad_message"),
    ('{"type":"identity","id":"unknown"}', "bad_identity"),
    ('{"type":"identity","id":""}', "bad_message"),
    ('{"type":"identity","id":"a","image":"no base64"}', "bad_message"),
    ('{"type":"identity","id":"a","image":""}', "bad_message"),
    ('{"type":"identity","id":"neutral","image":"aaaa"}', "bad_identity"),
    (json.dumps({"type": "identity", "id": "a", "image": "A" * 940_000}), "too_big"),
    (json.dumps({"type": "mark", "id": "é" * 200}), "bad_message"),
    (json.dumps({"type": "identity", "id": "neutral", "points": NEUTRAL.tolist()}), "bad_identity"),
    (json.dumps({"type": "identity", "id": "z", "points": [[k, k] for k in range(68)]}),
     "bad_identity"),
    (json.dumps({"type": "identity", "id": "z", "points": [[1e300, -1e300]] * 68}),
     "bad_identity"),
]  # fmt: skip
BAD_STARTS: Final[list[tuple[str, str]]] = [
    ('{"type":"start","hop":4}', "bad_message"),
    ('{"type":"start","hop":30,"lookahead":1}', "bad_message"),
    ('{"type":"start","audio":{"rate":7999}}', "bad_message"),
    ('{"type":"start","audio":{"channels":6}}', "bad_message"),
    ('{"type":"start","encoding":"xml"}', "bad_message"),
    ('{"type":"start","outputs":[]}', "bad_message"),
    ('{"type":"start","media":"webrtc"}', "bad_message"),
    ('{"type":"start","life":2}', "bad_message"),
    ('{"type":"start","emotion":{"joy":1}}', "bad_emotion"),
    ('{"type":"start","identity":"unknown"}', "bad_identity"),
    ('{"type":"start","resume":{"token":"t","next":-1}}', "bad_message"),
]


# What the client expects, and what it got


@dataclass(eq=False)
class Reply:
    """An answer that is owed; ``at``: the client's next frame when it came."""

    message: Any
    at: int = -1
    repeatable: bool = False  # lost or not, the client cannot know: it may come again

    @property
    def n(self) -> int:
        return -1 if isinstance(self.message, wire.Error) else self.message.n

    def fits(self, message: Any) -> bool:
        if isinstance(self.message, wire.Error):
            same = isinstance(message, wire.Error) and bool(message.message)
            return same and (message.code, message.fatal) == (self.message.code, self.message.fatal)
        return bool(message == self.message)


@dataclass
class Replies:
    """Answers of one sort, in their order."""

    owed: deque[Reply] = field(default_factory=deque[Reply])
    got: list[Reply] = field(default_factory=list[Reply])
    complete: bool = True  # all that were told are remembered, to be told again

    def owe(self, message: Any) -> None:
        self.owed.append(Reply(message))

    def take(self, message: Any, at: int) -> None:
        if not self.complete:
            return
        for reply in self.got:
            if reply.repeatable and reply.fits(message):
                reply.repeatable = False
                return
        assert self.owed, f"not owed: {message}"
        assert self.owed[0].fits(message), f"{message}; owed {self.owed[0].message}"
        reply = self.owed.popleft()
        reply.at = at
        self.got.append(reply)

    def lose_errors(self, errors: int) -> None:
        """So many were on the wire; they are not told again."""
        lost = [r for r in self.owed if isinstance(r.message, wire.Error)][:errors]
        self.owed = deque(r for r in self.owed if r not in lost)

    def rewind(self, wanted: int) -> None:
        again = [r for r in self.got if r.n >= wanted]
        self.got = [r for r in self.got if r.n < wanted]
        for reply in self.got:
            error = isinstance(reply.message, wire.Error)
            reply.repeatable = reply.at >= wanted and not error
        self.owed.extendleft(reversed(again))


class Client:
    """What came of one session, judged as it comes."""

    def __init__(self) -> None:
        self.next = 0
        self.frames: dict[int, bytes] = {}
        self.seen: dict[int, bytes] = {}  # whatever came, also what was asked for again
        self.dropped: dict[int, str] = {}
        self.replies, self.marks = Replies(), Replies()
        self.ready: tuple[int, int] | None = None  # n and audio_position, owed
        self.tokens: list[str] = []
        self.end: wire.End | None = None
        self.fatal = False

    def take(self, message: Any) -> None:
        assert self.end is None and not self.fatal, f"after the last: {message}"
        if isinstance(message, wire.FrameBlock):
            for k, points in enumerate(message.values):
                self._frame(message.first + k, points)
        elif isinstance(message, wire.Frame):
            assert message.t == pytest.approx(message.n / 30)
            self._frame(message.n, np.array(message.points, np.float32))
        elif isinstance(message, wire.Dropped):
            assert (message.first, message.count > 0) == (self.next, True), message
            for n in range(message.first, message.first + message.count):
                self.dropped[n] = message.reason
            self.next += message.count
        elif isinstance(message, wire.MarkReached):
            # After all below it; and before its own frame, which may have been dropped.
            assert message.n <= self.next and message.n not in self.frames
            self.marks.take(message, self.next)
        elif isinstance(message, wire.Ready):
            assert self.ready == (message.n, message.audio_position)
            assert message.resume not in self.tokens
            self.tokens.append(message.resume)
            self.ready = None
        elif isinstance(message, wire.End):
            self.end = message
        else:
            self.replies.take(message, self.next)
            self.fatal = isinstance(message, wire.Error) and message.fatal

    def _frame(self, n: int, points: NDArray[np.float32]) -> None:
        assert self.ready is None, "a frame before ready"
        assert n == self.next and len(points) == 136
        data = points.tobytes()
        assert self.seen.setdefault(n, data) == data, f"frame {n} came again as another"
        self.frames[n] = data
        self.next += 1

    def rewind(self, wanted: int) -> None:
        """Knows nothing any more of what lies at or after this frame."""
        self.next = wanted
        self.frames = {n: f for n, f in self.frames.items() if n < wanted}
        self.dropped = {n: r for n, r in self.dropped.items() if n < wanted}
        self.replies.rewind(wanted)
        self.marks.rewind(wanted)
        self.end = None


class Sound:
    """What was sent at 16 kHz, to be compared with the windows."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, NDArray[np.float32]]] = []

    def window(self, stop: int) -> NDArray[np.float32]:
        out = np.zeros(WINDOW, np.float32)
        for first, part in self.parts:
            low, high = max(first, stop - WINDOW), min(first + len(part), stop)
            if low < high:
                out[low - stop + WINDOW : high - stop + WINDOW] = part[low - first : high - first]
        return out


class Dial:
    """The emotion at every frame, as the protocol tells it."""

    def __init__(self, weights: dict[str, float]) -> None:
        first = vector(weights)
        self.ramps = [(0, first, first, 0.0)]

    def at(self, n: int) -> NDArray[np.float32]:
        first, start, target, frames = [r for r in self.ramps if r[0] <= n][-1]
        share = 1.0 if n >= first + frames else (n - first) / frames
        return (start + (target - start) * share).astype(np.float32)

    def turn(self, n: int, weights: dict[str, float], ramp: float) -> None:
        self.ramps.append((n, self.at(n), vector(weights), ramp * 30))


# The machine

weights = st.dictionaries(
    st.sampled_from(EMOTIONS), st.sampled_from([0.0, 0.05, 0.125]), max_size=8
)


@st.composite
def starts(draw: st.DrawFn) -> dict[str, Any]:
    hop = draw(st.sampled_from(HOPS))
    return {
        "type": "start",
        "audio": {
            "rate": draw(st.sampled_from([16_000, 16_000, 16_000, 8000, 44_100, 48_000])),
            "channels": draw(st.sampled_from([1, 2])),
            "format": draw(st.sampled_from(["s16le", "f32le"])),
        },
        "encoding": draw(st.sampled_from(["json", "binary"])),
        "mode": draw(st.sampled_from(["live", "file"])),
        "hop": hop,
        "lookahead": draw(st.integers(0, min(29, 30 - hop))),
        "identity": draw(st.sampled_from(["neutral", *FACES])),  # with the points of that one
        "emotion": draw(weights),
    }


limits = st.builds(
    wire.Limits,
    held_s=st.sampled_from([60.0, 3.0]),
    idle_s=st.sampled_from([300.0, 300.0, 300.0, 4.0]),
    session_s=st.sampled_from([86_400.0, 86_400.0, 86_400.0, 15.0]),
    resume_s=st.sampled_from([30.0, 30.0, 30.0, 8.0, 0.0]),
    identities=st.sampled_from([64, 2]),
)


class Machine(RuleBasedStateMachine):
    """A session, its engine, the wire and the client."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rng = np.random.default_rng(0)

    @initialize(limits=limits, first=st.one_of(st.none(), *[starts()] * 7))
    def begin(self, limits: wire.Limits, first: dict[str, Any] | None) -> None:
        self.session = Session(wire.Model("test", ""), limits, self.now, has_faces=True)
        self.looking: tuple[str, str] | None = None  # a picture: its id, and whose face it shows
        self.limits, self.began, self.heard = limits, self.now, self.now
        self.client = Client()
        self.wire: deque[Any] = deque()  # sent, and not yet with the client
        self.engine: deque[tuple[int, Job]] = deque()  # with the resets there had been
        self.resets = self.made = self.owed = self.slow = 0  # frames computed; before the resume
        self.quick = True  # the engine answers at once
        self.connected, self.resumptions = True, 0
        self.state = State.NEW
        self.received = self.taken = self.sent = 0  # samples; frames in windows; frames on the wire
        self.due_end: float | None = None  # when all that was sent is spoken
        self.errors: deque[float] = deque()
        self.stored: dict[str, Any] = {}
        self.ended = False
        self.told: dict[str, Any] = {}
        if first is not None:
            self.start(first)

    # What the model knows

    @property
    def windows(self) -> WindowScheduler:
        assert self.session.stream is not None
        return self.session.stream.windows

    @property
    def rate(self) -> int:
        return int(self.told["audio"]["rate"])

    @property
    def live(self) -> bool:
        return self.told["mode"] == "live"

    @property
    def total(self) -> int:
        return -(-self.received * 30 // self.rate)

    def snapshot(self) -> Any:
        s = self.session
        if s.stream is None:
            return s.state
        w = s.stream.windows
        return (
            s.state, w.slider.received, w.slider.floor, w.slider.next_end, len(w.marks), s.token,
            w.generation, w.clock.end, s.stream.identity_id, s.stream.emotion.target.tolist(),
            w.next_frame, w.at_engine, s.outbox.waiting, sorted(s.identity_search.identities.faces),
            s.lost_at, s.search,
        )  # fmt: skip

    def give(self, message: str | bytes) -> None:
        self.session.receive(message, self.now)
        self.heard = self.now
        self.step()

    def refused(self, message: str | bytes, code: str, *, fatal: bool = False) -> None:
        """A message that is answered by an error and changes nothing else."""
        before = self.snapshot()
        self.session.receive(message, self.now)
        self.heard = self.now
        self.owe_error(code, fatal=fatal)
        if self.session.state is not State.CLOSED:
            assert self.snapshot() == before, f"{message!r} changed the session"
        self.step()

    def owe_error(self, code: str, *, fatal: bool = False) -> None:
        self.errors.append(self.now)
        while self.errors[0] <= self.now - ERRORS_S:
            self.errors.popleft()
        fatal = fatal or len(self.errors) >= ERRORS
        self.client.replies.owe(wire.Error(code, "", fatal))
        if fatal:
            closing = self.session.closing
            assert closing is not None and (closing.code, closing.reason) == (4400, code)
        assert (self.session.state is State.CLOSED) is fatal or self.unread

    @property
    def unread(self) -> bool:
        """Whether the client is told that it reads too little, which it then is."""
        last = self.session.outbox.items[-1] if self.session.outbox.items else None
        return (
            isinstance(last, wire.Error)
            and "were not read" in last.message
            and len(self.session.outbox.items) > MAX_UNSENT
        )

    def step(self) -> None:
        """What the shell does after whatever happened: windows to the engine, and back."""
        while True:
            self.session.tick(self.now)
            self.judge_state()
            while (job := self.session.take_window(self.now)) is not None:
                self.judge_job(job)
                self.engine.append((self.resets, job))
            if not (self.quick and self.engine):
                break
            self.answer()
            self.judge_state()
        assert self.session.wake_at() > self.now, "asks to be woken in the past, for ever"

    def answer(self) -> None:
        """The engine says of one window that the face does not move."""
        resets, job = self.engine.popleft()
        if resets == self.resets:
            self.made = job.window.last
        self.session.complete(job, np.zeros((30, 68, 2), np.float32), self.now)
        self.only_a_slow_reader_loses_frames()

    def judge_job(self, job: Job) -> None:
        window = job.window
        first, last = self.taken, window.end - self.told["lookahead"]
        assert (window.first, window.last) == (first, min(last, self.total) if self.ended else last)
        assert first < window.last <= first + self.told["hop"]
        assert window.audio.shape == (WINDOW,)
        needs = window.end * self.rate // 30 + self.windows.slider.delay
        assert self.ended or needs <= self.received
        if self.live and self.due_end is not None:
            slider = self.windows.slider
            spoken_for = (self.told["lookahead"] + 1) / 30 + slider.delay / self.rate
            assert self.now >= job.deadline - spoken_for - AHEAD_S - 1e-6
        np.testing.assert_allclose(job.emotion, self.dial.at(window.last - 1), atol=1e-6)
        assert np.array_equal(job.rendering.identity.points, self.faces[-1][1])
        if self.rate == SAMPLE_RATE:
            heard = self.sound.window(window.end * SAMPLE_RATE // 30)
            np.testing.assert_allclose(window.audio, heard, atol=1e-6)
        self.taken = window.last

    def judge_state(self) -> None:
        """Only along the picture's arrows; by itself only for the reasons there are."""
        state = self.session.state
        if state is self.state:
            return
        assert state in EDGES[self.state], f"{self.state} -> {state}"
        if state in (State.ENDING, State.ENDED) and not self.ended:
            assert self.now >= self.began + self.limits.session_s
            self.ended = True
        if state is State.ENDED:
            assert self.looking is None, "ended before all was answered"
        self.state = state
        self.told_by_itself()

    def told_by_itself(self) -> None:
        """A fatal error that no message of this moment asked for."""
        if self.state is not State.CLOSED or self.session.closing is None:
            return
        items = self.session.outbox.items
        last = items[-1] if items else None
        owed = sum(isinstance(r.message, wire.Error) for r in self.client.replies.owed)
        held = sum(isinstance(m, wire.Error) for m in (*self.wire, *items))
        if held == owed or not isinstance(last, wire.Error):
            return
        reasons = {
            "idle": self.now >= self.spoken + self.limits.idle_s - 1e-6,
            "not_started": self.now >= self.began + START_S,
            "bad_message": self.unread,
        }
        assert last.fatal and reasons.get(last.code), f"ended by itself: {last}"
        self.client.replies.owe(wire.Error(last.code, "", True))

    @property
    def spoken(self) -> float:
        return max(self.heard, self.due_end or 0.0)

    # Messages

    def can_speak(self) -> bool:
        return self.connected and self.state is not State.CLOSED and self.session.wants_input

    def before_or_after(self, message: str | bytes, code: str = "not_started") -> bool:
        """Answers for the states in which this message has no effect."""
        state = self.session.state
        if state is State.NEW:
            silent = isinstance(message, bytes) or '"silence"' in message
            self.refused(message, code, fatal=not (silent and code == "not_started"))
        elif state is State.ENDING:
            self.refused(message, "bad_message")
        elif state in (State.ENDED, State.CLOSED):
            before = self.snapshot()
            self.give(message)
            assert self.snapshot() == before
        return state is not State.OPEN

    @precondition(can_speak)
    @rule(fields=starts())
    def start(self, fields: dict[str, Any]) -> None:
        face = FACES.get(fields["identity"])
        own = "neutral" if face is None else {"points": face.tolist()}
        message = json.dumps({**fields, "identity": own})
        if self.session.state is not State.NEW:
            if not self.before_or_after(message):
                self.refused(message, "bad_message")
            return
        self.told = fields
        self.dial, self.sound = Dial(fields["emotion"]), Sound()
        self.faces = [(0, NEUTRAL if face is None else face)]
        self.client.ready = (0, 0)
        self.give(message)
        assert self.session.state is State.OPEN

    @precondition(lambda self: self.can_speak() and self.state is State.NEW)
    @rule(bad=st.sampled_from(BAD_STARTS))
    def bad_start(self, bad: tuple[str, str]) -> None:
        self.refused(*bad, fatal=True)

    @precondition(lambda self: self.can_speak() and self.state is State.NEW)
    @rule()
    def ask_for_another_session(self) -> None:
        answers = len(self.session.outbox.items)
        self.session.receive('{"type":"start","resume":{"token":"t","next":7}}', self.now)
        assert self.session.resume_request == wire.ResumeFrom("t", 7)
        assert self.session.state is State.NEW and len(self.session.outbox.items) == answers
        self.begin(self.limits, None)  # the shell goes on with the other one

    @precondition(can_speak)
    @rule(bad=st.sampled_from(NEVER), times=st.sampled_from([1] * 9 + [30]))
    def nonsense(self, bad: tuple[str | bytes, str], times: int) -> None:
        message, code = bad
        message = "[" * 3000 if message == DEEP else message
        if isinstance(message, bytes):
            first = "not_started"
        else:
            try:
                parsed = wire.parse_client(message)
            except BadMessage:
                first = "bad_message"
            else:
                if isinstance(parsed, wire.Start):  # none of nonsense before the start
                    return
                first = "not_started"
        for _ in range(times):
            if not self.before_or_after(message, first):
                self.refused(message, code)

    @precondition(can_speak)
    @rule(
        size=st.one_of(st.integers(0, 3), st.integers(0, 6000), st.integers(0, 200_000)),
        loud=st.booleans(),
    )
    def audio(self, size: int, loud: bool) -> None:
        if not self.told:
            self.before_or_after(bytes(size))
            return
        form, channels = self.told["audio"]["format"], self.told["audio"]["channels"]
        mono = np.zeros(size, np.float32)
        if loud and self.rate == SAMPLE_RATE:
            mono = self.rng.integers(-9999, 9999, size).astype(np.float32) / 32768
        each = np.repeat(mono, channels)
        data = (each * 32768).astype("<i2") if form == "s16le" else each.astype("<f4")
        message = data.tobytes()
        if self.before_or_after(message):
            return
        if form == "f32le" and size and not loud and size % 7 == 0:
            data = data.copy()
            data[size // 2] = np.nan
            self.refused(data.tobytes(), "bad_audio")
        elif self.too_fast(size, silent=False) is None:
            return
        elif self.too_fast(size, silent=False):
            self.refused(message, "too_fast")
        else:
            self.sound.parts.append((self.received, mono.astype(np.float32)))
            self.moves(message, size, silent=False)

    @precondition(can_speak)
    @rule(samples=st.one_of(st.integers(0, 9000), st.integers(0, 300_000)))
    def silence(self, samples: int) -> None:
        message = json.dumps({"type": "silence", "samples": samples})
        if self.before_or_after(message):
            return
        fast = self.too_fast(samples, silent=True)
        if fast:
            self.refused(message, "too_fast")
        elif fast is not None:
            self.moves(message, samples, silent=True)

    @precondition(lambda self: self.can_speak() and self.state is State.OPEN)
    @rule(seconds=st.integers(1, 50), reads=st.booleans())
    def speak_on(self, seconds: int, reads: bool) -> None:
        """At the pace of speech."""
        for k in range(seconds):
            if self.can_speak() and self.state is State.OPEN:
                self.audio(self.rate // 2, False)
                self.silence(self.rate - self.rate // 2)
                if k % 4 == 0:
                    self.mark(f"second {k}", 1)
                self.wait(1.0)
                self.read(5000 * reads, True)

    def too_fast(self, samples: int, *, silent: bool) -> bool | None:
        """Whether so much is refused; None where a rounding could tell."""
        if not self.live:
            return False
        ahead = self.spoken_until(samples, silent) - self.now - AHEAD_S
        waiting = self.received - min(self.received, self.taken * self.rate // 30) + samples
        held = max(ahead, waiting / self.rate - AHEAD_S - SLACK_S)
        if abs(held - self.limits.held_s) < 1e-4:
            return None
        return held > self.limits.held_s

    def spoken_until(self, samples: int, silent: bool) -> float:
        begin = self.now if self.due_end is None else self.due_end
        return (begin if silent else max(self.now, begin)) + samples / self.rate

    def moves(self, message: str | bytes, samples: int, *, silent: bool) -> None:
        if samples:
            self.due_end = self.spoken_until(samples, silent)
        self.received += samples
        self.give(message)
        assert self.windows.slider.received == self.received
        end = self.windows.clock.end
        assert end == (None if self.due_end is None else pytest.approx(self.due_end, abs=1e-3))

    @precondition(can_speak)
    @rule(
        weights=weights,
        ramp=st.sampled_from([0.0, 0.3, 2.0, 3600.0]),
        times=st.sampled_from([1] * 9 + [900]),
    )
    def emotion(self, weights: dict[str, float], ramp: float, times: int) -> None:
        message = json.dumps({"type": "emotion", "weights": weights, "ramp": ramp})
        for _ in range(times):
            if self.before_or_after(message):
                return
            n = self.total
            self.dial.turn(n, weights, ramp)
            full = {k: float(w) for k, w in zip(EMOTIONS, vector(weights), strict=True)}
            self.client.replies.owe(wire.EmotionSet(full, n, ramp))
            self.give(message)

    @precondition(can_speak)
    @rule(name=st.sampled_from(["a", "b", "c", "neutral"]), face=st.sampled_from([None, *FACES]))
    def identity(self, name: str, face: str | None) -> None:
        fields: dict[str, Any] = {"type": "identity", "id": name}
        if face is not None:
            fields["points"] = FACES[face].tolist()
        message = json.dumps(fields)
        if self.before_or_after(message):
            return
        if not self.may_put(name, face):
            self.refused(message, "bad_identity")
            return
        if name != "neutral":
            self.stored.setdefault(name, face)
        self.says_and_shows(message, name)

    def says_and_shows(self, message: str, name: str) -> None:
        """An identity that takes effect at once, in the place of one that is looked for."""
        before, self.looking = self.looking, None
        if before is not None:
            self.errors.append(self.now)
            while self.errors[0] <= self.now - ERRORS_S:
                self.errors.popleft()
            fatal = len(self.errors) >= ERRORS
            self.client.replies.owe(wire.Error("bad_identity", "", fatal))
            if fatal:
                self.give(message)
                return
        self.shows(name)
        self.give(message)

    def shows(self, name: str, note: str = "") -> None:
        """An identity is told, and is that of every window from now on."""
        points = NEUTRAL if name == "neutral" else FACES[self.stored[name]]
        n = self.windows.slider.next_first if self.ended else self.taken
        self.faces.append((n, points))
        pairs = [(float(x), float(y)) for x, y in points]
        self.client.replies.owe(wire.IdentitySet(name, n, pairs, note or wire.UNSET))

    @precondition(can_speak)
    @rule(name=st.sampled_from(["a", "b", "c"]), face=st.sampled_from([*FACES]))
    def picture(self, name: str, face: str) -> None:
        """A picture of a face; it is looked at elsewhere."""
        image = base64.b64encode(f"picture of {face}".encode()).decode()
        message = json.dumps({"type": "identity", "id": name, "image": image})
        if self.before_or_after(message):
            return
        if name not in self.stored and len(self.stored) >= self.limits.identities:
            self.refused(message, "bad_identity")
            return
        before, self.looking = self.looking, (name, face)
        self.session.receive(message, self.now)
        self.heard = self.now
        if before not in (None, self.looking):
            self.owe_error("bad_identity")
        if self.session.state is not State.CLOSED:
            assert self.session.search == Search(name, f"picture of {face}".encode())
        self.step()

    @precondition(lambda self: self.looking and self.state in (State.OPEN, State.ENDING))
    @rule(finds=st.booleans(), note=st.sampled_from(["", "the mouth was open"]))
    def picture_is_looked_at(self, finds: bool, note: str) -> None:
        assert self.looking is not None and self.session.search is not None
        (name, face), self.looking = self.looking, None
        search = self.session.search
        taken = self.stored.get(name, face) != face
        room = name in self.stored or len(self.stored) < self.limits.identities
        if finds and room and not taken:
            self.stored[name] = face
            self.shows(name, note)
            found = FoundFace(Identity.from_points(FACES[face]), note)
            self.session.found(search, found, self.now)
        else:
            found = FoundFace(Identity.from_points(FACES[face]), note)
            self.session.found(search, found if finds else NoFace("none"), self.now)
            self.owe_error("bad_identity" if finds else "no_face")
        self.step()
        before = self.snapshot()
        self.session.found(search, NoFace("once more"), self.now)  # comes too late
        assert self.snapshot() == before

    def may_put(self, name: str, face: str | None) -> bool:
        if name == "neutral":
            return face is None
        if face is None or name in self.stored:
            return name in self.stored and face in (None, self.stored[name])
        return len(self.stored) < self.limits.identities

    @precondition(can_speak)
    @rule(name=st.text(max_size=6), times=st.sampled_from([1] * 9 + [700]))
    def mark(self, name: str, times: int) -> None:
        message = json.dumps({"type": "mark", "id": name})
        for _ in range(times):
            if self.before_or_after(message):
                return
            if len(self.windows.marks) >= MAX_MARKS:
                self.refused(message, "bad_message")
                continue
            self.client.marks.owe(wire.MarkReached(name, self.total))
            self.give(message)

    @precondition(can_speak)
    @rule()
    def reset(self) -> None:
        message = '{"type":"reset"}'
        if self.before_or_after(message):
            return
        self.taken = self.made = self.total
        self.resets += 1
        self.sound = Sound()
        if self.due_end is not None:
            self.due_end = min(self.due_end, self.now)
        self.client.replies.owe(wire.ResetDone(self.total, self.received))
        self.give(message)
        assert not self.windows.marks and not self.session.outbox.waiting

    @precondition(lambda self: self.can_speak() and self.state is State.OPEN)
    @rule(chunks=st.integers(1, 12))
    def interrupt(self, chunks: int) -> None:
        """Sound and its withdrawal, quicker than any engine."""
        for _ in range(chunks):
            self.silence(self.rate)
            self.reset()

    @precondition(lambda self: self.can_speak() and self.state is not State.NEW)
    @rule(sure=st.integers(0, 2))
    def end(self, sure: int) -> None:
        if self.state is State.OPEN and sure:  # most of the time there is more to say
            return
        message = '{"type":"end"}'
        if self.state is State.ENDING and self.resumptions:
            before = self.snapshot()
            self.give(message)
            assert self.snapshot() == before
        elif not self.before_or_after(message):
            self.ended = True
            self.give(message)

    @precondition(lambda self: self.connected and self.state in (State.ENDED, State.CLOSED))
    @rule(message=st.sampled_from([b"\0" * 8, '{"type":"reset"}', '{"type":"start"}', "?"]))
    def too_late(self, message: str | bytes) -> None:
        before, answers = self.snapshot(), len(self.session.outbox.items)
        self.give(message)
        assert self.snapshot() == before and len(self.session.outbox.items) == answers

    # Time, the engine, the reader, the connection

    @precondition(lambda self: self.state is not State.CLOSED)
    @rule(seconds=st.one_of(st.floats(0, 0.2), st.floats(0, 5), st.floats(0, 40)))
    def wait(self, seconds: float) -> None:
        """Lets time pass as a shell does, that looks again when it was asked to."""
        until = self.now + seconds
        while (at := max(self.session.wake_at(), self.now + 0.001)) <= until:
            self.now = at
            self.step()
        self.now = until
        self.step()
        if self.state is State.OPEN and self.connected:
            assert self.now < self.began + self.limits.session_s
            silent_since = self.now - self.spoken
            assert silent_since < self.limits.idle_s + 0.01 or not self.live
        if self.state is State.NEW:
            assert self.now < self.began + START_S

    @rule(count=st.integers(1, 8), quick=st.booleans())
    def engine_answers(self, count: int, quick: bool) -> None:
        self.quick = quick
        for _ in range(min(count, len(self.engine))):
            self.answer()
        self.step()

    @precondition(lambda self: self.connected)
    @rule(count=st.sampled_from([1, 5, 50, 5000]), arrive=st.booleans())
    def read(self, count: int, arrive: bool) -> None:
        for _ in range(count):
            message = self.session.next_message(self.now)
            if message is None:
                break
            seen = (
                wire.decode_frames(message)
                if isinstance(message, bytes)
                else wire.parse_server(message)
            )
            if isinstance(seen, wire.FrameBlock):
                self.sent = seen.first + len(seen.values)
            elif isinstance(seen, wire.Frame):
                self.sent = seen.n + 1
            elif isinstance(seen, wire.Dropped):
                self.sent = seen.first + seen.count
            self.wire.append(seen)
            self.step()  # there is room for more
        if arrive:
            self.arrive(len(self.wire))

    @rule(count=st.integers(1, 40))
    def arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.wire))):
            self.client.take(self.wire.popleft())

    @precondition(lambda self: self.connected)
    @rule(came=st.integers(0, 9))
    def lose(self, came: int) -> None:
        """The connection breaks; what was on the wire never comes, but for some of it."""
        if came % 2:
            self.read(5000, False)
        self.arrive(came)
        kept = self.state in KEPT and self.limits.resume_s > 0
        self.cut()
        self.session.disconnected(1006, self.now)
        self.connected = False
        assert (self.session.state is not State.CLOSED) is kept
        if not kept:
            self.state = State.CLOSED
        self.step()

    @precondition(lambda self: self.connected and self.state in KEPT)
    @rule(
        came=st.integers(0, 9),
        seconds=st.floats(0, 7),
        place=st.sampled_from(["true", "true", "true", "half", "none", "beyond"]),
    )
    def lose_and_come_back(self, came: int, seconds: float, place: str) -> None:
        self.lose(came)
        self.wait(seconds)
        if self.state in KEPT:
            self.resume(place)

    def cut(self) -> None:
        self.client.replies.lose_errors(sum(isinstance(m, wire.Error) for m in self.wire))
        self.wire.clear()

    @precondition(lambda self: self.state in KEPT)
    @rule(place=st.sampled_from(["true", "true", "half", "none", "beyond"]))
    def resume(self, place: str) -> None:
        """Another connection, also beside one that seems to live."""
        wanted = {
            "true": self.client.next,
            "half": self.client.next // 2,
            "none": 0,
            "beyond": self.sent + 1,
        }[place]
        asked = wire.ResumeFrom(self.session.token, wanted)
        if place == "beyond":
            before = self.snapshot()
            with pytest.raises(BadMessage):
                self.session.resumed(asked, self.now)
            assert self.snapshot() == before
            return
        self.cut()
        outbox = self.session.outbox
        if len(outbox.history.items) >= MAX_HISTORY or wanted < outbox.history.start:
            self.client.replies.complete = self.client.marks.complete = False
        self.session.resumed(asked, self.now)
        self.client.rewind(wanted)
        self.client.ready = (wanted, self.received)
        self.sent, self.heard = wanted, self.now
        self.owed = self.made
        self.connected = True
        self.resumptions += 1
        first = self.session.outbox.items[0]
        assert isinstance(first, wire.Ready)
        assert first.emotion == pytest.approx(self.mood(), abs=1e-6)
        self.step()

    def mood(self) -> dict[str, float]:
        return dict(zip(EMOTIONS, map(float, self.dial.ramps[-1][2]), strict=True))

    @precondition(lambda self: self.state is State.CLOSED)
    @rule(limits=limits, fields=starts())
    def begin_again(self, limits: wire.Limits, fields: dict[str, Any]) -> None:
        self.finish()
        self.begin(limits, fields)

    # What always holds

    @invariant()
    def always(self) -> None:
        self.queues_are_bounded()
        self.a_file_is_read_exactly_while_there_is_room()
        self.frames_have_the_face_that_was_told()

    def queues_are_bounded(self) -> None:
        session = self.session
        outbox = session.outbox
        assert len(outbox.items) <= MOST_ITEMS
        assert len(outbox.history.items) <= MAX_HISTORY and outbox.history.frames <= HISTORY
        assert len(session.errors.recent) <= ERRORS
        assert len(self.engine) <= MAX_IN_FLIGHT, "windows at the engine"
        if not self.told:
            return
        assert len(self.windows.marks) <= MAX_MARKS
        assert len(session.identity_search.identities.faces) <= self.limits.identities
        if self.live:
            held = AHEAD_S + SLACK_S + self.limits.held_s
            assert self.windows.slider.waiting <= (held + 1e-3) * self.rate
            assert outbox.waiting <= max(HISTORY, LIVE_BACKLOG + outbox.resent) <= 3 * HISTORY
        else:
            most = FILE_BACKLOG + MAX_IN_FLIGHT * self.told["hop"] + outbox.resent
            assert outbox.waiting <= most and not set(outbox.dropped) - {"reset", "resume"}

    def only_a_slow_reader_loses_frames(self) -> None:
        """Not one to whom everything comes at once that was made while it was away."""
        slow = self.session.outbox.dropped.get("slow_reader", 0)
        if slow > self.slow:
            waiting = self.session.outbox.waiting
            from_before = max(0, self.owed - (self.made - waiting))
            assert waiting - from_before >= LIVE_BACKLOG, "frames dropped that it never saw come"
        self.slow = slow

    def a_file_is_read_exactly_while_there_is_room(self) -> None:
        if self.state is not State.OPEN:
            assert self.session.wants_input
            return
        waiting = self.received - min(self.received, self.taken * self.rate // 30)
        room = waiting < FILE_AHEAD_S * self.rate and self.session.outbox.waiting < FILE_BACKLOG
        assert self.session.wants_input is (self.live or room)

    def frames_have_the_face_that_was_told(self) -> None:
        for n in (self.client.next - 1, self.client.next // 2):
            if n in self.client.frames:
                face = [points for first, points in self.faces if first <= n][-1]
                got = np.frombuffer(self.client.frames[n], np.float32).reshape(68, 2)
                assert np.array_equal(got, face.astype(np.float32)), n

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.finish()

    def finish(self) -> None:
        """Everything that is owed comes, and what ``end`` says is true."""
        if self.state is State.CLOSED:
            if self.connected:
                self.drain()
                assert self.session.closing is not None and self.client.fatal
            return
        if self.state is State.NEW:
            return
        if not self.connected:
            self.resume("true")
        self.quick = True
        self.engine_answers(len(self.engine), True)
        self.drain()
        if self.looking is not None:
            self.picture_is_looked_at(True, "")
        if self.state is State.OPEN:
            self.end(0)
        for _ in range(10):
            self.wait(30)
            self.drain()
        client, end = self.client, self.client.end
        if self.session.state is State.CLOSED:  # told that it had read too little
            return
        assert end is not None and self.state is State.ENDED
        assert self.session.closing is not None and self.session.closing.code == 1000
        assert sorted({**client.frames, **client.dropped}) == list(range(self.total))
        assert (end.frames, end.dropped) == (len(client.frames), len(client.dropped))
        assert end.seconds == pytest.approx(self.received / self.rate)
        for replies in (client.replies, client.marks):
            assert not (replies.owed and replies.complete), "never came"

    def drain(self) -> None:
        while self.session.outbox.items or self.wire:
            self.read(5000, True)


def most(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


TestSessionMachine: Any = Machine.TestCase
TestSessionMachine.settings = settings(
    phases=[Phase.explicit, Phase.generate],
    max_examples=most("SESSION_EXAMPLES", 12),
    stateful_step_count=most("SESSION_STEPS", 40),
)


def machine(first: dict[str, Any] | None = None, **limits: Any) -> Machine:
    """One that is driven by hand, for what was found before."""
    found = Machine()
    found.begin(wire.Limits(**limits), {**PLAIN, **(first or {})})
    return found


PLAIN: Final[dict[str, Any]] = {
    "type": "start",
    "audio": {"rate": 16_000, "channels": 1, "format": "s16le"},
    "encoding": "binary",
    "mode": "live",
    "hop": 3,
    "lookahead": 3,
    "identity": "neutral",
    "emotion": {},
}


# What it found, step by step


def test_windows_that_a_reset_took_back_count_until_the_engine_has_done_with_them() -> None:
    found = machine({"hop": 1, "lookahead": 0})
    found.quick = False
    for _ in range(5):
        found.silence(16_000)
        found.reset()
        found.always()
    found.finish()


def test_what_lies_behind_dropped_frames_is_not_lost_with_the_connection() -> None:
    found = machine()
    found.audio(16_000 * 5, False)
    found.mark("in the middle", 1)
    found.emotion({"happy": 0.125}, 0.3, 1)
    found.audio(16_000 * 3, False)
    found.reset()
    found.read(5000, False)
    while not isinstance(found.wire[0], wire.Dropped):
        found.arrive(1)
    found.arrive(1)  # and neither the mark, nor the emotion, nor the reset
    found.lose(0)
    found.resume("true")
    found.finish()


def test_a_gap_that_is_asked_for_twice_is_announced_once() -> None:
    found = machine()
    found.speak_on(40, True)
    for wanted in (250, 0, 0):
        found.lose(0)
        found.client.next = wanted
        found.resume("true")
        found.read(5000 * (wanted > 0), True)
    found.finish()


def test_frames_made_while_nobody_was_there_do_not_make_a_slow_reader() -> None:
    found = machine()
    for _ in range(10):
        found.audio(16_000, False)
    found.read(5000, True)
    found.lose(0)
    found.wait(7)  # 210 frames more
    found.resume("true")
    found.wait(1)  # before all of them are on the wire
    found.finish()
    assert not found.client.dropped


def test_frames_asked_for_again_do_not_make_a_slow_reader_the_second_time_either() -> None:
    found = machine()
    found.speak_on(20, True)
    found.lose(0)
    found.resume("none")
    found.read(50, True)
    found.lose(0)
    found.resume("true")
    found.speak_on(1, False)
    found.finish()
    assert not found.client.dropped


def test_unread_replies_do_not_add_up_over_connections() -> None:
    found = machine()
    for _ in range(4):
        found.emotion({}, 0.3, MAX_UNSENT - 10)
        found.lose(0)
        if found.state is State.CLOSED:
            return
        found.resume("true")
        found.always()


def test_a_session_that_is_not_read_ends_after_its_time_too() -> None:
    found = machine({"mode": "file"}, session_s=15.0)
    found.silence(60 * 16_000)
    assert not found.session.wants_input
    found.wait(20)
    assert found.session.state is not State.OPEN
    found.finish()


def test_one_that_has_ended_asks_for_no_more_time() -> None:
    """A timer that is always late would be set again at once, a thousand times a second."""
    found = machine({"mode": "file"}, idle_s=4.0)
    found.silence(20 * 16_000)
    found.end(0)
    assert found.session.state is State.ENDING  # most of its frames have no room yet
    found.wait(60)


def test_an_error_quotes_only_so_much_of_what_was_wrong() -> None:
    found = machine()
    long = "x" * 500_000
    found.refused(json.dumps({"type": "emotion", "weights": {long: 1}}), "bad_emotion")
    found.refused(json.dumps({"type": long}), "bad_message")
    for error in list(found.session.outbox.items)[1:]:
        assert isinstance(error, wire.Error) and len(error.message) <= 2000


def test_single_samples_between_silences_take_no_more_memory_than_others() -> None:
    found = machine()
    for _ in range(5000):
        found.session.receive(b"\1\0", found.now)
        found.session.receive('{"type":"silence","samples":1}', found.now)
    assert len(found.windows.slider.queue.chunks) < 100


def test_unread_replies_of_one_face_share_its_points() -> None:
    found = machine()
    found.identity("a", "a")
    tracemalloc.start()
    try:
        for _ in range(1000):
            found.session.receive('{"type":"identity","id":"a"}', found.now)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("finds", [True, False])
def test_the_end_waits_for_the_face_of_a_picture(finds: bool) -> None:
    found = machine({"mode": "file"})
    found.silence(16_000)
    found.picture("a", "b")
    found.end(0)
    found.drain()
    assert found.session.state is State.ENDING and found.client.next == 30
    found.picture_is_looked_at(finds, "")
    assert found.session.state is State.ENDED
    found.finish()


def test_a_picture_that_is_found_while_nobody_is_there_is_told_who_comes_back() -> None:
    found = machine()
    found.picture("a", "b")
    found.picture("a", "b")  # the same once more
    found.silence(32_000)
    found.reset()
    found.lose(0)
    found.picture_is_looked_at(True, "the mouth was open")
    found.resume("true")
    found.silence(32_000)
    found.finish()


def test_what_comes_later_takes_the_place_of_a_picture() -> None:
    found = machine()
    found.picture("a", "a")
    found.picture("b", "b")
    found.identity("c", "c")
    assert found.session.search is None
    found.picture("a", "d")
    found.identity("nobody", None)  # refused: nothing changes
    assert found.session.search is not None
    found.picture_is_looked_at(True, "")
    found.finish()


def test_a_session_that_is_over_waits_for_no_picture() -> None:
    found = machine(resume_s=0.0)
    found.picture("a", "a")
    search = found.session.search
    assert search is not None
    found.lose(0)
    found.session.found(search, FoundFace(Identity.from_points(NEUTRAL)), found.now)
    assert (
        found.session.state is State.CLOSED and not found.session.identity_search.identities.faces
    )


def test_a_server_that_stops_answers_a_picture_and_ends() -> None:
    found = machine({"mode": "file"})
    found.silence(16_000)
    found.picture("a", "a")
    found.end(0)
    found.session.stop(found.now)
    found.looking = None
    found.owe_error("bad_identity")
    found.drain()
    assert found.session.state is State.ENDED and found.client.end is not None
