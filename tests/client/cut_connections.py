"""Connections within the process that are lost after a given number of messages."""

import asyncio
from collections.abc import Iterator, Sequence

from client import Backoff
from client.stream.memory import Answer, MemoryTransport, Server
from client.stream.transport import Closed, Transport
from kfusion import wire
from kfusion.errors import Busy, WireError
from tests.client.memory_server import MemoryServer

NO_WAIT = Backoff(first_s=0.0)


class CutTransport(MemoryTransport):
    """Carries ``up`` messages to the server and ``down`` back, then closes with code 1006.

    A message that is sent beyond ``up`` is lost although sending it succeeds.
    """

    def __init__(self, server: Server, up: int, down: int, capacity: int = 1024) -> None:
        super().__init__(server, capacity)
        self.up, self.down = up, down

    async def send(self, message: str | bytes) -> None:
        if self.closed is None and len(self.sent) >= self.up:
            self.sent.append(message)
            self.feed(Closed(1006, "cut"))
            await asyncio.sleep(0)
            return
        await super().send(message)

    async def receive(self) -> str | bytes:
        if self.down == 0:
            self.abort()
        self.down -= 1
        return await super().receive()


class CutConnections:
    """Opens connections to one server, by default one that keeps a lost session for 30 s.

    The k-th is cut at ``cuts[k]``, (up, down) messages; those after the list are not cut.
    """

    def __init__(
        self,
        server: Server | None = None,
        cuts: Sequence[tuple[int, int]] = (),
        capacity: int = 1024,
    ) -> None:
        self.server = server or MemoryServer(resume_s=30)
        self.cuts, self.capacity = cuts, capacity
        self.opened: list[MemoryTransport] = []

    async def __call__(self) -> Transport:
        k = len(self.opened)
        if k < len(self.cuts):
            up, down = self.cuts[k]
            self.opened.append(CutTransport(self.server, up, down, self.capacity))
        else:
            self.opened.append(MemoryTransport(self.server, self.capacity))
        return self.opened[-1]

    def cut(self) -> None:
        """Cuts the present connection; the messages under way on it are lost."""
        self.opened[-1].abort()


class RefusingServer:
    """Answers a start; answers the first ``refusals`` resumptions with an error and a close."""

    def __init__(
        self, error: WireError | None, code: int, reason: str = "", refusals: int = 10**6
    ) -> None:
        self.server = MemoryServer(resume_s=30)
        self.error, self.code, self.reason, self.refusals = error, code, reason, refusals
        self.refused = 0

    def __call__(self, message: str | bytes) -> Iterator[Answer]:
        resumes = isinstance(message, str) and "resume" in message
        if not resumes or self.refused >= self.refusals:
            yield from self.server(message)
            return
        self.refused += 1
        if self.error is not None:
            retry = self.error.retry_after_s if isinstance(self.error, Busy) else wire.UNSET
            yield wire.encode(wire.Error(self.error.code, str(self.error), True, retry))
        yield Closed(self.code, self.reason)
