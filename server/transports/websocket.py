"""One WebSocket: moves the messages of a session and tells it when they came."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from kfusion.errors import BadMessage
from server.admission.fair_queue import FairQueue, Flow
from server.config import Bounds
from server.driver import Driver
from server.registry import Registry

if TYPE_CHECKING:
    from server.transports.webrtc import Peer, PeerFactory

log = logging.getLogger("kfusion.websocket")

REPLACED: Final = 4409  # another connection has resumed the session
MESSAGE_S: Final = 5e-5  # about what a message costs the loop before the session has it ...
BYTE_S: Final = 2e-9  # ... and each byte of it
TURN: Final = 8  # messages of one client before the next client's
READ_BYTES: Final = 1 << 12
"""Bytes that asyncio reads at once (its default is 256 KiB): what lies in them is parsed before any
other callback runs, and that may be a message every 8 bytes.
"""
SEND_BUFFER: Final = 1 << 16
"""Kernel send buffer: a slow reader is noticed after seconds, not minutes."""


class WebSocketConnection:
    """One WebSocket: a reader, a writer and pings, for the session that the registry gives it.

    ``fair_queue`` says when the next message may be read while the event loop lags. ``peers``
    makes the other end of a WebRTC connection, where the server has that.
    """

    def __init__(
        self,
        ws: ServerConnection,
        registry: Registry,
        fair_queue: FairQueue,
        peers: PeerFactory | None,
        bounds: Bounds,
    ) -> None:
        self.ws, self.registry, self.fair_queue = ws, registry, fair_queue
        self.peers, self.bounds = peers, bounds
        self.peer: Peer | None = None
        self.negotiation: asyncio.Task[None] | None = None
        self.loop = asyncio.get_running_loop()
        self.writable = asyncio.Event()  # there is something to send
        self.readable = asyncio.Event()  # the session takes more input
        self.deadline: asyncio.TimerHandle | None = None  # for the client to read what is left
        self.tasks: list[asyncio.Task[None]] = []
        self.flow = Flow()

    @property
    def driver(self) -> Driver:
        return self.registry.sessions[self]

    async def run(self) -> None:
        """Serves until the connection is closed, by either side."""
        raw: socket.socket | None = self.ws.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(self.ws.transport, "max_size"):  # of asyncio's own transports, undocumented
            self.ws.transport.max_size = READ_BYTES  # pyright: ignore[reportAttributeAccessIssue]
        self.driver.pump()
        self.tasks = [
            asyncio.create_task(work())  # each ends with the connection
            for work in (self._read, self._write, self._keep_alive)
        ]
        try:
            await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [*self.tasks, *filter(None, [self.negotiation])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            session = self.driver.session
            replaced = not self.registry.disconnected(self, self.ws.close_code)
            session.negotiation.detach(self.peer)
            if replaced:
                self._start_deadline()
                await self.ws.close(REPLACED, "resumed by another connection")
            if self.deadline is not None:
                self.deadline.cancel()
            if self.peer is not None:
                try:
                    if session.closing is not None:
                        await self.peer.drain()
                finally:
                    await self.peer.close()

    def _start_deadline(self) -> None:
        """Aborts the connection after ``close_s``, from now."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(self.bounds.close_s, self.ws.transport.abort)

    def abort(self) -> None:
        self.ws.transport.abort()

    def replaced(self) -> None:
        """Nothing is read or written from now on; ``run`` closes."""
        for task in self.tasks:
            task.cancel()

    def wake(self) -> None:
        """Wakes the tasks that have something to do."""
        session = self.driver.session
        if session.closing is not None and self.deadline is None:
            self._start_deadline()
        if session.outbox.unsent or session.closing is not None:
            self.writable.set()
        if session.wants_input:
            self.readable.set()
        else:
            self.readable.clear()

    async def _read(self) -> None:
        try:
            count = 0
            while True:
                await self.readable.wait()
                message = await self.ws.recv()
                self._receive(message)
                count += 1
                driver = self.driver
                seconds = MESSAGE_S + BYTE_S * len(message) + driver.spent
                driver.spent = 0.0
                self.fair_queue.charge(self.flow, seconds)
                turn_over = count % TURN == 0
                if turn_over:
                    await self.fair_queue.wait(self.flow)
                if turn_over or not driver.session.live:
                    # Other callbacks run before what has arrived already; of a file that is much.
                    await asyncio.sleep(0)
        except ConnectionClosed:
            return

    def _receive(self, message: str | bytes) -> None:
        self.registry.receive(self, message)
        driver = self.driver
        offer = driver.session.negotiation.offer
        if offer is not None and (self.negotiation is None or self.negotiation.done()):
            self.negotiation = asyncio.create_task(self._negotiate(offer))
        driver.pump()

    async def _negotiate(self, offer: str) -> None:
        """Answers an offer with a new peer, in the place of the one before."""
        assert self.peers is not None  # or the start would have been refused
        session, peer = self.driver.session, self.peers.make(self._receive_media, self.wake)
        replaced: Peer | None = peer
        try:
            answer = await peer.answer(offer)
            replaced, self.peer = self.peer, peer
            session.negotiation.attach(peer)
        except BadMessage as error:
            answer = error
        finally:
            if replaced is not None:
                await replaced.close()
        session.answered(answer, self.loop.time())
        self.driver.pump()

    def _receive_media(self, sound: bytes | int) -> None:
        driver = self.driver
        if driver.connection is self:  # else another one has resumed the session
            driver.receive_media(sound)

    async def _write(self) -> None:
        try:
            while True:
                session = self.driver.session
                on_channel = session.outbox.paired  # frames go over the data channel
                room = self.peer is not None and self.peer.room if on_channel else True
                message = session.next_message(self.loop.time(), room=room)
                if isinstance(message, bytes) and on_channel and self.peer is not None:
                    self.peer.send(message)
                    continue
                if message is not None:
                    await self.ws.send(message)
                    if not session.live:
                        if self.deadline is not None:  # a slow reader of a file is waited for
                            self._start_deadline()
                        self.driver.pump()  # a file's windows wait for room in the outbox
                    continue
                unsent = session.outbox.unsent
                if session.closing is not None and unsent and not self._has_channel:
                    session.outbox.drop_unsent_frames("slow_reader")
                    continue
                if session.closing is not None and not unsent:
                    await self.ws.close(session.closing.code, session.closing.reason)
                    return
                self.writable.clear()
                await self.writable.wait()
        except ConnectionClosed:
            return

    @property
    def _has_channel(self) -> bool:
        """Whether frames that wait may still be sent on a data channel."""
        return self.peer is not None and self.peer.channel is not None and not self.peer.closed

    async def _keep_alive(self) -> None:
        """Pings; aborts without an answer, except while the server does not read."""
        try:
            while True:
                await asyncio.sleep(self.bounds.ping_s)
                if not self.readable.is_set():
                    continue
                try:
                    async with asyncio.timeout(self.bounds.ping_s):  # sending may wait, too
                        await (await self.ws.ping())
                except TimeoutError:
                    if not self.readable.is_set():
                        continue
                    log.info("session %s: no answer to a ping", self.driver.session.name)
                    self.ws.transport.abort()
                    return
        except ConnectionClosed:
            return
