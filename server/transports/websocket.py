"""One WebSocket: moves the messages of a session and tells it when they came."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from kfusion import wire
from kfusion.errors import BadMessage
from server.admission.fair_queue import Share, Turns
from server.driver import Driver, Link, receive

if TYPE_CHECKING:
    from server.transports.webrtc import Peer, Peers

log = logging.getLogger("kfusion.websocket")

PING_S: Final = 20.0
CLOSE_S: Final = 10.0  # for a client to take what it is still owed; of a file, some of it
REPLACED: Final = 4409  # another connection has resumed the session
MESSAGE_S: Final = 5e-5  # about what a message costs the loop before the session has it ...
BYTE_S: Final = 2e-9  # ... and each byte of it
TURN: Final = 8  # messages of one client before the next one has its turn
READ_BYTES: Final = 1 << 12
"""Bytes that asyncio reads at once (its own choice is 256 KiB): what lies in them is parsed before
anybody else has their turn, and that may be a message every 8 bytes.
"""
SEND_BUFFER: Final = 1 << 16
"""Kernel send buffer: a slow reader is noticed after seconds, not minutes."""


class Connection:
    """One WebSocket: a reader, a writer and pings, for the session that its driver moves.

    ``find`` gives the driver of the session that the client wants to go on with, taken over from
    its connection, if it still has one, or raises what the client is to be told. ``turns`` says
    when the next message may be read while the event loop is late.
    ``peers`` makes the other end of a WebRTC connection, where the server has that.
    """

    def __init__(
        self,
        ws: ServerConnection,
        driver: Driver,
        find: Callable[[Link, wire.ResumeFrom], Driver],
        turns: Turns,
        peers: Peers | None = None,
    ) -> None:
        self.ws, self.driver, self.find, self.turns = ws, driver, find, turns
        self.peers = peers
        self.peer: Peer | None = None
        self.negotiation: asyncio.Task[None] | None = None
        driver.link = self
        self.loop = asyncio.get_running_loop()
        self.outgoing = asyncio.Event()
        self.wanted = asyncio.Event()
        self.aborting: asyncio.TimerHandle | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.share = Share()

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
            replaced, session = self.driver.link is not self, self.driver.session
            self.driver.left(self, self.ws.close_code)
            session.negotiation.detach(self.peer)
            if replaced:
                await self._close_replaced()
            if self.aborting is not None:
                self.aborting.cancel()
            if self.peer is not None:
                try:
                    if session.closing is not None:
                        await self.peer.sent()
                finally:
                    await self.peer.close()

    async def _close_replaced(self) -> None:
        self.aborting = self.loop.call_later(CLOSE_S, self.ws.transport.abort)
        await self.ws.close(REPLACED, "resumed by another connection")

    def abort(self) -> None:
        self.ws.transport.abort()

    def replaced(self) -> None:
        """Nothing is read or written from now on; ``run`` closes."""
        for task in self.tasks:
            task.cancel()

    def moved(self) -> None:
        """Wakes the tasks that have something to do."""
        session = self.driver.session
        if session.closing is not None and self.aborting is None:
            self.aborting = self.loop.call_later(CLOSE_S, self.ws.transport.abort)
        if session.unsent or session.closing is not None:
            self.outgoing.set()
        if session.wants_input:
            self.wanted.set()
        else:
            self.wanted.clear()

    async def _read(self) -> None:
        try:
            count = 0
            while True:
                await self.wanted.wait()
                message = await self.ws.recv()
                self._receive(message)
                count += 1
                spent = MESSAGE_S + BYTE_S * len(message) + self.driver.spent
                self.driver.spent = 0.0
                self.turns.spend(self.share, spent)
                turn_over = count % TURN == 0
                if turn_over:
                    await self.turns.wait(self.share)
                if turn_over or not self.driver.session.live:
                    # Others have theirs, however much lies here already; of a file it is much.
                    await asyncio.sleep(0)
        except ConnectionClosed:
            return

    def _receive(self, message: str | bytes) -> None:
        self.driver = receive(self, self.driver, message, self.find)
        offer = self.driver.session.negotiation.offer
        if offer is not None and (self.negotiation is None or self.negotiation.done()):
            self.negotiation = asyncio.create_task(self._negotiate(offer))
        self.driver.pump()

    async def _negotiate(self, offer: str) -> None:
        """Answers an offer with a new peer, in the place of the one before."""
        assert self.peers is not None  # or the start would have been refused
        session, peer = self.driver.session, self.peers.make(self._hear, self.moved)
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

    def _hear(self, sound: bytes | int) -> None:
        if self.driver.link is not self:
            return  # another connection has the session
        self.driver.hear(sound)

    async def _write(self) -> None:
        try:
            while True:
                session, apart = self.driver.session, self.driver.session.separate_frames
                room = self.peer is not None and self.peer.room if apart else True
                message = session.next_message(self.loop.time(), room=room)
                if isinstance(message, bytes) and apart and self.peer is not None:
                    self.peer.send(message)
                    continue
                if message is not None:
                    await self.ws.send(message)
                    if not session.live:
                        self._taken()
                        self.driver.pump()  # a file's windows wait for room in the outbox
                    continue
                if session.closing is not None and session.unsent and not self._carried:
                    session.drop_unsent_frames()
                    continue
                if session.closing is not None and not session.unsent:
                    await self.ws.close(session.closing.code, session.closing.reason)
                    return
                self.outgoing.clear()
                await self.outgoing.wait()
        except ConnectionClosed:
            return

    def _taken(self) -> None:
        """Who reads a file's frames slowly is not in anybody's way, and is waited for."""
        if self.aborting is not None:
            self.aborting.cancel()
            self.aborting = self.loop.call_later(CLOSE_S, self.ws.transport.abort)

    @property
    def _carried(self) -> bool:
        """Whether there is, or will be, somebody to take frames that wait."""
        return self.peer is not None and self.peer.channel is not None and not self.peer.over

    async def _keep_alive(self) -> None:
        """Pings, but holds no silence against a client that we are not reading from."""
        try:
            while True:
                await asyncio.sleep(PING_S)
                if not self.wanted.is_set():
                    continue
                try:
                    async with asyncio.timeout(PING_S):  # sending it may wait for room, too
                        await (await self.ws.ping())
                except TimeoutError:
                    if not self.wanted.is_set():
                        continue
                    log.info("session %s: no answer to a ping", self.driver.session.name)
                    self.ws.transport.abort()
                    return
        except ConnectionClosed:
            return
