"""A session, its engine and its client, and what the protocol says of their state: the ground on
which the rules of the session machine stand.
"""

from collections import deque
from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize
from numpy.typing import NDArray

from kfusion import wire
from kfusion.config import SAMPLE_RATE, WINDOW
from kfusion.emotion import EMOTIONS
from kfusion.landmarks import NEUTRAL
from kfusion.stream import HOPS
from server.session.session import MAX_UNSENT, START_S, Session
from server.session.states import State
from server.session.summary import ERRORS_S, MAX_ERRORS
from server.session.windows import AHEAD_S, SLACK_S, Job, WindowScheduler
from tests.server.session.expected_output import Client, ExpectedEmotion, Sound

FACES: Final = {name: NEUTRAL * size + 5 for name, size in zip("abcd", (1, 2, 0.5, 3), strict=True)}
SUCCESSORS: Final = {
    State.NEW: {State.OPEN, State.CLOSED},
    State.OPEN: {State.ENDING, State.ENDED, State.CLOSED},  # no frame left to wait for: ENDED
    State.ENDING: {State.ENDED, State.CLOSED},
    State.ENDED: {State.CLOSED},
    State.CLOSED: set[State](),
}
PLAIN: Final[dict[str, Any]] = {
    "type": "start",
    "audio": {"rate": 16_000, "channels": 1, "format": "s16le"},
    "encoding": "binary",
    "outputs": ["points"],
    "mode": "live",
    "hop": 3,
    "lookahead": 3,
    "identity": "neutral",
    "emotion": {},
}
WEIGHTS: Final = st.dictionaries(
    st.sampled_from(EMOTIONS), st.sampled_from([0.0, 0.05, 0.125]), max_size=8
)
LIMITS: Final = st.builds(
    wire.Limits,
    held_s=st.sampled_from([60.0, 3.0]),
    idle_s=st.sampled_from([300.0, 300.0, 300.0, 4.0]),
    session_s=st.sampled_from([86_400.0, 86_400.0, 86_400.0, 15.0]),
    resume_s=st.sampled_from([30.0, 30.0, 30.0, 8.0, 0.0]),
    identities=st.sampled_from([64, 2]),
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
        "outputs": draw(st.sampled_from([["points"], ["points"], ["vrm", "points"]])),
        "mode": draw(st.sampled_from(["live", "file"])),
        "hop": hop,
        "lookahead": draw(st.integers(0, min(29, 30 - hop))),
        "identity": draw(st.sampled_from(["neutral", *FACES])),  # sent as the points of that one
        "emotion": draw(WEIGHTS),
    }


def engine_output(job: Job) -> NDArray[np.float32]:
    """Point 0 moves by the window's number, so that frames differ; the others do not move."""
    output = np.zeros((30, 68, 2), np.float32)
    output[:, 0] = job.window.end % 7
    return output


