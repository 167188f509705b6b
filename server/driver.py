"""Runs one session: passes its windows to the engine, its timers to the event loop, and its
messages to whichever connection it has.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from kfusion import wire
from kfusion.errors import WireError
from server.engine.inference_pool import InferencePool, Output
from server.metrics import Metrics
from server.pictures.queue import FaceFinderQueue
from server.pictures.request import Search, SearchResult
from server.session.session import Session, internal_error
from server.session.states import State
from server.session.windows import Job

log = logging.getLogger("kfusion.driver")


class SessionConnection(Protocol):
    """A session's connection, as its driver and the registry see it."""

    def wake(self) -> None:
        """There may be something to send, or to read."""

    def replaced(self) -> None:
        """Another connection has resumed the session."""

    def abort(self) -> None:
        """Closes it at once, without a close message."""


class FileWindowQueue:
    """Resamples files in small pieces, one file after the other, between all other callbacks.

    A second of sound at 48 kHz takes 10 ms to resample, at other rates up to 65: done at once, and
    for all windows that are in, one file would make every live stream late.
    """

    PIECE: Final = 2000  # samples at 16 kHz

    def __init__(self) -> None:
        self.waiting: dict[Driver, None] = {}  # an ordered set

    def add(self, driver: Driver) -> None:
        if not self.waiting:
            driver.loop.call_soon(self._next)
        self.waiting.setdefault(driver)

    def _next(self) -> None:
        driver = next(iter(self.waiting))
        del self.waiting[driver]
        if self.waiting:
            driver.loop.call_soon(self._next)
        driver.prepare_window(self.PIECE)


class Driver:
    """One session with its windows, its timer and its connection.

    ``ended`` is called when the session is closed. ``spent`` adds up the seconds of the event
    loop's time that the session has used; its reader resets it.
    """

    def __init__(
        self,
        session: Session,
        engine: InferencePool,
        metrics: Metrics,
        ended: Callable[[Driver], None],
        files: FileWindowQueue,
        faces: FaceFinderQueue | None = None,
    ) -> None:
        self.session, self.engine, self.metrics = session, engine, metrics
        self.ended, self.files, self.faces = ended, files, faces
        self.search: Search | None = None  # the one that ``face`` is the result of
        self.face: asyncio.Future[SearchResult] | None = None
        self.loop = asyncio.get_running_loop()
        self.connection: SessionConnection | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.counted: dict[str, int] = {}
        self.spent = 0.0

    def pump(self) -> None:
        """Does what the session is ready for: windows, searches, the timer, the connection."""
        began = time.thread_time()
        self._pump()
        self.spent += time.thread_time() - began

    def _pump(self) -> None:
        now = self.loop.time()
        self.session.tick(now)
        if self.session.live:
            while (job := self.session.take_window(now)) is not None:
                self.engine.submit(job, self._window_done, self.session.is_current)
        elif self.session.has_work:
            self.files.add(self)
        self._update_search()
        self._set_timer(now)
        if self.session.state is State.CLOSED:
            self.count()
            self.ended(self)
        if self.connection is not None:
            self.connection.wake()

    def prepare_window(self, samples: int) -> None:
        """Resamples a piece of a file's next window; submits the window once it is whole."""
        began = time.thread_time()
        session = self.session
        if session.has_work and session.prepare_window(samples):
            job = session.take_window(self.loop.time())
            if job is not None:
                self.engine.submit(job, self._window_done, session.is_current)
        self._pump()
        self.spent += time.thread_time() - began

    def _set_timer(self, now: float) -> None:
        """An early timer stays, for it only pumps: most are put off before they fire."""
        at = max(self.session.wake_at(), now + 0.001)
        if self.timer is not None:
            if self.timer.when() <= at < float("inf"):
                return
            self.timer.cancel()
            self.timer = None
        if at < float("inf"):
            self.timer = self.loop.call_at(at, self._timer_fired)

    def _timer_fired(self) -> None:
        self.timer = None
        self.pump()

    def _window_done(self, job: Job, output: Output) -> None:
        began = time.thread_time()
        now = self.loop.time()
        if isinstance(output, Exception):
            self.session.fail(internal_error(output), now)
        else:
            self.session.complete(job, output, now)
            if output is not None and job.deadline < float("inf"):
                self.metrics.late.observe(max(0.0, now - job.deadline))
        self._pump()
        self.spent += time.thread_time() - began

    def _update_search(self) -> None:
        """Submits the picture whose face the session waits for, and cancels any earlier one."""
        search = self.session.search
        if search is self.search or self.faces is None:
            return
        if self.face is not None:
            self.face.cancel()
        self.search, self.face = search, None
        if search is not None:
            self.face = self.faces.submit(search.picture)
            self.face.add_done_callback(functools.partial(self._search_done, search))

    def _search_done(self, search: Search, face: asyncio.Future[SearchResult]) -> None:
        if not face.cancelled():
            self.session.found(search, face.result(), self.loop.time())
            self.pump()

    def stop(self) -> None:
        """The server stops."""
        self.session.stop(self.loop.time())
        self.pump()

    # Input. An error ends the session or is told to its client; none is raised.

    def receive(self, message: str | bytes) -> None:
        """A message of the client; ``pump`` is to follow."""
        self.guard(self.session.receive, message, self.loop.time())

    def receive_media(self, sound: bytes | int) -> None:
        """PCM, or a number of samples of silence, of a media track."""
        self.guard(self.session.receive_media, sound, self.loop.time())
        self.pump()

    def guard(self, handle: Callable[..., None], *arguments: object) -> None:
        """Calls ``handle``; what it raises ends the session."""
        began = time.thread_time()
        try:
            handle(*arguments)
        except WireError as error:
            self.fail(error)
        except Exception as error:
            log.exception("session %s failed", self.session.name)
            self.fail(internal_error(error))
        finally:
            self.spent += time.thread_time() - began

    def fail(self, error: WireError) -> None:
        """Ends the session with an error; ``pump`` is to follow."""
        self.session.fail(error, self.loop.time())

    # Connections

    def resumed(self, connection: SessionConnection, request: wire.ResumeFrom) -> None:
        """Another connection takes the session over from the one that it has, if any.

        Raises :class:`~kfusion.errors.BadMessage`, and changes nothing, for a wrong ``next``.
        """
        self.session.resumed(request, self.loop.time())
        before, self.connection = self.connection, connection
        self.metrics.resumed.inc()
        if before is not None:
            before.replaced()

    def disconnected(self, code: int | None) -> None:
        """The connection was closed, with this code."""
        self.connection = None
        self.session.disconnected(code, self.loop.time())
        self.pump()

    def count(self) -> None:
        """Adds to the metrics what has come since the last time."""
        summary, metrics = self.session.summary(), self.metrics
        totals = [("sent", metrics.frames, summary.written)]
        totals += [
            (f"dropped {k}", metrics.dropped.labels(k), n) for k, n in summary.dropped.items()
        ]
        totals += [(f"error {k}", metrics.errors.labels(k), n) for k, n in summary.errors.items()]
        for name, counter, total in totals:
            counter.inc(total - self.counted.get(name, 0))
            self.counted[name] = total
