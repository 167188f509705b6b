"""A server within the process: its real session, with the synthetic engine, as a function of a
message for :class:`client.stream.memory.MemoryTransport`.
"""

from collections.abc import Callable, Iterator

from client.stream.memory import Answer, MemoryTransport
from client.stream.transport import Closed
from kfusion import wire
from kfusion.errors import UnknownSession, WireError
from kfusion.runtime import SyntheticEngine
from server.session.session import Session
from server.session.states import State
from server.session.windows import Job

ENGINE = SyntheticEngine()
MODEL = wire.Model(ENGINE.name, ENGINE.sha256)


class MemoryServer:
    """Answers each message with all that the one session then has to send.

    Without ``clock``, time advances to when the next window is due: live audio is due at once.
    """

    def __init__(self, resume_s: float = 0.0, clock: Callable[[], float] | None = None) -> None:
        self.limits, self.clock = wire.Limits(resume_s=resume_s), clock
        self.time = 0.0
        self.session = Session(MODEL, self.limits, self.now())

    def now(self) -> float:
        return self.time if self.clock is None else self.clock()

    def __call__(self, message: str | bytes) -> Iterator[Answer]:
        session = self._receive(message)
        while True:
            while (answer := session.next_message(self.now())) is not None:
                yield answer
            job = self._window(session)
            if job is None:
                break
            identity, emotion = job.rendering.identity.canonical, job.emotion
            output = ENGINE.step(job.window.audio[None], identity[None], emotion[None])
            session.complete(job, output[0], self.now())
        if session.closing is not None:
            yield Closed(session.closing.code, session.closing.reason)

    def _receive(self, message: str | bytes) -> Session:
        """Passes the message to the session that answers it, and returns that session."""
        if isinstance(message, str) and '"resume"' in message:
            new = Session(MODEL, self.limits, self.now())  # of a new connection
            new.receive(message, self.now())
            if new.resume_request is not None:
                return self._resumed(new, new.resume_request)
        self.session.receive(message, self.now())
        return self.session

    def _resumed(self, new: Session, request: wire.ResumeFrom) -> Session:
        try:
            if request.token == self.session.token:
                self.session.disconnected(1006, self.now())
            if request.token != self.session.token or self.session.state is State.CLOSED:
                raise UnknownSession("resume.token is of no session that is kept")
            self.session.resumed(request, self.now())
        except WireError as error:
            new.fail(error, self.now())
            return new
        return self.session

    def _window(self, session: Session) -> Job | None:
        """The next window, if its time has come."""
        if session.live and session.has_work:
            self.time = max(self.time, session.wake_at())
        return session.take_window(self.now())


def memory_transport(server: MemoryServer | None = None, capacity: int = 1024) -> MemoryTransport:
    return MemoryTransport(server or MemoryServer(), capacity)


def sent_silences(transport: MemoryTransport) -> list[int]:
    """The samples of every silence that was sent."""
    messages = [wire.parse_client(m) for m in transport.sent if isinstance(m, str)]
    return [m.samples for m in messages if isinstance(m, wire.Silence)]


def sent_samples(transport: MemoryTransport) -> int:
    """Samples of audio that were sent, s16le mono."""
    return sum(len(m) // 2 for m in transport.sent if isinstance(m, bytes))
