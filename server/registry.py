"""Who is connected, which session each connection has, and which sessions wait to be resumed."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager

from kfusion import wire
from kfusion.config import FPS
from kfusion.errors import Busy, Unauthorized, UnknownSession
from server.admission.loop_lag import LoopLag
from server.admission.slots import RETRY_S, Slots, network_of
from server.config import ServerConfig
from server.driver import Driver, FileWindowQueue, SessionConnection
from server.engine.inference_pool import InferencePool
from server.logs import event
from server.metrics import Metrics
from server.pictures.queue import FaceFinderQueue
from server.session.identities import Identities
from server.session.rendering import FrameChunk
from server.session.resume_tokens import ResumeTokens
from server.session.session import Session
from server.session.states import State

log = logging.getLogger("kfusion.server")

Publish = Callable[[FrameChunk, int], None]


class Registry:
    """For a running event loop, and an engine that has been started.

    ``identities`` are those of the token's holders. ``publish`` gives what publishes the
    frames of a session, by its name; it is set before the first connection.
    """

    def __init__(
        self,
        config: ServerConfig,
        engine: InferencePool,
        metrics: Metrics,
        lag: LoopLag,
        faces: FaceFinderQueue | None,
        identities: Identities,
        *,
        has_webrtc: bool,
    ) -> None:
        self.config, self.engine, self.metrics, self.lag = config, engine, metrics, lag
        self.faces, self.has_webrtc = faces, has_webrtc
        self.identities = identities if config.token else None
        self.publish: Callable[[str], Publish] | None = None
        self.model = wire.Model(engine.engine.name, engine.engine.sha256)
        self.loop = asyncio.get_running_loop()
        self.connections: dict[SessionConnection, str | None] = {}  # with their networks
        self.sessions: dict[SessionConnection, Driver] = {}  # another one after a resume
        self.drivers: set[Driver] = set()
        self.tokens: ResumeTokens[Driver] = ResumeTokens()
        self.files = FileWindowQueue()
        self.slots = Slots(config.max_sessions, config.max_per_address, self._refuses)
        self.stopping = False
        self.empty = asyncio.Event()

    # Admission

    def _refuses(self, used: float, more: float) -> str | None:
        """Why the machine should not take a stream of ``more`` windows per second."""
        if more and (reason := self.engine.capacity.refusal(used, more)):
            return reason
        if self.stopping:
            return "the server is stopping"
        lag = self.lag.median
        high = lag > self.config.bounds.max_lag_s
        return f"the server is late by {lag * 1000:.0f} ms" if high else None

    def refusal(self) -> str | None:
        """The reason against one more stream of the usual hop, or None."""
        if not self.engine.alive:
            return "the inference threads have ended"
        return self.slots.refusal(FPS / wire.Start().hop)

    def _refuse_if_silent(self, driver: Driver, reason: str) -> None:
        """Tells a client that has not sent anything yet what its `start` would be told."""
        if driver.session.state is State.NEW and driver.session.resume_request is None:
            self.metrics.refused.inc()
            driver.fail(Busy(reason, RETRY_S))
            driver.pump()

    # Connections

    @contextmanager
    def connected(
        self, connection: SessionConnection, address: str, *, authorized: bool
    ) -> Generator[Driver]:
        """The connection is open, and has a new session until it resumes another one."""
        driver = self._new_session(connection, address)
        if not authorized:
            driver.fail(Unauthorized("the token is missing or wrong"))
        self.connections[connection] = network_of(address)
        try:
            yield driver
        finally:
            del self.connections[connection], self.sessions[connection]
            if not self.connections:
                self.empty.set()

    def _new_session(self, connection: SessionConnection, address: str) -> Driver:
        def admit(demand: float) -> None:
            try:
                self.slots.take(name, address, demand)
            except Busy:
                self.metrics.refused.inc()
                raise
            event(log, "stream started", session=name, address=address, demand=demand)

        name = secrets.token_hex(8)
        session = Session(
            self.model, self.config.limits, self.loop.time(), self.identities, name, admit,
            publish=self.publish(name) if self.publish is not None else None,
            has_webrtc=self.has_webrtc, has_faces=self.faces is not None,
        )  # fmt: skip
        driver = Driver(session, self.engine, self.metrics, self._ended, self.files, self.faces)
        driver.connection = connection
        self.sessions[connection] = driver
        self.drivers.add(driver)
        if (reason := self.refusal()) is not None:
            busy_s = self.config.bounds.busy_s
            self.loop.call_later(busy_s, self._refuse_if_silent, driver, reason)
        return driver

    def receive(self, connection: SessionConnection, message: str | bytes) -> None:
        """One message of a connection, for its session. Where it asks for an earlier session, the
        connection has that one from now on. ``pump`` is to follow.
        """
        driver = self.sessions[connection]
        driver.receive(message)
        request = driver.session.resume_request
        if driver.session.state is State.NEW and request is not None:
            driver.guard(self._resume, connection, request)
            driver = self.sessions[connection]
        if driver.session.token and driver.session.state is not State.CLOSED:
            self.tokens.register(driver, driver.session.token)

    def _resume(self, connection: SessionConnection, request: wire.ResumeFrom) -> None:
        """Gives the connection the session of the token, in the place of its new one.

        Raises :class:`~kfusion.errors.UnknownSession`, and :class:`~kfusion.errors.BadMessage` for
        a wrong ``next``; the earlier session is kept as it was.
        """
        earlier = self.tokens.find(request.token)
        if earlier is None:
            raise UnknownSession(
                "start.resume.token is of no session that is kept (each token serves once, and "
                f"lost sessions are kept {self.config.limits.resume_s:g} s); wanted a new start"
            )
        earlier.resumed(connection, request)
        self.tokens.lost.discard(earlier)
        event(log, "stream resumed", session=earlier.session.name, next=request.next)
        unused, self.sessions[connection] = self.sessions[connection], earlier
        unused.disconnected(1000)

    def disconnected(self, connection: SessionConnection, code: int | None) -> bool:
        """The connection was closed, with this code; returns whether it had its session still."""
        driver = self.sessions[connection]
        if driver.connection is not connection:
            return False
        driver.disconnected(code)
        if driver in self.drivers:
            self.tokens.lost.add(driver)
        return True

    def _ended(self, driver: Driver) -> None:
        """A session is closed."""
        self.tokens.remove(driver)
        if driver not in self.drivers:
            return
        self.drivers.discard(driver)
        session = driver.session
        if not self.slots.release(session.name):
            return
        summary = session.summary()
        drift = summary.drift or 0.0
        if session.live and summary.drift is not None:
            self.metrics.drift.observe(drift)
        event(
            log, "stream ended", session=session.name,
            mode=summary.mode, seconds=round(summary.seconds, 3),
            sent=summary.sent, dropped=sum(summary.dropped.values()),
            resumed=summary.resumptions, errors=sum(summary.errors.values()),
            drift=round(drift, 3),
        )  # fmt: skip

    def stop(self) -> None:
        """Ends all sessions in good order, and admits no more."""
        self.stopping = True
        for driver in list(self.drivers):
            driver.stop()

    def figures(self) -> bytes:
        """The metrics as of now, in Prometheus' text format."""
        for driver in self.drivers:
            driver.count()
        metrics, lost = self.metrics, len(self.tokens.lost)
        metrics.connections.set(len(self.connections))
        metrics.streams.set(len(self.slots.used) - lost)
        metrics.kept.set(lost)
        metrics.demand.set(self.slots.demand)
        metrics.capacity.set(self.engine.capacity.windows_per_s)
        metrics.loop_lag.set(self.lag.p95)
        return metrics.text()
