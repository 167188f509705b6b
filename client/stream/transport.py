"""The connection that carries a stream's messages; websocket.py and memory.py implement it."""

from collections.abc import Awaitable, Callable
from typing import Protocol

Message = str | bytes


class Closed(Exception):  # a state, not always a fault
    """The connection is closed: WebSocket close code and reason."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code, self.reason = code, reason


class Transport(Protocol):
    """Text and binary messages, both ways, in order. Raises :class:`Closed` once it is closed."""

    async def send(self, message: Message) -> None:
        """Returns when there is room for more."""
        ...

    async def receive(self) -> Message: ...

    async def close(self) -> None: ...

    def abort(self) -> None:
        """Closes the connection at once, without a closing handshake."""
        ...


Opener = Callable[[], Awaitable[Transport]]
"""Opens a connection: the first one, and another one after each loss."""


async def discard(transport: Transport) -> None:
    """Aborts a connection: to the other side it is lost, so that a session is kept."""
    transport.abort()
    await transport.close()
