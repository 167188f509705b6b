"""One stream as a state machine: messages and times in, messages and windows out.

No socket, no clock, no thread: a shell (websocket.py) moves bytes and tells the time.

::

                 start                  end                all frames sent
      NEW  ----------------->  OPEN  ---------->  ENDING  ----------------->  ENDED
       |  10 s, or an error     |  fatal error      |  fatal error               |  `end` was got
       +------------------------+-------------------+------------------------> CLOSED

======================  =================  =============  ===========
message                 NEW                OPEN           ENDING
======================  =================  =============  ===========
start                   ready              bad_message    bad_message
start with resume       wanted is set      bad_message    bad_message
binary, silence         not_started        time moves     bad_message
emotion, identity       not_started, F     takes effect   bad_message
mark, reset             not_started, F     takes effect   bad_message
end                     not_started, F     ENDING         bad_message, R
anything unreadable     bad_message, F     bad_message    bad_message
======================  =================  =============  ===========

F: fatal, for it answers the first message. Errors leave the session as it was.
R: ignored once the session was resumed, for the client cannot know what of it had arrived.

OPEN, ENDING and ENDED outlive a connection: ``lost`` says that there is none, ``resumed`` that
there is another; in between the session computes what it was given, and is CLOSED ``resume_s``
later. The face of a picture is looked for elsewhere while the session goes on (``search``,
``found``): every `identity` is answered, before the `end`, and the last one that could be is the
face that is shown. A NEW session never does more than ask for another one by its ``wanted``.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, Protocol

import msgspec
from numpy.typing import NDArray

from kfusion import emotion as emotions
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.config import FPS
from kfusion.emotion import EmotionCurve, Vector
from kfusion.errors import (
    BadIdentity,
    BadMessage,
    Busy,
    Idle,
    Internal,
    NotStarted,
    TooFast,
    WireError,
)
from kfusion.landmarks import Identity
from kfusion.life import Life, LoudnessHistory
from kfusion.stream import Slider, Stitcher, Window, latency_ms, sample_of
from server.pictures.request import Answer, FoundFace, Search, set_by
from server.session.identities import Identities
from server.session.outbox import HISTORY, Frames, Outbox
from server.session.playout_clock import Allowance, PlayoutClock
from server.session.rendering import Look, names, ordered

START_S: Final = 10.0  # to the first message
AHEAD_S: Final = 2.0  # live frames are computed at most so long before they are due
LIVE_BACKLOG: Final = 120  # unsent frames of a live reader; older ones are dropped
FILE_BACKLOG: Final = 300  # unsent frames at which a file's audio is no longer read
FILE_AHEAD_S: Final = 10.0  # audio awaiting inference at which no more is read
SLACK_S: Final = 5.0  # by which the engine may be late before live audio is refused
MAX_IN_FLIGHT: Final = 8  # windows of one session at the engine
MAX_MARKS: Final = 1000
OFFERS: Final = 8.0  # of peer connections, each of which costs keys and sockets, at once
MAX_TOLD: Final = 500  # characters of an error, which may quote the client
MAX_UNSENT: Final = 2000  # frames' blocks and replies that a client leaves unread
ERRORS: Final = 100  # so many errors ...
ERRORS_S: Final = 10.0  # ... within this time end a session


class State(Enum):
    NEW = "new"
    OPEN = "open"
    ENDING = "ending"  # no more audio
    ENDED = "ended"  # all is computed; how to close is told once it is sent
    CLOSED = "closed"  # for good


@dataclass(frozen=True)
class Job:
    """A window for the engine. ``deadline`` orders jobs: when its sound was complete, or inf for a
    file's.
    """

    window: Window
    look: Look
    levels: NDArray[Any] | None  # what life hears
    emotion: Vector
    deadline: float
    generation: int


@dataclass(frozen=True)
class Close:
    """How the connection is to be closed once everything is sent."""

    code: int
    reason: str


class Media(Protocol):
    """What brings a session's sound where its connection does not."""

    def flush(self) -> None:
        """Gives at once what it holds back."""

    def skip(self, samples: int) -> None:
        """So much silence came otherwise, and is not to be given again."""


