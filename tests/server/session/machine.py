"""The session machine: all that can happen to a session, in any order, against a client that knows
only the protocol.

Every message in every state, time, an engine that answers late or gives windows up, a slow reader,
lost connections with messages still in transit.
"""

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from kfusion import wire
from kfusion.emotion import EMOTIONS
from kfusion.errors import BadMessage
from server.session.history import HISTORY, MAX_HISTORY
from server.session.session import MAX_UNSENT, START_S
from server.session.states import State
from server.session.summary import MAX_ERRORS
from server.session.windows import (
    AHEAD_S,
    FILE_AHEAD_S,
    FILE_BACKLOG,
    LIVE_BACKLOG,
    MAX_IN_FLIGHT,
    MAX_MARKS,
    SLACK_S,
)
from tests.conftest import decoded
from tests.server.session.machine_messages import MessageRules
from tests.server.session.machine_model import PLAIN

RESUMABLE: Final = (State.OPEN, State.ENDING, State.ENDED)
MAX_ITEMS: Final = MAX_UNSENT + MAX_HISTORY + 10  # unread, and those that came again
ALL: Final = 5000  # more messages than there are


class Machine(MessageRules):
    # Time, the engine, the reader

    @precondition(lambda self: self.state is not State.CLOSED)
    @rule(seconds=st.one_of(st.floats(0, 0.2), st.floats(0, 5), st.floats(0, 40)))
    def wait(self, seconds: float) -> None:
        """Lets time pass as a shell does that calls again when it was asked to."""
        until = self.now + seconds
        while (at := max(self.session.wake_at(), self.now + 0.001)) <= until:
            self.now = at
            self.step()
        self.now = until
        self.step()
        if self.state is State.OPEN and self.connected:
            assert self.now < self.created_at + self.limits.session_s
            assert self.now - self.spoken_at < self.limits.idle_s + 0.01 or not self.live
        if self.state is State.NEW:
            assert self.now < self.created_at + START_S

    @precondition(lambda self: self.can_send_open())
    @rule(seconds=st.integers(1, 50), reads=st.booleans())
    def speak_on(self, seconds: int, reads: bool) -> None:
        """At the pace of speech."""
        for k in range(seconds):
            if self.can_send_open():
                self.audio(self.rate // 2, False)
                self.silence(self.rate - self.rate // 2)
                if k % 4 == 0:
                    self.mark(f"second {k}", 1)
                self.wait(1.0)
                self.read(ALL * reads, True)

    @rule(given_up=st.lists(st.booleans(), min_size=1, max_size=8), quick=st.booleans())
    def engine_answers(self, given_up: list[bool], quick: bool) -> None:
        """Windows are answered; some are given up, as those of a live stream that are too late."""
        self.quick = quick
        for late in given_up[: len(self.engine)]:
            self.complete_job(given_up=late and self.live)
        self.step()

    @precondition(lambda self: self.connected)
    @rule(count=st.sampled_from([1, 5, 50, ALL]), arrive=st.booleans())
    def read(self, count: int, arrive: bool) -> None:
        for _ in range(count):
            message = self.session.next_message(self.now)
            if message is None:
                break
            sent = decoded(message)
            if isinstance(sent, wire.FrameBlock):
                self.sent = sent.first + len(sent.values)
            elif isinstance(sent, wire.Frame):
                self.sent = sent.n + 1
            elif isinstance(sent, wire.Dropped):
                self.sent = sent.first + sent.count
            self.in_transit.append(sent)
            self.step()  # there is room for more
        if arrive:
            self.arrive(len(self.in_transit))

    @rule(count=st.integers(1, 40))
    def arrive(self, count: int) -> None:
        for _ in range(min(count, len(self.in_transit))):
            self.client.take(self.in_transit.popleft())

    # The connection

    @precondition(lambda self: self.connected)
    @rule(arrive=st.integers(0, 9))
    def lose(self, arrive: int) -> None:
        """The connection breaks; of what was in transit only some arrives."""
        if arrive % 2:
            self.read(ALL, False)
        self.arrive(arrive)
        resumable = self.state in RESUMABLE and self.limits.resume_s > 0
        self.lose_messages()
        self.session.disconnected(1006, self.now)
        self.connected = False
        assert (self.session.state is not State.CLOSED) is resumable
        if not resumable:
            self.state = State.CLOSED
        self.step()

    @precondition(lambda self: self.connected and self.state in RESUMABLE)
    @rule(
        arrive=st.integers(0, 9),
        seconds=st.floats(0, 7),
        place=st.sampled_from(["true", "true", "true", "half", "none", "beyond"]),
    )
    def lose_and_resume(self, arrive: int, seconds: float, place: str) -> None:
        self.lose(arrive)
        self.wait(seconds)
        if self.state in RESUMABLE:
            self.resume(place)

    def lose_messages(self) -> None:
        self.client.replies.lose_errors(sum(isinstance(m, wire.Error) for m in self.in_transit))
        self.in_transit.clear()

    @precondition(lambda self: self.state in RESUMABLE)
    @rule(place=st.sampled_from(["true", "true", "half", "none", "beyond"]))
    def resume(self, place: str) -> None:
        """Another connection, also beside one that seems to live."""
        next_ = {
            "true": self.client.next,
            "half": self.client.next // 2,
            "none": 0,
            "beyond": self.sent + 1,
        }[place]
        request = wire.ResumeFrom(self.session.token, next_)
        if place == "beyond":
            before = self.snapshot()
            with pytest.raises(BadMessage):
                self.session.resumed(request, self.now)
            assert self.snapshot() == before
            return
        self.lose_messages()
        history = self.session.outbox.history
        if len(history.items) >= MAX_HISTORY or next_ < history.start:
            self.client.replies.complete = self.client.marks.complete = False
        self.session.resumed(request, self.now)
        self.client.rewind(next_)
        self.client.ready = (next_, self.received)
        self.sent, self.received_at = next_, self.now
        self.computed_before_resume = self.computed
        self.connected = True
        self.resumptions += 1
        first = self.session.outbox.items[0]
        assert isinstance(first, wire.Ready)
        target = dict(zip(EMOTIONS, map(float, self.emotions.target), strict=True))
        assert first.emotion == pytest.approx(target, abs=1e-6)
        self.step()

    # What always holds

    @invariant()
    def always(self) -> None:
        self.check_queues()
        self.check_that_a_file_is_read_exactly_while_there_is_room()
        self.check_that_frames_have_the_expected_face()

    def check_queues(self) -> None:
        session, outbox = self.session, self.session.outbox
        assert len(outbox.items) <= MAX_ITEMS
        assert len(outbox.history.items) <= MAX_HISTORY and outbox.history.frames <= HISTORY
        assert len(session.errors.recent) <= MAX_ERRORS
        assert len(self.engine) <= MAX_IN_FLIGHT, "windows at the engine"
        if not self.fields:
            return
        assert len(self.windows.marks) <= MAX_MARKS
        counted = outbox.sent + outbox.total_dropped + outbox.waiting
        assert counted == self.windows.next_frame, "each frame once"
        assert outbox.resent <= outbox.waiting
        assert len(session.identity_search.identities.faces) <= self.limits.identities
        if self.live:
            held = AHEAD_S + SLACK_S + self.limits.held_s
            assert self.windows.slider.waiting <= (held + 1e-3) * self.rate
            assert outbox.waiting <= max(HISTORY, LIVE_BACKLOG + outbox.resent) <= 3 * HISTORY
        else:
            most = FILE_BACKLOG + MAX_IN_FLIGHT * self.fields["hop"] + outbox.resent
            assert outbox.waiting <= most and not set(outbox.dropped) - {"reset", "resume"}

    def check_that_only_a_slow_reader_loses_frames(self) -> None:
        """Not one that gets at once everything that was computed while it was away."""
        slow = self.session.outbox.dropped.get("slow_reader", 0)
        if slow > self.slow:
            waiting = self.session.outbox.waiting
            from_before = max(0, self.computed_before_resume - (self.computed - waiting))
            assert waiting - from_before >= LIVE_BACKLOG, "dropped before they could be read"
        self.slow = slow

    def check_that_a_file_is_read_exactly_while_there_is_room(self) -> None:
        if self.state is not State.OPEN:
            assert self.session.wants_input
            return
        room = (
            self.samples_waiting < FILE_AHEAD_S * self.rate
            and self.session.outbox.waiting < FILE_BACKLOG
        )
        assert self.session.wants_input is (self.live or room)

    def check_that_frames_have_the_expected_face(self) -> None:
        """But for point 0, which the engine moves."""
        for n in (self.client.next - 1, self.client.next // 2):
            if n in self.client.frames:
                face = [points for first, points in self.faces if first <= n][-1]
                points = np.frombuffer(self.client.frames[n], np.float32).reshape(68, 2)
                assert np.array_equal(points[1:], face.astype(np.float32)[1:]), n

    # The end

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.finish()

    def finish(self) -> None:
        """Everything that is expected comes, and what ``end`` counts is true."""
        if self.state is State.CLOSED:
            if self.connected:
                self.drain()
                assert self.session.closing is not None and self.client.fatal
            return
        if self.state is State.NEW:
            return
        if not self.connected:
            self.resume("true")
        self.engine_answers([False] * len(self.engine), True)
        self.drain()
        if self.picture is not None:
            self.finish_search(True, "")
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
            assert not (replies.expected and replies.complete), "never came"

    def drain(self) -> None:
        while self.session.outbox.items or self.in_transit:
            self.read(ALL, True)


def machine(first: dict[str, Any] | None = None, **limits: Any) -> Machine:
    """A machine that is driven by hand, with its session open."""
    made = Machine()
    made.begin(wire.Limits(**limits), {**PLAIN, **(first or {})})
    return made
