"""The shell around a session: moves its messages over a WebSocket and tells it the time."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any, Final

from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from server.engine import EngineThread
from server.metrics import Metrics
from server.session import Job, Session, State, internal

log = logging.getLogger("kfusion.websocket")

PING_S: Final = 20.0
CLOSE_S: Final = 10.0  # for a client to take what it is still owed
SEND_BUFFER: Final = 1 << 16
"""Kernel send buffer: a slow reader is noticed after seconds, not minutes."""


class Connection:
    """One WebSocket and its session: a reader, a writer and a timer."""

    def __init__(
        self, ws: ServerConnection, session: Session, engine: EngineThread, metrics: Metrics
    ) -> None:
        self.ws, self.session, self.engine, self.metrics = ws, session, engine, metrics
        self.loop = asyncio.get_running_loop()
        self.outgoing = asyncio.Event()
        self.wanted = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None
        self.aborting: asyncio.TimerHandle | None = None
        self.counted: dict[str, int] = {}

    async def run(self) -> None:
        """Serves until the connection is closed, by either side."""
        raw: socket.socket | None = self.ws.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self.pump()
        tasks = [
            asyncio.create_task(work())  # each ends with the connection
            for work in (self._read, self._write, self._keep_alive)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.session.state = State.CLOSED
            for handle in (self.timer, self.aborting):
                if handle is not None:
                    handle.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._count()

    def pump(self) -> None:
        """Moves the session on: windows to the engine, the next timer, the other tasks."""
        now = self.loop.time()
        self.session.tick(now)
        while (job := self.session.take_window(now)) is not None:
            self.engine.submit(job, self._done)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        at = self.session.wake_at()
        if at < float("inf"):
            self.timer = self.loop.call_at(max(at, now + 0.001), self.pump)
        if self.session.closing is not None and self.aborting is None:
            self.aborting = self.loop.call_later(CLOSE_S, self.ws.transport.abort)
        if self.session.outbox.items or self.session.closing is not None:
            self.outgoing.set()
        if self.session.wants_input:
            self.wanted.set()
        else:
            self.wanted.clear()

    def _done(self, job: Job, result: NDArray[Any] | Exception) -> None:
        now = self.loop.time()
        if isinstance(result, Exception):
            self.session.fail(internal(result), now)
        else:
            self.session.complete(job, result, now)
        self.pump()

    async def _read(self) -> None:
        try:
            while True:
                await self.wanted.wait()
                message = await self.ws.recv()
                try:
                    self.session.receive(message, self.loop.time())
                except Exception as error:
                    log.exception("session %s failed", self.session.name)
                    self.session.fail(internal(error), self.loop.time())
                self.pump()
        except ConnectionClosed:
            return

    async def _write(self) -> None:
        try:
            while True:
                message = self.session.next_message(self.loop.time())
                if message is not None:
                    await self.ws.send(message)
                    if not self.session.live:  # a file's windows wait for room in the outbox
                        self.pump()
                    continue
                self._count()
                if self.session.closing is not None:
                    how = self.session.closing
                    await self.ws.close(how.code, how.reason)
                    return
                self.outgoing.clear()
                await self.outgoing.wait()
        except ConnectionClosed:
            return

    async def _keep_alive(self) -> None:
        """Pings, but holds no silence against a client that we are not reading from."""
        try:
            while True:
                await asyncio.sleep(PING_S)
                if not self.wanted.is_set():
                    continue
                pong = await self.ws.ping()
                done, _ = await asyncio.wait([asyncio.ensure_future(pong)], timeout=PING_S)
                if not done and self.wanted.is_set():
                    log.info("session %s: no answer to a ping", self.session.name)
                    self.ws.transport.abort()
                    return
        except ConnectionClosed:
            return

    def _count(self) -> None:
        """Adds to the metrics what has come since the last time."""
        outbox, metrics = self.session.outbox, self.metrics
        totals = [("sent", metrics.frames, outbox.sent)]
        totals += [
            (f"dropped {k}", metrics.dropped.labels(k), n) for k, n in outbox.dropped.items()
        ]
        totals += [
            (f"error {k}", metrics.errors.labels(k), n) for k, n in self.session.told.items()
        ]
        for name, counter, total in totals:
            counter.inc(total - self.counted.get(name, 0))
            self.counted[name] = total
