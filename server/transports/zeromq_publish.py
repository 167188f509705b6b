"""Frames of all sessions, published on ZeroMQ for whoever subscribes.

A message is the topic ``SESSION/points``, ``SESSION/arkit52`` or ``SESSION/vrm``, a zero byte, and
the binary message of kfusion/wire/frames.py. What nobody has subscribed to is not even computed.

A thread has the socket. Within one call ZeroMQ works off all that its peers have sent meanwhile,
which a flood of subscriptions can make long; so it is not the event loop that calls it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

import zmq

from kfusion import wire
from kfusion.errors import BadOptions
from server.metrics import Metrics
from server.session.rendering import FrameChunk
from server.transports.zeromq_sockets import Doors

log = logging.getLogger("kfusion.zeromq")

UNSENT: Final = 1000  # messages kept for one subscriber; the newest are lost beyond
SEND_BUFFER: Final = 1 << 18  # and what the kernel may keep besides
QUEUE: Final = 500  # messages on their way to the thread
TOPIC_BYTES: Final = 512  # of a subscription, and of the handshake's messages
MOST_TOPICS: Final = 10_000  # subscribed to at once
AT_ONCE: Final = 100  # subscriptions or frames, before the others have their turn
REST_S: Final = 0.001  # after so many subscriptions
AGAIN_S: Final = 0.02  # between tries to listen again
INNER: Final = "inproc://frames"


class Publisher:
    """The XPUB socket at the address of ``doors``; ``endpoint`` is that with the port that it has.

    Raises :class:`~kfusion.errors.BadOptions` for an address that cannot be listened on.
    """

    def __init__(self, doors: Doors, metrics: Metrics) -> None:
        self.doors, self.metrics = doors, metrics
        self.subscribed: set[bytes] = set()
        self.version = 0  # of what is subscribed to
        self.stopping = False
        context = doors.open()
        self.socket = self._socket()
        try:
            self.endpoint = doors.bind(self.socket, doors.address)
        except Exception:
            self.socket.close()
            raise
        self.queue, self.entry = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        for inner in (self.queue, self.entry):
            inner.set_hwm(QUEUE)
            inner.linger = 0
        self.queue.bind(INNER)
        self.entry.connect(INNER)
        self.thread = threading.Thread(target=self._run, name="zeromq", daemon=True)
        self.thread.start()

    def _socket(self) -> zmq.Socket[bytes]:
        socket = self.doors.open().socket(zmq.XPUB)
        socket.linger = 0
        socket.sndhwm = UNSENT
        socket.sndbuf = SEND_BUFFER
        # So that subscriptions come one by one, however fast they are sent. With 1 and an
        # authenticator none come.
        socket.rcvhwm = 2
        socket.setsockopt(zmq.MAXMSGSIZE, TOPIC_BYTES)
        return socket

    # On the event loop

    def tap(self, session: str) -> Tap:
        """For the session of this name to give its frames to."""
        return Tap(self, session)

    def wants(self, topic: bytes) -> bool:
        """Whether somebody has subscribed to this topic, or to what it begins with."""
        return any(topic[:k] in self.subscribed for k in range(len(topic) + 1))

    def send(self, message: bytes) -> None:
        """Returns at once; what finds no room is lost, and counted."""
        try:
            self.entry.send(message, zmq.NOBLOCK)
        except zmq.Again:
            self.metrics.unpublished.inc()

    def close(self) -> None:
        """Waits for the thread, which is not long."""
        self.stopping = True
        self.send(b"")  # wakes it
        self.thread.join()
        self.entry.close()

    # On the thread

    def _run(self) -> None:
        try:
            while not self.stopping:
                poller = zmq.Poller()
                poller.register(self.queue, zmq.POLLIN)
                poller.register(self.socket, zmq.POLLIN)
                self._serve(poller)
                if not self.stopping:
                    self._start_over()
        except Exception:
            log.exception("publishing on ZeroMQ has ended")
        finally:
            self.socket.close()
            self.queue.close()

    def _serve(self, poller: zmq.Poller) -> None:
        """Until there are too many subscriptions, or the end."""
        while not self.stopping and len(self.subscribed) <= MOST_TOPICS:
            poller.poll()
            if self._read_subscriptions():
                time.sleep(REST_S)
            self._forward()

    def _read_subscriptions(self) -> bool:
        """Whether there may be more."""
        count, before = 0, len(self.subscribed)
        while count < AT_ONCE:
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            count += 1
            # The first to subscribe to a topic is told, and the last to leave it; and whatever
            # else a peer chose to send.
            if message.startswith(b"\1"):
                self.subscribed.add(message[1:])
            elif message.startswith(b"\0"):
                self.subscribed.discard(message[1:])
        if count:
            self.version += 1
        if len(self.subscribed) != before:
            self.metrics.subscriptions.set(len(self.subscribed))
        return count == AT_ONCE

    def _forward(self) -> None:
        for _ in range(AT_ONCE):
            try:
                message = self.queue.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(message):
                self.socket.send(message, zmq.NOBLOCK, copy=False)
                self.metrics.published.inc()

    def _start_over(self) -> None:
        """Only a new socket forgets; those who come back subscribe anew."""
        log.warning("more than %d topics subscribed to: all are disconnected", MOST_TOPICS)
        self.socket.close()
        self.subscribed.clear()
        self.version += 1
        self.metrics.subscriptions.set(0)
        self.socket = self._socket()
        while not self.stopping:
            try:
                self.doors.bind(self.socket, self.endpoint)
                return
            except BadOptions:  # the old one is not quite gone
                time.sleep(AGAIN_S)


class Tap:
    """One session's frames, on their way to those who have subscribed to them."""

    def __init__(self, publisher: Publisher, session: str) -> None:
        self.publisher = publisher
        self.topics: dict[wire.Output, bytes] = {
            kind: f"{session}/{kind}\0".encode() for kind in wire.KINDS
        }
        self.version = -1
        self.wanted: tuple[wire.Output, ...] = ()

    def __call__(self, frames: FrameChunk, clock_us: int) -> None:
        if self.version != self.publisher.version:
            self.version = self.publisher.version
            wants = self.publisher.wants
            self.wanted = tuple(kind for kind, topic in self.topics.items() if wants(topic))
        if not self.wanted:
            return
        for kind, values in frames.render(self.wanted).items():
            block = wire.FrameBlock(kind, frames.first, clock_us, values)
            self.publisher.send(self.topics[kind] + wire.encode_frames(block))
