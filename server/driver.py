"""What moves a session on, with a connection or without: the engine's answers and the timer."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from kfusion import wire
from kfusion.errors import WireError
from server.engine.lanes import Answer, Lanes
from server.metrics import Metrics
from server.pictures.queue import Pictures, Ticket
from server.pictures.request import Answer as Seen
from server.pictures.request import Search
from server.session.resume_tokens import ResumeTokens
from server.session.session import Session, internal_error
from server.session.states import State
from server.session.windows import Job

log = logging.getLogger("kfusion.driver")


class Link(Protocol):
    """A session's connection, as the driver sees it."""

    def moved(self) -> None:
        """Something may be there to send, or to read."""

    def replaced(self) -> None:
        """Another connection has taken the session over."""

    async def run(self) -> None:
        """Serves until the connection is closed, by either side."""

    def abort(self) -> None:
        """Ends it at once, without a word to the other side."""


class Feeder:
    """Cuts the windows of files, a piece of one file's at a time, with all else between them.

    A second of sound at 48 kHz takes 10 ms to resample, at other rates up to 65: done at once, and
    for all windows that are in, one file would make every live stream late.
    """

    PIECE: Final = 2000  # samples at 16 kHz

    def __init__(self) -> None:
        self.waiting: dict[Driver, None] = {}  # in their order

    def add(self, driver: Driver) -> None:
        if not self.waiting:
            driver.loop.call_soon(self._next)
        self.waiting.setdefault(driver)

    def _next(self) -> None:
        driver = next(iter(self.waiting))
        del self.waiting[driver]
        if self.waiting:
            driver.loop.call_soon(self._next)
        driver.feed(self.PIECE)


class Driver:
    """One session's life: its windows, its timer, its place among the kept ones.

    ``ended`` is called when it is over. ``spent`` adds up the seconds of the event loop's own time
    that it has cost, for whoever asks and sets it back.
    """

    def __init__(
        self,
        session: Session,
        engine: Lanes,
        metrics: Metrics,
        kept: ResumeTokens[Driver],
        ended: Callable[[Driver], None],
        feeder: Feeder,
        pictures: Pictures | None = None,
    ) -> None:
        self.session, self.engine, self.metrics, self.kept = session, engine, metrics, kept
        self.ended, self.feeder, self.pictures = ended, feeder, pictures
        self.search: Search | None = None  # what is looked for, with its ticket
        self.ticket: Ticket | None = None
        self.loop = asyncio.get_running_loop()
        self.link: Link | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.counted: dict[str, int] = {}
        self.spent = 0.0

    def pump(self) -> None:
        """Moves the session on: windows to the engine, the next timer, the connection."""
        began = time.thread_time()
        self._pump()
        self.spent += time.thread_time() - began

    def _pump(self) -> None:
        now = self.loop.time()
        self.session.tick(now)
        if self.session.live:
            while (job := self.session.take_window(now)) is not None:
                self.engine.submit(job, self._done, self.session.is_current)
        elif self.session.has_work:
            self.feeder.add(self)
        self._look()
        self._set_timer(now)
        if self.session.state is State.CLOSED:
            self._forget()
        elif self.session.token:
            self.kept.register(self, self.session.token)
        if self.link is not None:
            self.link.moved()

    def feed(self, samples: int) -> None:
        """A piece of a file's next window, and the window once it is whole."""
        began = time.thread_time()
        session = self.session
        if session.has_work and session.prepare_window(samples):
            job = session.take_window(self.loop.time())
            if job is not None:
                self.engine.submit(job, self._done, session.is_current)
        self._pump()
        self.spent += time.thread_time() - began

    def _set_timer(self, now: float) -> None:
        """One that fires too early only looks again: most are put off before they fire."""
        at = max(self.session.wake_at(), now + 0.001)
        if self.timer is not None:
            if self.timer.when() <= at < float("inf"):
                return
            self.timer.cancel()
            self.timer = None
        if at < float("inf"):
            self.timer = self.loop.call_at(at, self._alarm)

    def _alarm(self) -> None:
        self.timer = None
        self.pump()

    def _done(self, job: Job, answer: Answer) -> None:
        began = time.thread_time()
        now = self.loop.time()
        if isinstance(answer, Exception):
            self.session.fail(internal_error(answer), now)
        else:
            self.session.complete(job, answer, now)
            if answer is not None and job.deadline < float("inf"):
                self.metrics.late.observe(max(0.0, now - job.deadline))
        self._pump()
        self.spent += time.thread_time() - began

    def _look(self) -> None:
        """Has the face looked for that the session wants, and no other one any more."""
        search = self.session.search
        if search is self.search or self.pictures is None:
            return
        if self.ticket is not None:
            self.pictures.cancel(self.ticket)
            self.ticket = None
        self.search = search
        if search is None:
            return
        found = functools.partial(self._found, search)
        try:
            self.ticket = self.pictures.submit(search.picture, found)
        except WireError as error:
            self.loop.call_soon(found, error)

    def _found(self, search: Search, said: Seen) -> None:
        self.session.found(search, said, self.loop.time())
        self.pump()

    def stop(self) -> None:
        """The server is going."""
        self.session.stop(self.loop.time())
        self.pump()

    def hear(self, sound: bytes | int) -> None:
        """Sound, or so many samples of silence, of a media track."""
        try:
            self.session.receive_media(sound, self.loop.time())
        except Exception as error:
            log.exception("session %s failed", self.session.name)
            self.session.fail(internal_error(error), self.loop.time())
        self.pump()

    # Connections come and go

    def resumed(self, link: Link, wanted: wire.ResumeFrom) -> Link | None:
        """Another connection takes the session over; gives the one that it had, if any.

        Raises :class:`~kfusion.errors.BadMessage`, and changes nothing, for a wrong ``next``.
        """
        self.session.resumed(wanted, self.loop.time())
        before, self.link = self.link, link
        self.kept.connected(self)
        self.metrics.resumed.inc()
        if before is not None:
            before.replaced()
        return before

    def left(self, link: Link, code: int | None) -> None:
        """A connection was closed, with this code."""
        if self.link is not link:
            return
        self.link = None
        self.session.disconnected(code, self.loop.time())
        if self.session.state is not State.CLOSED:
            self.kept.disconnected(self)
        self.pump()

    def _forget(self) -> None:
        self.kept.remove(self)
        self.count()
        self.ended(self)

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


def receive(
    link: Link,
    driver: Driver,
    message: str | bytes,
    find: Callable[[Link, wire.ResumeFrom], Driver],
) -> Driver:
    """One message of a connection, to its session. Gives the driver to go on with, and to pump:
    where the client wants another session, that of ``find``, which has taken it over for this
    connection or raises what the client is to be told.
    """
    session, began = driver.session, time.thread_time()
    try:
        session.receive(message, driver.loop.time())
        if session.state is State.NEW and session.resume_request is not None:
            found = find(link, session.resume_request)
            driver.left(link, 1000)  # it has only asked for the other one
            return found
    except WireError as error:
        session.fail(error, driver.loop.time())
    except Exception as error:
        log.exception("session %s failed", session.name)
        session.fail(internal_error(error), driver.loop.time())
    finally:
        driver.spent += time.thread_time() - began
    return driver
