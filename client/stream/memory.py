"""A connection within the process: tests of code that uses the SDK need no server and no socket.

The server is any function of a message that gives the answers to it. This one is busy::

    def busy(message: str | bytes) -> Iterable[Answer]:
        yield wire.encode(wire.Error("busy", "all streams are taken", True, 7))
        yield Closed(1013, "7")

This one answers each message of audio with one frame of a face at rest::

    def at_rest() -> Server:
        frames = count()

        def answers(message: str | bytes) -> Iterable[Answer]:
            parsed = message if isinstance(message, bytes) else wire.parse_client(message)
            match parsed:
                case wire.Start():
                    yield wire.encode(
                        wire.ready(
                            parsed, session="test", resume="", model=wire.Model("test", ""),
                            emotion={}, identity="neutral", limits=wire.Limits(resume_s=0),
                        )
                    )
                case bytes():
                    n = next(frames)
                    yield wire.encode(wire.Frame(n, n / 30, NEUTRAL.ravel().tolist()))
                case wire.EndOfAudio():
                    yield wire.encode(wire.End(next(frames), 0, 0.0))
                    yield Closed(1000, "end")

        return answers

The transport takes the place of a WebSocket::

    async with connect("memory", transport=MemoryTransport(at_rest())) as face:
        ...

To test lost connections, pass as ``transport`` a function that opens a new ``MemoryTransport`` to
the same server each time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from client.stream.transport import Closed

Answer = str | bytes | Closed
Server = Callable[[str | bytes], Iterable[Answer]]


class MemoryTransport:
    """Carries messages to ``server``, a function of a message, and its answers back.

    ``sent`` keeps what the client sent. Sending waits while ``capacity`` answers are unread, as
    it does on a network connection.
    """

    def __init__(self, server: Server, capacity: int = 1024) -> None:
        self.server, self.capacity = server, capacity
        self.sent: deque[str | bytes] = deque(maxlen=100_000)
        self.closed: Closed | None = None
        self._answers: deque[Answer] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()

    def feed(self, *answers: Answer) -> None:
        """Sends messages of the server that answer nothing."""
        self._answers.extend(answers)
        self._arrived.set()

    async def send(self, message: str | bytes) -> None:
        while self.closed is None and len(self._answers) >= self.capacity:
            self._room.clear()
            await self._room.wait()
        if self.closed is not None:
            raise self.closed
        self.sent.append(message)
        self.feed(*self.server(message))

    async def receive(self) -> str | bytes:
        while not self._answers:
            if self.closed is not None:
                raise self.closed
            self._arrived.clear()
            await self._arrived.wait()
        answer = self._answers.popleft()
        self._room.set()
        if isinstance(answer, Closed):
            self.closed = answer
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = self.closed or Closed(1000)
        self._arrived.set()
        self._room.set()

    def abort(self) -> None:
        self.closed = self.closed or Closed(1006)
        self._answers.clear()
        self._arrived.set()
        self._room.set()
