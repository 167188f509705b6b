"""Streams over ZeroMQ: the messages of the WebSocket, from and to DEALER sockets.

A ZeroMQ message has two parts, what it is and what it says::

    t  a text message           both ways
    b  a binary message         both ways
    c  a close: code, reason    to the client; from a client that leaves, empty
    p  nothing                  to the client every 20 s; that it can be sent shows who is there

A connection is one stream, as a WebSocket is: once it was told ``c``, nothing more is read of it.
One socket has all peers, so that none can be made to wait: they stream live.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import zmq
import zmq.asyncio

from kfusion import wire
from kfusion.errors import BadMessage, BadOptions, Busy, TooFast, WireError
from server.driver import receive
from server.pacer import Allowance
from server.places import RETRY_S, network_of
from server.websocket import BYTE_S, CLOSE_S, PING_S, REPLACED, SEND_BUFFER, TURN
from server.zeromq_doors import LINGER_MS, Doors

if TYPE_CHECKING:
    from server.app import App

log = logging.getLogger("kfusion.zeromq")

TEXT, BINARY, CLOSE, PING = b"t", b"b", b"c", b"p"
SHARE: Final = 0.03  # of the event loop's time that a peer may take while the loop is late
SAVED_S: Final = 0.1
MESSAGE_S: Final = 1.5e-4  # about what a message costs the loop
UNREAD: Final = 4
"""Messages of a peer that wait here, each up to 1 MiB: libzmq bounds a part, not how many parts
a message has, so that this holds for peers who mean no harm (docs/zeromq.md).
"""
UNSENT: Final = 64  # messages to a peer that wait here; others wait in its session
FULL_S: Final = 0.02  # after which it is tried again
CLOSED: Final = 4096  # connections remembered that were closed


class Unreachable(Exception):  # a state that is told, not a fault
    """A peer has disconnected."""


class Dealers:
    """The ROUTER socket at ``address``; ``endpoint`` is that with the port that it has.

    Raises :class:`~kfusion.errors.BadOptions` for an address that cannot be listened on, and where
    the event loop cannot watch sockets.
    """

    def __init__(self, doors: Doors, address: str, app: App) -> None:
        self.app = app
        self.loop = asyncio.get_running_loop()
        proactor = getattr(asyncio, "ProactorEventLoop", None)
        if proactor is not None and isinstance(self.loop, proactor):
            raise BadOptions(
                "--zmq-audio does not run on Windows, where asyncio watches no sockets"
            )
        self.socket = zmq.asyncio.Context(shadow=doors.open()).socket(zmq.ROUTER)
        self.socket.linger = LINGER_MS
        self.socket.router_mandatory = True
        self.socket.sndbuf = SEND_BUFFER
        self.socket.sndhwm, self.socket.rcvhwm = UNSENT, UNREAD
        self.socket.setsockopt(zmq.MAXMSGSIZE, wire.MESSAGE_BYTES)
        self.socket.heartbeat_ivl = self.socket.heartbeat_timeout = round(PING_S * 1000)
        try:
            self.endpoint = doors.bind(zmq.Socket.shadow(self.socket), "--zmq-audio", address)
        except Exception:
            self.socket.close()
            raise
        self.peers: dict[bytes, Peer] = {}
        self.closed: OrderedDict[bytes, None] = OrderedDict()
        self.tasks: set[asyncio.Task[None]] = set()
        self.reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        for task in (self.reading, *self.tasks):
            task.cancel()
        await asyncio.gather(self.reading, *self.tasks, return_exceptions=True)
        self.socket.close()

    async def _read(self) -> None:
        count = 0
        while True:
            identity, *parts = await self.socket.recv_multipart(copy=False)
            try:
                await self._receive(identity.bytes, parts)
            except Exception:
                log.exception("a message over ZeroMQ failed")
            count += 1
            if count % TURN == 0:
                await asyncio.sleep(0)  # others have their turn, however much lies here already

    async def _receive(self, identity: bytes, parts: list[zmq.Frame]) -> None:
        peer = self.peers.get(identity)
        if peer is not None:
            peer.receive(parts)
        elif identity not in self.closed:
            await self._newcomer(identity, parts)

    async def _newcomer(self, identity: bytes, parts: list[zmq.Frame]) -> None:
        address = _address(parts)
        why: WireError | None = None
        if self.app.crowded(network_of(address)):
            self.app.metrics.refused.inc()
            why = Busy("too many connections", RETRY_S)
        elif not identity.startswith(b"\0"):  # those that ROUTER gives are never given again
            why = BadMessage(f"the socket names itself {identity[:32]!r}; wanted no ZMQ_IDENTITY")
        if why is None:
            peer = self.peers[identity] = Peer(self, identity, address)
            task = asyncio.create_task(peer.serve())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
            peer.receive(parts)
            return
        self.leave(identity)
        retry = why.retry_after_s if isinstance(why, Busy) else wire.UNSET
        error = wire.Error(why.code, str(why), True, retry)
        reason = str(RETRY_S) if isinstance(why, Busy) else why.code
        try:
            await self.say(identity, TEXT, wire.encode(error).encode())
            await self.say(identity, CLOSE, f"{why.close_code} {reason}".encode())
        except (zmq.Again, Unreachable):
            return

    def leave(self, identity: bytes) -> None:
        """A connection's stream is over; nothing more is heard from it."""
        self.peers.pop(identity, None)
        self.closed[identity] = None
        if len(self.closed) > CLOSED:
            self.closed.popitem(last=False)

    async def say(self, identity: bytes, kind: bytes, payload: bytes = b"") -> None:
        """Raises zmq.Again while the peer's queue is full, and :class:`Unreachable`."""
        try:
            await self.socket.send_multipart([identity, kind, payload], flags=zmq.NOBLOCK)
        except zmq.Again:
            raise
        except zmq.ZMQError as error:
            raise Unreachable(str(error)) from None


