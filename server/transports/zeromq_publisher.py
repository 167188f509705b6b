"""Publishes the frames of all sessions on ZeroMQ.

A message is the topic ``SESSION/points``, ``SESSION/arkit52`` or ``SESSION/vrm``, a zero byte, and
the binary message of kfusion/wire/frames.py. An output without a subscriber is not even computed.

A thread owns the socket: within one call ZeroMQ handles all that its peers have sent meanwhile,
which a flood of subscriptions can make long.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import zmq

from kfusion import wire
from kfusion.errors import BadOptions
from server.config import Bounds
from server.metrics import Metrics
from server.session.rendering import FrameChunk
from server.transports.zeromq_endpoint import ZeroMQEndpoint

log = logging.getLogger("kfusion.zeromq")

SEND_BUFFER: Final = 1 << 18  # of the kernel, for one subscriber
QUEUE: Final = 500  # messages from the event loop to the thread
TOPIC_BYTES: Final = 512  # of a subscription, and of the handshake's messages
BATCH: Final = 100  # subscriptions, then frames, handled in turn
PAUSE_S: Final = 0.001  # after a full batch of subscriptions
RETRY_S: Final = 0.02  # between attempts to bind again
INNER_ADDRESS: Final = "inproc://frames"


class Publisher:
    """The XPUB socket of ``endpoint``; ``address`` is where it listens, with the port that it got.

    Raises :class:`~kfusion.errors.BadOptions` for an address that cannot be listened on.
    """

    def __init__(self, endpoint: ZeroMQEndpoint, metrics: Metrics, bounds: Bounds) -> None:
        self.endpoint, self.metrics, self.bounds = endpoint, metrics, bounds
        self.subscribed: set[bytes] = set()
        self.stopping = False
        context = endpoint.open()
        self.socket = self._socket()
        try:
            self.address = endpoint.bind(self.socket, endpoint.address)
        except Exception:
            self.socket.close()
            raise
        self.queue, self.entry = context.socket(zmq.PULL), context.socket(zmq.PUSH)
        for inner in (self.queue, self.entry):
            inner.set_hwm(QUEUE)
            inner.linger = 0
        self.queue.bind(INNER_ADDRESS)
        self.entry.connect(INNER_ADDRESS)
        self.thread = threading.Thread(target=self._run, name="zeromq", daemon=True)
        self.thread.start()

    def _socket(self) -> zmq.Socket[bytes]:
        socket = self.endpoint.open().socket(zmq.XPUB)
        socket.linger = 0
        socket.sndhwm = self.bounds.zmq_queue
        socket.sndbuf = SEND_BUFFER
        # With 2, subscriptions come one by one, however fast they are sent. With 1 and an
        # authenticator none come.
        socket.rcvhwm = 2
        socket.setsockopt(zmq.MAXMSGSIZE, TOPIC_BYTES)
        return socket

    # On the event loop

    def for_session(self, session: str) -> Callable[[FrameChunk, int], None]:
        """What publishes the frames of this session, those outputs that have subscribers."""
        topics: dict[wire.Output, bytes] = {
            kind: f"{session}/{kind}\0".encode() for kind in wire.KINDS
        }
        return partial(self._publish, topics)

    def _publish(
        self, topics: Mapping[wire.Output, bytes], frames: FrameChunk, clock_us: int
    ) -> None:
        if not self.subscribed:
            return
        outputs: tuple[wire.Output, ...] = tuple(
            kind
            for kind, topic in topics.items()
            if any(topic[:k] in self.subscribed for k in range(len(topic) + 1))
        )
        for kind, values in (frames.render(outputs) if outputs else {}).items():
            block = wire.FrameBlock(kind, frames.first, clock_us, values)
            self.send(topics[kind] + wire.encode_frames(block))

    def send(self, message: bytes) -> None:
        """Never waits: a message without room in the queue is dropped, and counted."""
        try:
            self.entry.send(message, zmq.NOBLOCK)
        except zmq.Again:
            self.metrics.unpublished.inc()

    def close(self) -> None:
        """Waits for the thread, which ends soon."""
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
                    self._replace_socket()
        except Exception:
            log.exception("publishing on ZeroMQ has ended")
        finally:
            self.socket.close()
            self.queue.close()

    def _serve(self, poller: zmq.Poller) -> None:
        """Returns when there are too many subscriptions, or at the end."""
        most = self.bounds.zmq_topics
        while not self.stopping and len(self.subscribed) <= most:
            poller.poll()
            if self._read_subscriptions():
                time.sleep(PAUSE_S)
            self._forward()

    def _read_subscriptions(self) -> bool:
        """Reads a batch; returns whether there may be more."""
        count, before = 0, len(self.subscribed)
        while count < BATCH:
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            count += 1
            # XPUB passes on the first subscription to a topic and the last unsubscription, and
            # whatever else a peer has sent.
            if message.startswith(b"\1"):
                self.subscribed.add(message[1:])
            elif message.startswith(b"\0"):
                self.subscribed.discard(message[1:])
        if len(self.subscribed) != before:
            self.metrics.subscriptions.set(len(self.subscribed))
        return count == BATCH

    def _forward(self) -> None:
        for _ in range(BATCH):
            try:
                message = self.queue.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(message):
                self.socket.send(message, zmq.NOBLOCK, copy=False)
                self.metrics.published.inc()

    def _replace_socket(self) -> None:
        """Disconnects all, for only a new socket forgets subscriptions. Clients come back."""
        most = self.bounds.zmq_topics
        log.warning("more than %d topics subscribed to: all are disconnected", most)
        self.socket.close()
        self.subscribed.clear()
        self.metrics.subscriptions.set(0)
        self.socket = self._socket()
        while not self.stopping:
            try:
                self.endpoint.bind(self.socket, self.address)
                return
            except BadOptions:  # the old socket is not quite closed
                time.sleep(RETRY_S)
