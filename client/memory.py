"""A stream within the process: to test what uses the SDK without a server.

transport = MemoryTransport(PretendServer())
async with connect("memory", transport=transport) as face: ...

Connections can be lost too: ``PretendServer(resume_s=30)`` keeps its one stream, and a function
that gives a new ``MemoryTransport`` to it each time is a ``transport`` that can go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from client.pretend import Answer, PretendServer
from client.transports import Closed

__all__ = ["Answer", "MemoryTransport", "PretendServer", "Server"]

Server = Callable[[str | bytes], Iterable[Answer]]


class MemoryTransport:
    """Carries messages to ``server``, a function of a message, and its answers back.

    ``sent`` keeps what the client sent. While ``capacity`` answers wait unread sending waits, as
    it does on a connection whose other side is not read.
    """

    def __init__(self, server: Server, capacity: int = 1024) -> None:
        self.server, self.capacity = server, capacity
        self.sent: deque[str | bytes] = deque(maxlen=100_000)
        self.closed: Closed | None = None
        self._answers: deque[Answer] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()

    def feed(self, *answers: Answer) -> None:
        """The server speaks of its own accord."""
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