class Peer:
    """One DEALER: the connection of the session that its driver moves."""

    can_wait = False

    def __init__(self, dealers: Dealers, identity: bytes, address: str) -> None:
        self.dealers, self.identity, self.address = dealers, identity, address
        self.loop = dealers.loop
        self.driver = dealers.app.enter(address, can_wait=False)
        self.driver.link = self
        self.outgoing = asyncio.Event()
        self.aborting: asyncio.TimerHandle | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.allowance = Allowance(SHARE, SAVED_S, self.loop.time())
        self.code: int | None = None  # as it was closed, if it was
        self.over = False

    async def serve(self) -> None:
        """Serves until either side has closed, with its place among the connections."""
        await self.dealers.app.attend(self, self.address)

    async def run(self) -> None:
        self.driver.pump()
        if not self.over:
            self.tasks = [asyncio.create_task(work()) for work in (self._write, self._keep_alive)]
            try:
                await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.abort()
                await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.driver.link is not self:
            await self._close(REPLACED, "resumed by another connection")
        if self.aborting is not None:
            self.aborting.cancel()
        self.dealers.leave(self.identity)
        self.driver.left(self, self.code)

    def abort(self) -> None:
        """Nothing is read or written from now on; ``run`` ends."""
        self.over = True
        for task in self.tasks:
            task.cancel()

    def replaced(self) -> None:
        self.abort()

    def moved(self) -> None:
        """Wakes what has something to do."""
        session = self.driver.session
        if session.closing is not None and self.aborting is None:
            self.aborting = self.loop.call_later(CLOSE_S, self.abort)
        if session.outbox.items or session.closing is not None:
            self.outgoing.set()

    def receive(self, parts: list[zmq.Frame]) -> None:
        """One ZeroMQ message, without its identity."""
        if self.over:
            return
        session, now = self.driver.session, self.loop.time()
        spent = MESSAGE_S + BYTE_S * sum(map(len, parts))
        if self.allowance.spend(spent, now) and self.dealers.app.lateness.late():
            # A WebSocket would be read later.
            session.refuse(TooFast("the server is late, and these messages are many"), now)
        elif len(parts) == 2 and parts[0].bytes == CLOSE:
            self.code = 1000
            self.abort()
            return
        else:
            try:
                message = _message(parts)
                self.driver = receive(self, self.driver, message, self.dealers.app.resume)
            except WireError as error:
                session.refuse(error, now)
        self.driver.pump()

    async def _write(self) -> None:
        try:
            while True:
                session = self.driver.session
                message = session.next_message(self.loop.time())
                if isinstance(message, bytes):
                    await self._say(BINARY, message)
                elif message is not None:
                    await self._say(TEXT, message.encode())
                elif session.closing is not None:
                    await self._close(session.closing.code, session.closing.reason)
                    return
                else:
                    self.outgoing.clear()
                    await self.outgoing.wait()
        except Unreachable:
            return

    async def _say(self, kind: bytes, payload: bytes) -> None:
        """Waits for room. Raises :class:`Unreachable`."""
        while True:
            try:
                return await self.dealers.say(self.identity, kind, payload)
            except zmq.Again:
                await asyncio.sleep(FULL_S)

    async def _close(self, code: int, reason: str) -> None:
        self.code = code
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._say(CLOSE, f"{code} {reason}".encode())
        except (TimeoutError, Unreachable):
            return

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            try:
                await self.dealers.say(self.identity, PING)
            except zmq.Again:
                continue
            except Unreachable:
                log.info("session %s: its peer has gone", self.driver.session.name)
                return


def _message(parts: list[zmq.Frame]) -> str | bytes:
    """Raises :class:`~kfusion.errors.BadMessage` for what is no message of the protocol."""
    kind = parts[0].bytes if parts else b""
    if len(parts) != 2 or kind not in (TEXT, BINARY):
        raise BadMessage(
            f"a message of {len(parts)} parts, the first {kind[:16]!r}; wanted two: t, b or c, and "
            "what it says"
        )
    if kind == BINARY:
        return parts[1].bytes
    try:
        return parts[1].bytes.decode()
    except UnicodeDecodeError as error:
        raise BadMessage(f"not UTF-8 ({error}); wanted JSON text after t") from None


def _address(parts: list[zmq.Frame]) -> str:
    """Whom a message is from; over ipc this machine."""
    try:
        address = parts[-1].get("Peer-Address")
    except (IndexError, zmq.ZMQError):
        address = ""
    return str(address) or "127.0.0.1"
