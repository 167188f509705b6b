"""One stream as a state machine: messages and times in, messages and windows out.

No socket, no clock, no thread. The states and what leads from one to another are in states.py.

How to drive a Session
----------------------
A shell moves bytes, runs windows and passes the time, in seconds of any one clock.

- Give each message to ``receive``, but read from the connection only while ``wants_input``. Call
  ``disconnected`` when the connection has ended.
- If ``resume_request`` is set after a ``receive``, the client asks for the session that has this
  ``token``: call its ``resumed`` and go on with that one. If there is none, or ``resumed`` raises,
  ``fail`` this one with the error.
- After every call: ``tick``; ``take_window`` until it gives None. Run each job while it
  ``is_current``, and give the output to ``complete``, in any order. A file's windows may be
  prepared a piece at a time by ``prepare_window`` while the session ``has_work``.
- Then send what ``next_message`` gives until it gives None. If ``closing`` is set and nothing is
  ``outbox.unsent``, close the connection with it. Do all this again when ``wake_at`` comes.
- ``search`` is a picture whose face is to be found: give the result to ``found``.
- ``negotiation.offer`` is a WebRTC offer: give the answer to ``answered``, put the media into the
  negotiation, and give what they bring to ``receive_media``.
"""

import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from kfusion import wire
from kfusion.errors import BadIdentity, BadMessage, Busy, Idle, Internal, NotStarted, WireError
from server.pictures.request import Search, SearchResult
from server.session.identities import Identities
from server.session.identity_search import IdentitySearch
from server.session.negotiation import Negotiation
from server.session.open_stream import OpenStream, StreamMessage
from server.session.outbox import Outbox
from server.session.rendering import FrameChunk
from server.session.states import TRANSITIONS, Event, RepeatedEnd, State, refusal
from server.session.summary import ErrorCounts, Summary
from server.session.windows import Job

START_S: Final = 10.0  # to the first message
MAX_ERROR_TEXT: Final = 500  # characters of an error, which may quote the client
MAX_UNSENT: Final = 2000  # frames' blocks and replies that a client leaves unread
CLOSED_BY_CLIENT: Final = (1000, 1001, 1002, 1003, 1005, 1007, 1009)
"""Close codes after which no client resumes: in good order (1005: without a code), or a breach of
WebSocket's rules. A connection that was lost has 1006.
"""


@dataclass(frozen=True)
class Close:
    """How the connection is to be closed once everything is sent."""

    code: int
    reason: str