class Session:
    """One client's stream. ``identities`` is what its token, or itself, has put.

    ``admit`` is asked for a place before a stream starts, with the windows a second that it wants
    (0 for a file, which takes what is left), and raises :class:`~kfusion.errors.Busy`.

    ``publish`` is given all frames once they are known, in order, each once, and the time in
    microseconds as it is in a binary message; whether and when they are sent does not matter.
    """

    def __init__(
        self,
        model: wire.Model,
        limits: wire.Limits,
        now: float,
        identities: Identities | None = None,
        name: str | None = None,
        admit: Callable[[float], None] = lambda _: None,
        *,
        has_webrtc: bool = False,
        has_faces: bool = False,
    ) -> None:
        self.model, self.limits, self.admit = model, limits, admit
        self.has_webrtc, self.has_faces = has_webrtc, has_faces
        self.publish: Callable[[Frames, int], None] | None = None
        self.name = name or secrets.token_hex(8)
        self.state = State.NEW
        self.outbox = Outbox("json")
        self.closing: Close | None = None
        self.identities = identities or Identities(limits.identities)
        self.began = now
        self.heard = now
        self.first_ready = now
        self.errors: deque[float] = deque()
        self.told: dict[str, int] = {}  # errors by code
        self.generation = 0
        self.at_engine = 0  # windows, those that a reset took back too
        self.running: deque[Job] = deque()  # the others of them, in order
        self.answers: dict[int, NDArray[Any] | None] = {}  # by window end, those that came early
        self.next_frame = 0  # the next to be put into the outbox
        self.marks: deque[tuple[int, str]] = deque()
        self.live = True
        self.token = ""  # with which a lost connection is resumed, once
        self.wanted: wire.ResumeFrom | None = None  # another session, that the client had
        self.lost_at: float | None = None  # without a connection since
        self.resumptions = 0
        self.most_unsent = MAX_UNSENT
        self.parting = Close(1000, "end")  # how an ended stream is closed
        self.stopping = False
        self.media: Media | None = None  # what brings the sound, where it is not this connection
        self.offered: str | None = None  # by a client that waits for an answer
        self.offers = Allowance(1.0, OFFERS, now)
        self.search: Search | None = None  # the picture whose face the client waits for
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            wire.Start: self._second_start,
            wire.Silence: self._silence,
            wire.SetEmotion: self._emotion,
            wire.SetIdentity: self._identity,
            wire.Mark: self._mark,
            wire.Reset: self._reset,
            wire.EndOfAudio: self._end,
            wire.SdpOffer: self._offer,
        }

    # Messages in

    def receive(self, message: str | bytes, now: float) -> None:
        """One message of the client, at this time."""
        if self.state in (State.ENDED, State.CLOSED):
            return
        self.heard = now
        try:
            self._receive(message, now)
        except WireError as error:
            self._tell(error, now)
        if len(self.outbox.items) > self.most_unsent and self.closing is None:
            unread = BadMessage(f"{MAX_UNSENT} replies were not read; wanted them read")
            self._tell(unread, now, fatal=True)

    def _receive(self, message: str | bytes, now: float) -> None:
        if isinstance(message, bytes):
            if self.state is State.NEW:
                self._tell(NotStarted("audio before start; wanted start first"), now, fatal=False)
                return
            if self.state is State.ENDING:
                raise BadMessage("audio after end; wanted nothing more")
            if self.start.media == "webrtc":
                raise BadMessage("audio on the socket; with media webrtc wanted it on the track")
            self._sound(message, now)
            return
        parsed = wire.parse_client(message)
        if self.state is State.NEW:
            if isinstance(parsed, wire.Start):
                self._start(parsed, now)
                return
            error = NotStarted(f"{type(parsed).__name__} before start; wanted start first")
            self._tell(error, now, fatal=not isinstance(parsed, wire.Silence))
            return
        if self.state is State.ENDING:
            if self.resumptions and isinstance(parsed, wire.EndOfAudio):
                return
            raise BadMessage("a message after end; wanted nothing more")
        self._handlers[type(parsed)](parsed, now)

    def _start(self, start: wire.Start, now: float) -> None:
        if start.resume is not wire.UNSET:
            self.wanted = start.resume
            return
        if start.media == "webrtc":
            if not self.has_webrtc:
                raise BadMessage("start.media: this server has no webrtc; wanted socket")
            if start.mode == "file":
                raise BadMessage("start.mode file with media webrtc; wanted live, or media socket")
            start = msgspec.structs.replace(
                start, audio=wire.AudioFormat(rate=48_000), encoding="binary"
            )
        vector = emotions.vector(start.emotion)
        if isinstance(start.identity, wire.IdentityPoints):
            identity, name = Identity.from_points(start.identity.points), None
        else:
            identity, name = self.identities[start.identity], start.identity
        self.admit(FPS / start.hop if start.mode == "live" else 0.0)
        self.start = start
        self.identity_id = name
        life = Life(start.seed, start.life) if start.life else None
        self.look = Look(identity, ordered(start.outputs), life)
        self.hearing = LoudnessHistory()
        self.emotion = EmotionCurve(vector)
        self.slider = Slider(start.audio.rate, start.hop, start.lookahead)
        self.stitcher = Stitcher(start.hop, start.lookahead)
        self.clock = PlayoutClock(start.audio.rate)
        self.live = start.mode == "live"
        self.outbox.encoding = "pairs" if start.media == "webrtc" else start.encoding
        self.state = State.OPEN
        self.first_ready = now
        self.outbox.put(self._ready(0))

    def _ready(self, n: int) -> wire.Ready:
        """What a client is told that has all frames below ``n``; with a new token."""
        self.token = secrets.token_urlsafe(16)
        return wire.ready(
            self.start,
            session=self.name,
            resume=self.token,
            audio_position=self.slider.received,
            n=n,
            model=self.model,
            emotion=emotions.named(self.emotion.target),
            identity=self.identity_id,
            limits=self.limits,
            outputs=names(self.start.outputs),
            latency_ms=latency_ms(self.start.audio.rate, self.start.hop, self.start.lookahead),
        )

    def _second_start(self, _: wire.Start, now: float) -> None:
        raise BadMessage("a second start; wanted one start a connection")

    def _offer(self, offer: wire.SdpOffer, now: float) -> None:
        if self.start.media != "webrtc":
            raise BadMessage("offer: only with media webrtc, which start did not ask for")
        if self.offered is not None:
            raise BadMessage("a second offer before the answer; wanted one at a time")
        if self.offers.spend(1.0, now):
            raise BadMessage(
                f"more than {OFFERS:.0f} offers at once; wanted one a second after those"
            )
        self.offered = offer.sdp

    def answered(self, answer: str | WireError, now: float) -> None:
        """The offer is answered, or why it is not."""
        self.offered = None
        if isinstance(answer, WireError):
            self._tell(answer, now)
        elif self.closing is None:
            self.outbox.put(wire.SdpAnswer(answer))

    def hear(self, sound: bytes | int, now: float) -> None:
        """Sound of the media track: PCM, or samples of silence where it did not come."""
        if self.state is not State.OPEN:
            return
        self.heard = now
        try:
            if isinstance(sound, int):
                self._quiet(sound, now)
            else:
                self._sound(sound, now)
        except WireError as error:
            self._tell(error, now)

    def _sound(self, pcm: bytes, now: float) -> None:
        audio = self.start.audio
        samples = decode_pcm(pcm, audio.format, audio.channels)
        self._admit(len(samples), now, silent=False)
        self.slider.push(samples)

    def _silence(self, silence: wire.Silence, now: float) -> None:
        most = 60 * self.slider.rate
        if silence.samples > most:
            raise BadMessage(f"silence.samples is {silence.samples}; wanted at most {most} (60 s)")
        self._quiet(silence.samples, now)
        if self.media is not None:
            self.media.skip(silence.samples)

    def _quiet(self, samples: int, now: float) -> None:
        self._admit(samples, now, silent=True)
        self.slider.push_silence(samples)

    def _admit(self, samples: int, now: float, *, silent: bool) -> None:
        """Counts a message's samples, or refuses it whole."""
        if not samples:
            return
        if self.live:
            rate = self.slider.rate
            ahead = self.clock.end_with(samples, now, silent=silent) - now - AHEAD_S
            # Late silence is never ahead of its time; what waits for the engine is bounded too.
            behind = (self.slider.waiting + samples) / rate - AHEAD_S - SLACK_S
            held = max(ahead, behind)
            if held > self.limits.held_s + 1e-6:
                raise TooFast(
                    f"{samples} samples more would make {held:.2f} s of audio held for later; "
                    f"wanted at most {self.limits.held_s:g} s"
                )
        self.clock.add(samples, now, silent=silent)

    def _emotion(self, message: wire.SetEmotion, now: float) -> None:
        vector = emotions.vector(message.weights)
        n = self.slider.total
        self.emotion.start(n, vector, message.ramp * FPS)
        self.outbox.put(wire.EmotionSet(emotions.named(vector), n, message.ramp))

    def _identity(self, message: wire.SetIdentity, now: float) -> None:
        if message.image is not wire.UNSET:
            self._look_for(message.id, message.image, now)
            return
        if message.points is not wire.UNSET:
            self.identities.put(message.id, Identity.from_points(message.points))
        face = FoundFace(self.identities[message.id])
        if self._supersede(now):
            self._show(message.id, face)

    def _show(self, name: str, face: FoundFace) -> None:
        self.identity_id = name
        self.look = replace(self.look, identity=face.identity)
        n = max(self.next_frame, self.slider.next_first)
        self.outbox.put(set_by(name, n, face))

    def _look_for(self, name: str, image: str, now: float) -> None:
        if not self.has_faces:
            raise BadMessage(
                "identity.image: this server finds no faces (its operator installs that by pip "
                "install 'kfusion[face]'); wanted points"
            )
        search = Search.asked(name, image)
        self.identities.check(name)
        # The same once more, as after a lost connection, has one answer.
        if search != self.search and self._supersede(now):
            self.search = search

    def _supersede(self, now: float) -> bool:
        """A later identity takes the place of one whose face is still being looked for; whether
        the session lives on.
        """
        if self.search is not None:
            name, self.search = self.search.name, None
            later = BadIdentity(
                f"identity {name!r}: a later identity came before its face was found; wanted this "
                "one answered first, or sent again"
            )
            self._tell(later, now)
        return self.state is not State.CLOSED

    def found(self, search: Search, said: Answer, now: float) -> None:
        """What came of a picture; nothing happens where it is not waited for any more."""
        if search is not self.search or self.state not in (State.OPEN, State.ENDING):
            return
        self.search = None
        try:
            if isinstance(said, WireError):
                raise said
            self.identities.put(search.name, said.identity)
            self._show(search.name, said)
        except WireError as error:
            self._tell(error, now)
        self._finish_if_done()

    def _mark(self, mark: wire.Mark, now: float) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise BadMessage(f"{MAX_MARKS} marks are waiting; wanted audio or silence before more")
        self.marks.append((self.slider.total, mark.id))
        self._echo_marks()

    def _echo_marks(self) -> None:
        while self.marks and self.marks[0][0] <= self.next_frame:
            n, name = self.marks.popleft()
            self.outbox.put(wire.MarkReached(name, n))

    def _reset(self, _: wire.Reset, now: float) -> None:
        position = self.slider.received
        n = self.slider.reset()
        self.outbox.drop_all(self.next_frame, n, "reset")
        self.generation += 1
        self.running.clear()
        self.answers.clear()
        self.stitcher.reset(n, self.outbox.last_sent)
        self.hearing.reset()
        self.clock.interrupt(now)
        self.next_frame = n
        self._echo_marks()
        self.outbox.put(wire.ResetDone(n, position))

    def _end(self, _: wire.EndOfAudio, now: float) -> None:
        if self.media is not None:
            self.media.flush()
        self.slider.finish()
        self.state = State.ENDING
        self._finish_if_done()

    # Windows out, frames in

    @property
    def has_work(self) -> bool:
        """Whether a window's sound is in and there is room for what will be said of it."""
        if self.state not in (State.OPEN, State.ENDING) or not self.slider.ready:
            return False
        if not self.live and (
            self.outbox.waiting + len(self.running) * self.slider.hop >= FILE_BACKLOG
        ):
            return False
        return self.at_engine < MAX_IN_FLIGHT

    def take_window(self, now: float) -> Job | None:
        """The next window to run, if its sound is in and its time has come."""
        if not self.has_work:
            return None
        deadline = float("inf")
        if self.live:
            due = self._due()
            if now < due - AHEAD_S and not self.stopping:
                return None
            deadline = self._complete_at(due)
        window = self.slider.take()
        if window is None:
            return None
        emotion = self.emotion.at(window.last - 1)
        self.emotion.forget(window.first)
        self.clock.forget(sample_of(window.first, self.slider.rate))
        levels = self.hearing.push(window) if self.look.life else None
        job = Job(window, self.look, levels, emotion, deadline, self.generation)
        self.running.append(job)
        self.at_engine += 1
        return job

    def _complete_at(self, due: float) -> float:
        """When the last of the next window's sound is spoken, or came, if it came late: silence
        that makes up for a gap is due long before.
        """
        slider = self.slider
        spoken = due + (slider.lookahead + 1) / FPS + slider.delay / slider.rate
        needed = sample_of(slider.next_end, slider.rate) + slider.delay
        return max(spoken, self.clock.arrived(needed))

    def _due(self) -> float:
        """When the last frame of the next window is spoken."""
        return self.clock.due(sample_of(self.slider.next_last - 1, self.slider.rate))

    def wants(self, job: Job) -> bool:
        """Whether anything will come of a window: not after a reset, or the end."""
        return job.generation == self.generation and self.state is not State.CLOSED

    def complete(self, job: Job, said: NDArray[Any] | None, now: float) -> None:
        """What the engine said of a window, (30, 68, 2), or None where it gave the window up for
        being too late; in any order.
        """
        self.at_engine -= 1
        if not self.wants(job):
            return
        self.answers[job.window.end] = said
        while self.running and self.running[0].window.end in self.answers:
            first = self.running.popleft()
            self._put(first, self.answers.pop(first.window.end), now)
        self._bound_backlog()
        self._finish_if_done()

    def _put(self, job: Job, said: NDArray[Any] | None, now: float) -> None:
        """A window's frames, or word that they will not come, with the marks among them."""
        window, frames = job.window, None
        if said is not None:
            frames = Frames(window.first, self.stitcher.push(window, said), job.look, job.levels)
        while self.next_frame < window.last:
            end = max(
                self.next_frame, min(window.last, self.marks[0][0] if self.marks else 1 << 62)
            )
            if frames is None:
                self.outbox.give_up(self.next_frame, end, "overload")
            else:
                part, frames = frames.split(end - self.next_frame)
                self.outbox.put_frames(part)
                if self.publish is not None and len(part):
                    self.publish(part, self._clock_us(now))
            self.next_frame = end
            self._echo_marks()

    def _bound_backlog(self) -> None:
        if not self.live:  # take_window bounds it
            return
        outbox = self.outbox
        if self.lost_at is not None:
            outbox.drop_oldest(max(0, outbox.waiting - HISTORY), "resume")
        else:  # What was asked for again comes at once; the reader is not slow for that.
            outbox.drop_oldest(max(0, outbox.waiting - LIVE_BACKLOG - outbox.owed), "slow_reader")

    def _finish_if_done(self) -> None:
        if self.state is not State.ENDING or self.search is not None:
            return
        if self.next_frame >= self.slider.total:
            self._echo_marks()
            self.outbox.put(wire.End(0, 0, self.slider.received / self.slider.rate))
            self.state, self.closing = State.ENDED, self.parting

    # Ends

    def stop(self, now: float) -> None:
        """The server is going: what was received is finished at once, and that is the end."""
        self.parting, self.stopping = Close(1001, "the server is stopping"), True
        if self.state is State.NEW:
            self.fail(Busy("the server is stopping", 5), now)
        elif self.state in (State.OPEN, State.ENDING):
            if self.search is not None:
                self.found(self.search, BadIdentity("the server is stopping"), now)
            if self.state is State.OPEN:
                self._end(wire.EndOfAudio(), now)

    def fail(self, error: WireError, now: float) -> None:
        """A fatal error from outside the session: busy, unauthorized, internal."""
        if self.state not in (State.ENDED, State.CLOSED):
            self._tell(error, now, fatal=True)

    def _tell(self, error: WireError, now: float, *, fatal: bool | None = None) -> None:
        self.errors.append(now)
        while self.errors and self.errors[0] <= now - ERRORS_S:
            self.errors.popleft()
        if fatal is None:  # an error in answer to the first message ends the session
            fatal = error.fatal or self.state is State.NEW
        fatal = fatal or len(self.errors) >= ERRORS
        self.told[error.code] = self.told.get(error.code, 0) + 1
        retry = error.retry_after_s if isinstance(error, Busy) else wire.UNSET
        self.outbox.put(wire.Error(error.code, str(error)[:MAX_TOLD], fatal, retry))
        if fatal:
            reason = str(error.retry_after_s) if isinstance(error, Busy) else error.code
            self.state, self.closing = State.CLOSED, Close(error.close_code, reason)

    def lost(self, now: float) -> None:
        """There is no connection; what can be resumed waits for another one."""
        if self.state is State.NEW or self.limits.resume_s <= 0:
            self.state = State.CLOSED
        if self.state is not State.CLOSED:
            self.lost_at = now
            self._bound_backlog()

    def resumed(self, wanted: wire.ResumeFrom, now: float) -> None:
        """Another connection goes on: answers it ``ready``, then all that it has not got.

        Raises :class:`~kfusion.errors.BadMessage`, and changes nothing, if frames were not sent
        that the client says it has.
        """
        unsent = len(self.outbox.items)
        self.outbox.rewind(wanted.next)
        self.outbox.items.appendleft(self._ready(wanted.next))
        self.offered = None  # of the connection that was: what is negotiated begins anew
        self.lost_at = None
        self.heard = now
        self.resumptions += 1
        self.most_unsent = MAX_UNSENT + max(0, len(self.outbox.items) - unsent)

    def tick(self, now: float) -> None:
        """Ends what has waited too long."""
        if self.lost_at is not None:
            if now >= self.lost_at + self.limits.resume_s:
                self.state = State.CLOSED
        elif self.state is State.NEW and now >= self.began + START_S:
            self.fail(NotStarted(f"no start within {START_S:.0f} s; wanted start first"), now)
        elif self.state is State.OPEN and now >= self.began + self.limits.session_s:
            self.receive(wire.encode(wire.EndOfAudio()), now)
        elif self.state is State.OPEN and not self.wants_input:
            self.heard = now  # nothing can be heard from a client that is not read from
        elif self.state is State.OPEN and now >= self._idle_at():
            self.fail(Idle(f"nothing received for {self.limits.idle_s:g} s"), now)

    def _idle_at(self) -> float:
        if not self.wants_input:
            return float("inf")
        return max(self.heard, self.clock.end or 0.0) + self.limits.idle_s

    def wake_at(self) -> float:
        """When the shell should call ``tick`` and ``take_window`` again, at the latest."""
        if self.state is State.NEW:
            return self.began + START_S
        if self.state is State.CLOSED:
            return float("inf")
        if self.lost_at is not None:
            at = self.lost_at + self.limits.resume_s
        elif self.state is State.OPEN:
            at = min(self._idle_at(), self.began + self.limits.session_s)
        else:
            at = float("inf")
        if self.live and self.slider.ready and self.at_engine < MAX_IN_FLIGHT:
            at = min(at, self._due() - AHEAD_S)
        return at

    @property
    def wants_input(self) -> bool:
        """Whether the shell should read: always when live, within bounds for a file."""
        if self.state is not State.OPEN or self.live:
            return True
        waiting = self.slider.waiting / self.slider.rate
        return waiting < FILE_AHEAD_S and self.outbox.waiting < FILE_BACKLOG

    def give_up_frames(self) -> None:
        """There is nothing left that would carry them."""
        self.outbox.blocks.clear()
        self.outbox.drop_oldest(self.outbox.waiting, "slow_reader")

    def next_message(self, now: float, *, room: bool = True) -> str | bytes | None:
        """The next message to send, or None; then, if ``closing`` is set, close.

        Without ``room`` for frames they wait, and most of what is behind them with them.
        """
        return self.outbox.pop(self._clock_us(now), frames=room)

    def _clock_us(self, now: float) -> int:
        return max(0, round((now - self.first_ready) * 1e6))


def internal(error: BaseException) -> Internal:
    """A server's own fault, as the client is told it."""
    return Internal(f"the server failed ({type(error).__name__}); try again")