class Model(RuleBasedStateMachine):
    """A session, its engine, the connection and the client."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rng = np.random.default_rng(0)

    @initialize(limits=LIMITS, first=st.one_of(st.none(), *[starts()] * 7))
    def begin(self, limits: wire.Limits, first: dict[str, Any] | None) -> None:
        self.session = Session(wire.Model("test", ""), limits, self.now, has_faces=True)
        self.picture: tuple[str, str] | None = None  # searched: its id, and whose face it shows
        self.limits, self.created_at, self.received_at = limits, self.now, self.now
        self.client = Client()
        self.in_transit: deque[Any] = deque()  # sent, and not yet with the client
        self.engine: deque[tuple[int, Job]] = deque()  # with the resets there had been
        self.resets = self.computed = self.computed_before_resume = self.slow = 0
        self.quick = True  # the engine answers at once
        self.connected, self.resumptions = True, 0
        self.state = State.NEW
        self.received = self.taken = self.sent = 0  # samples; frames in windows; frames sent
        self.due_end: float | None = None  # when all that was sent is spoken
        self.errors: deque[float] = deque()
        self.stored: dict[str, Any] = {}
        self.ended = False
        self.fields: dict[str, Any] = {}  # of the start
        if first is not None:
            self.start(first)

    def start(self, fields: dict[str, Any]) -> None:
        raise NotImplementedError

    # What the model knows

    @property
    def windows(self) -> WindowScheduler:
        assert self.session.stream is not None
        return self.session.stream.windows

    @property
    def rate(self) -> int:
        return int(self.fields["audio"]["rate"])

    @property
    def live(self) -> bool:
        return self.fields["mode"] == "live"

    @property
    def total(self) -> int:
        return -(-self.received * 30 // self.rate)

    @property
    def samples_waiting(self) -> int:
        return self.received - min(self.received, self.taken * self.rate // 30)

    @property
    def spoken_at(self) -> float:
        return max(self.received_at, self.due_end or 0.0)

    def spoken_until(self, samples: int, *, silent: bool) -> float:
        begin = self.now if self.due_end is None else self.due_end
        return (begin if silent else max(self.now, begin)) + samples / self.rate

    def too_fast(self, samples: int, *, silent: bool) -> bool | None:
        """Whether so much is refused; None where a rounding could tell."""
        if not self.live:
            return False
        ahead = self.spoken_until(samples, silent=silent) - self.now - AHEAD_S
        behind = (self.samples_waiting + samples) / self.rate - AHEAD_S - SLACK_S
        held = max(ahead, behind)
        if abs(held - self.limits.held_s) < 1e-4:
            return None
        return held > self.limits.held_s

    def may_put(self, name: str, face: str | None) -> bool:
        if name == "neutral":
            return face is None
        if face is None or name in self.stored:
            return name in self.stored and face in (None, self.stored[name])
        return len(self.stored) < self.limits.identities

    @property
    def unread(self) -> bool:
        """Whether the client is told that it reads too little, which it then is."""
        last = self.session.outbox.items[-1] if self.session.outbox.items else None
        return (
            isinstance(last, wire.Error)
            and "were not read" in last.message
            and len(self.session.outbox.items) > MAX_UNSENT
        )

    def snapshot(self) -> Any:
        """All of a session that a refused message must not change."""
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

    # Messages in

    def give(self, message: str | bytes) -> None:
        self.session.receive(message, self.now)
        self.received_at = self.now
        self.step()

    def give_sound(self, message: str | bytes, samples: int, *, silent: bool) -> None:
        if samples:
            self.due_end = self.spoken_until(samples, silent=silent)
        self.received += samples
        self.give(message)
        assert self.windows.slider.received == self.received
        end = self.windows.clock.end
        assert (end is None) == (self.due_end is None)
        assert abs((end or 0.0) - (self.due_end or 0.0)) < 1e-3

    def refused(self, message: str | bytes, code: str, *, fatal: bool = False) -> None:
        """A message that is answered by an error and changes nothing else."""
        before = self.snapshot()
        self.session.receive(message, self.now)
        self.received_at = self.now
        self.expect_error(code, fatal=fatal)
        if self.session.state is not State.CLOSED:
            assert self.snapshot() == before, f"{message!r} changed the session"
        self.step()

    def ignored(self, message: str | bytes) -> None:
        before, replies = self.snapshot(), len(self.session.outbox.items)
        self.session.receive(message, self.now)
        assert (self.snapshot(), len(self.session.outbox.items)) == (before, replies)
        self.received_at = self.now
        self.step()

    def refused_or_ignored(self, message: str | bytes, code: str = "not_started") -> bool:
        """Gives the message in a state in which it has no effect; false if it is open."""
        state = self.session.state
        if state is State.NEW:
            sound = isinstance(message, bytes) or '"silence"' in message
            self.refused(message, code, fatal=not (sound and code == "not_started"))
        elif state is State.ENDING:
            self.refused(message, "bad_message")
        elif state in (State.ENDED, State.CLOSED):
            self.ignored(message)
        return state is not State.OPEN

    def count_error(self) -> bool:
        """Counts an error; whether there were too many lately."""
        self.errors.append(self.now)
        while self.errors[0] <= self.now - ERRORS_S:
            self.errors.popleft()
        return len(self.errors) >= MAX_ERRORS

    def expect_error(self, code: str, *, fatal: bool = False) -> None:
        fatal = self.count_error() or fatal
        self.client.replies.expect(wire.Error(code, "", fatal))
        if fatal:
            closing = self.session.closing
            assert closing is not None and (closing.code, closing.reason) == (4400, code)
        assert (self.session.state is State.CLOSED) is fatal or self.unread

    def expect_identity(self, name: str, note: str = "") -> None:
        """An identity is answered, and is that of every window from now on."""
        points = NEUTRAL if name == "neutral" else FACES[self.stored[name]]
        n = self.windows.slider.next_first if self.ended else self.taken
        self.faces.append((n, points))
        pairs = [(float(x), float(y)) for x, y in points]
        self.client.replies.expect(wire.IdentitySet(name, n, pairs, note or wire.UNSET))

    # The engine

    def step(self) -> None:
        """What a shell does after every call: windows to the engine, and back."""
        while True:
            self.session.tick(self.now)
            self.check_state()
            while (job := self.session.take_window(self.now)) is not None:
                self.check_job(job)
                self.engine.append((self.resets, job))
            if not (self.quick and self.engine):
                break
            self.complete_job()
            self.check_state()
        assert self.session.wake_at() > self.now, "asks to be woken in the past, for ever"

    def complete_job(self, *, given_up: bool = False) -> None:
        """The engine's output for one window, or that it came too late."""
        resets, job = self.engine.popleft()
        if resets == self.resets:
            self.computed = job.window.last
        self.session.complete(job, None if given_up else engine_output(job), self.now)
        self.check_that_only_a_slow_reader_loses_frames()

    def check_that_only_a_slow_reader_loses_frames(self) -> None:
        raise NotImplementedError

    def check_job(self, job: Job) -> None:
        window = job.window
        first, last = self.taken, window.end - self.fields["lookahead"]
        assert (window.first, window.last) == (first, min(last, self.total) if self.ended else last)
        assert first < window.last <= first + self.fields["hop"]
        assert window.audio.shape == (WINDOW,)
        slider = self.windows.slider
        assert self.ended or window.end * self.rate // 30 + slider.delay <= self.received
        if self.live and self.due_end is not None:
            spoken_for = (self.fields["lookahead"] + 1) / 30 + slider.delay / self.rate
            assert self.now >= job.deadline - spoken_for - AHEAD_S - 1e-6
        np.testing.assert_allclose(job.emotion, self.emotions.at(window.last - 1), atol=1e-6)
        assert np.array_equal(job.rendering.identity.points, self.faces[-1][1])
        if self.rate == SAMPLE_RATE:
            sound = self.sound.window(window.end * SAMPLE_RATE // 30)
            np.testing.assert_allclose(window.audio, sound, atol=1e-6)
        self.taken = window.last

    def begin_stream(self, fields: dict[str, Any]) -> None:
        """The session is to be open with this start."""
        self.fields = fields
        self.emotions, self.sound = ExpectedEmotion(fields["emotion"]), Sound()
        self.faces = [(0, FACES.get(fields["identity"], NEUTRAL))]
        self.client.ready = (0, 0)

    # The state

    def check_state(self) -> None:
        """Only along the arrows of the picture; without a message only for the known reasons."""
        state = self.session.state
        if state is self.state:
            return
        assert state in SUCCESSORS[self.state], f"{self.state} -> {state}"
        if state in (State.ENDING, State.ENDED) and not self.ended:
            assert self.now >= self.created_at + self.limits.session_s
            self.ended = True
        if state is State.ENDED:
            assert self.picture is None, "ended before all was answered"
        self.state = state
        self.expect_unasked_error()

    def expect_unasked_error(self) -> None:
        """A fatal error that answers no message."""
        if self.state is not State.CLOSED or self.session.closing is None:
            return
        items = self.session.outbox.items
        last = items[-1] if items else None
        expected = sum(isinstance(r.message, wire.Error) for r in self.client.replies.expected)
        present = sum(isinstance(m, wire.Error) for m in (*self.in_transit, *items))
        if present == expected or not isinstance(last, wire.Error):
            return
        reasons = {
            "idle": self.now >= self.spoken_at + self.limits.idle_s - 1e-6,
            "not_started": self.now >= self.created_at + START_S,
            "bad_message": self.unread,
        }
        assert last.fatal and reasons.get(last.code), f"ended without a message: {last}"
        self.client.replies.expect(wire.Error(last.code, "", True))