class Session:
    """One client's stream. ``identities`` are those that its token, or itself, has put.

    ``admit`` is asked for a place before a stream starts, with the windows a second that it demands
    (0 for a file, which takes what is left), and raises :class:`~kfusion.errors.Busy`.
    ``publish``: see windows.py.
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
        publish: Callable[[FrameChunk, int], None] | None = None,
        has_webrtc: bool = False,
        has_faces: bool = False,
    ) -> None:
        self.model, self.limits, self.admit, self.publish = model, limits, admit, publish
        self.has_webrtc = has_webrtc
        self.name = name or secrets.token_hex(8)
        self.state = State.NEW
        self.stream: OpenStream | None = None
        self.outbox = Outbox("json")
        self.closing: Close | None = None
        identities = identities or Identities(limits.identities)
        self.identity_search = IdentitySearch(identities, available=has_faces)
        self.negotiation = Negotiation(now)
        self.created_at = self.ready_at = self.received_at = now
        self.lost_at: float | None = None  # without a connection since
        self.resumptions = 0
        self.token = ""  # with which a lost connection is resumed, once
        self.resume_request: wire.ResumeFrom | None = None
        self.errors = ErrorCounts()
        self.max_unsent = MAX_UNSENT
        self.stopping = False

    # Messages in

    def receive(self, message: str | bytes, now: float) -> None:
        """A message of the client; what is wrong with it is answered by an error."""
        if self.state in (State.ENDED, State.CLOSED):
            return
        self.received_at = now
        with self._errors_reported(now):
            self._process(message if isinstance(message, bytes) else self._parsed(message), now)
        if len(self.outbox.items) > self.max_unsent and self.closing is None:
            unread = BadMessage(f"{MAX_UNSENT} replies were not read; wanted them read")
            self._report(unread, now, fatal=True)

    def _parsed(self, text: str) -> wire.ClientMessage | wire.ResumeFrom | RepeatedEnd:
        """The message as a type of the table."""
        message = wire.parse_client(text)
        if isinstance(message, wire.Start) and message.resume is not wire.UNSET:
            return message.resume
        repeats = self.state is State.ENDING and self.resumptions > 0
        return RepeatedEnd() if repeats and isinstance(message, wire.EndOfAudio) else message

    def _process(
        self, message: StreamMessage | wire.ClientMessage | wire.ResumeFrom, now: float
    ) -> None:
        """Executes the message's entry in the table, or refuses the message."""
        kind = type(message)
        if kind not in TRANSITIONS[self.state]:
            error, fatal = refusal(self.state, kind)
            self._report(error, now, fatal=fatal)
            return
        if isinstance(message, wire.Start):
            self._start(message, now)
        elif isinstance(message, wire.ResumeFrom):
            self.resume_request = message
        elif isinstance(message, wire.SetIdentity):
            self._identity(message, now)
        else:
            self._stream.handle(message, now)
        if self.state is not State.CLOSED:  # by an error that did not prevent the message
            self._move(kind)
            self._end_if_complete()

    @property
    def _stream(self) -> OpenStream:
        assert self.stream is not None, "only from the start on"
        return self.stream

    def _move(self, event: type[Any] | Event) -> None:
        self.state = TRANSITIONS[self.state][event]
        if self.state is State.CLOSED and self.stream is not None:
            self.stream.windows.cancel_jobs()

    def _start(self, start: wire.Start, now: float) -> None:
        if start.media == "webrtc" and not self.has_webrtc:
            raise BadMessage("start.media: this server has no webrtc; wanted socket")
        identities = self.identity_search.identities
        stream = OpenStream(
            start, self.limits, self.outbox, identities, self.negotiation, self.publish
        )
        self.admit(stream.demand)
        self.stream, self.ready_at = stream, now
        self.outbox.encoder = stream.make_encoder()
        self.outbox.put(self._ready(0))

    def _ready(self, n: int) -> wire.Ready:
        """The answer to a client that has all frames below ``n``; with a new token."""
        self.token = secrets.token_urlsafe(16)
        return self._stream.ready(self.name, self.token, n, self.model, self.limits)

    def _identity(self, message: wire.SetIdentity, now: float) -> None:
        face, replaced = self.identity_search.request(message)
        if replaced is not None:
            self._report(replaced, now)
        if face is not None and self.state is not State.CLOSED:
            self._stream.set_identity(message.id, face)

    def _end_if_complete(self) -> None:
        if self.state is not State.ENDING or self.search is not None:
            return
        if self._stream.windows.finish_if_complete():
            stopped = Close(1001, "the server is stopping")
            self.closing = stopped if self.stopping else Close(1000, "end")
            self._move(Event.ALL_FRAMES_QUEUED)

    # Faces in pictures

    @property
    def search(self) -> Search | None:
        """The picture whose face is to be found."""
        active = self.state in (State.OPEN, State.ENDING)
        return self.identity_search.pending if active else None

    def found(self, search: Search, result: SearchResult, now: float) -> None:
        """What came of a picture; ignored where another one, or none, is waited for."""
        if search is self.search:
            with self._errors_reported(now):
                face = self.identity_search.finish(result)
                self._stream.set_identity(search.name, face)
            self._end_if_complete()

    # WebRTC

    def answered(self, answer: str | WireError, now: float) -> None:
        """The answer to the offer, or why there is none."""
        self.negotiation.offer = None
        if self.closing is None and isinstance(answer, str):
            self.outbox.put(wire.SdpAnswer(answer))
        elif self.closing is None and isinstance(answer, WireError):
            self._report(answer, now)

    def receive_media(self, sound: bytes | int, now: float) -> None:
        """Sound of the media: PCM, or samples of silence where it did not come."""
        if self.state is State.OPEN:
            self.received_at = now
            with self._errors_reported(now):
                self._stream.add_sound(sound, now)

    # Windows

    @property
    def live(self) -> bool:
        return self.stream is None or self.stream.windows.live

    @property
    def has_work(self) -> bool:
        """Whether a window's sound is in and there is room for its frames."""
        return self.state in (State.OPEN, State.ENDING) and self._stream.windows.has_work

    def prepare_window(self, samples: int) -> bool:
        """Resamples at most so many samples, at 16 kHz, of the next window of a session that
        ``has_work``; whether all are there now.
        """
        return self._stream.windows.slider.prepare(samples)

    def take_window(self, now: float) -> Job | None:
        """The next window to run, if its sound is in and its time has come."""
        if not self.has_work:
            return None
        stream = self._stream
        return stream.windows.take(now, stream.rendering, stream.emotion, paced=not self.stopping)

    def is_current(self, job: Job) -> bool:
        """Whether the job's output is of use: not after a reset, or the end. For any thread."""
        return self._stream.windows.is_current(job)

    def complete(self, job: Job, output: NDArray[Any] | None, now: float) -> None:
        """The engine's output for a job, (30, 68, 2), or None where it was given up for being too
        late; in any order.
        """
        windows = self._stream.windows
        windows.complete(job, output, self._clock_us(now))
        windows.limit_backlog(connected=self.lost_at is None)
        self._end_if_complete()

    # Ends

    def stop(self, now: float) -> None:
        """The server is stopping: computes what was received at once, and ends."""
        self.stopping = True
        if self.state is State.NEW:
            self.fail(Busy("the server is stopping", 5), now)
        if self.search is not None:
            self.found(self.search, BadIdentity("the server is stopping"), now)
        if self.state is State.OPEN:
            self._process(wire.EndOfAudio(), now)

    def fail(self, error: WireError, now: float) -> None:
        """A fatal error from outside the session: busy, unauthorized, internal."""
        if self.state not in (State.ENDED, State.CLOSED):
            self._report(error, now, fatal=True)

    @contextmanager
    def _errors_reported(self, now: float) -> Generator[None]:
        try:
            yield
        except WireError as error:
            self._report(error, now)

    def _report(self, error: WireError, now: float, *, fatal: bool | None = None) -> None:
        """Sends an error; one in answer to the first message is fatal unless said otherwise."""
        too_many = self.errors.add(error.code, now)
        if fatal is None:
            fatal = error.fatal or self.state is State.NEW
        fatal = fatal or too_many
        retry = error.retry_after_s if isinstance(error, Busy) else wire.UNSET
        self.outbox.put(wire.Error(error.code, str(error)[:MAX_ERROR_TEXT], fatal, retry))
        if fatal:
            reason = str(error.retry_after_s) if isinstance(error, Busy) else error.code
            self.closing = Close(error.close_code, reason)
            self._move(Event.FATAL_ERROR)

    def disconnected(self, code: int | None, now: float) -> None:
        """The connection has ended with this close code; if it was lost, a client may resume."""
        if code in CLOSED_BY_CLIENT or self.limits.resume_s <= 0:
            self._move(Event.CONNECTION_CLOSED)
            return
        self._move(Event.CONNECTION_LOST)
        if self.state is not State.CLOSED:
            self.lost_at = now
            self._stream.windows.limit_backlog(connected=False)

    def resumed(self, request: wire.ResumeFrom, now: float) -> None:
        """Another connection goes on: answers it ``ready``, then all that its client has not got.

        Raises :class:`~kfusion.errors.BadMessage`, and changes nothing, if frames were not sent
        that the client says it has.
        """
        unsent = len(self.outbox.items)
        self.outbox.rewind(request.next)
        self.outbox.items.appendleft(self._ready(request.next))
        self.negotiation.offer = None  # it was of the other connection
        self.lost_at = None
        self.received_at = now
        self.resumptions += 1
        self.max_unsent = MAX_UNSENT + max(0, len(self.outbox.items) - unsent)

    # Time

    def tick(self, now: float) -> None:
        """Ends what has waited too long."""
        if not self.wants_input:
            self.received_at = now  # a client that is not read from is not idle
        at, expire = self._timeout()
        if now >= at:
            expire(now)

    def wake_at(self) -> float:
        """When the shell should call ``tick`` and ``take_window`` again, at the latest."""
        at, _ = self._timeout()
        if self.stream is None or self.state is State.CLOSED:
            return at
        return min(at, self.stream.windows.wake_at())

    def _timeout(self) -> tuple[float, Callable[[float], None]]:
        """When the present state ends without a message, and what ends it."""
        limits, never = self.limits, float("inf")
        if self.state is State.CLOSED:
            return never, lambda _: None
        if self.lost_at is not None:
            return self.lost_at + limits.resume_s, lambda _: self._move(Event.RESUME_TIMEOUT)
        if self.state is State.NEW:
            late = f"no start within {START_S:.0f} s; wanted start first"
            return self.created_at + START_S, lambda now: self.fail(NotStarted(late), now)
        if self.state is not State.OPEN:
            return never, lambda _: None
        end = self.created_at + limits.session_s
        spoken = max(self.received_at, self._stream.windows.clock.end or 0.0)
        if self.wants_input and spoken + limits.idle_s < end:
            idle = f"nothing received for {limits.idle_s:g} s"
            return spoken + limits.idle_s, lambda now: self.fail(Idle(idle), now)
        return end, lambda now: self._process(wire.EndOfAudio(), now)

    @property
    def wants_input(self) -> bool:
        """Whether the shell should read from the connection."""
        return self.state is not State.OPEN or self._stream.windows.wants_audio

    # Messages out

    def next_message(self, now: float, *, room: bool = True) -> str | bytes | None:
        """The next message to send, or None; then, if ``closing`` is set, close.

        Without ``room`` for frames they wait, and most of what is behind them with them.
        """
        return self.outbox.pop(self._clock_us(now), frames=room)

    def summary(self) -> Summary:
        windows = self.stream.windows if self.stream is not None else None
        clock = windows.clock if windows is not None else None
        return Summary(
            mode="live" if self.live else "file",
            seconds=windows.slider.received / windows.slider.rate if windows is not None else 0.0,
            sent=self.outbox.sent,
            written=self.outbox.written,
            dropped=dict(self.outbox.dropped),
            errors=dict(self.errors.by_code),
            resumptions=self.resumptions,
            drift=clock.drift if clock is not None and clock.began is not None else None,
        )

    def _clock_us(self, now: float) -> int:
        return max(0, round((now - self.ready_at) * 1e6))


def internal_error(error: BaseException) -> Internal:
    """A server's own fault, as the client is told it."""
    return Internal(f"the server failed ({type(error).__name__}); try again")
