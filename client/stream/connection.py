"""A stream's connection, and the next one when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from client.stream.events import Reconnecting, Resumed
from client.stream.reconnect import FINAL, Reconnection
from client.stream.state import ClientStream, Message
from client.stream.transports import Closed, Transport, discard

LIVE_QUIET_S: Final = 10.0  # a connection that owes messages and brings none so long is lost
FILE_QUIET_S: Final = 15.0  # a file's server may be busy with others, but forgets a lost session


class Link:
    """Carries what ``stream`` says; ``up`` while there is a connection.

    One task sends, another reads and renews the connection.
    """

    def __init__(
        self, stream: ClientStream, transport: Transport, reconnection: Reconnection | None
    ) -> None:
        self.stream, self.transport, self.reconnection = stream, transport, reconnection
        self.quiet_s = LIVE_QUIET_S if stream.live else FILE_QUIET_S
        self.up = True

    async def send(self) -> None:
        """All that was said, as far as this connection takes it; another takes the rest.

        Raises :class:`Closed` where no other one may.
        """
        transport = self.transport
        try:
            while self.up and self.transport is transport:
                message = self.stream.journal.take()
                if message is None:
                    return
                await transport.send(message)
        except Closed as closed:
            if not self._may_renew(closed):
                raise
            if self.transport is transport:
                self.up = False  # the reader finds out too

    async def receive(self) -> Message:
        """The next message; a connection that owes some and brings none is :class:`Closed`."""
        if not self.stream.resumable:
            return await self.transport.receive()
        while True:
            owes = self.stream.owes
            try:
                async with asyncio.timeout(self.quiet_s):
                    return await self.transport.receive()
            except TimeoutError:
                if owes and self.stream.owes:
                    raise Closed(1006, f"nothing came for {self.quiet_s:g} s") from None

    async def renew(self, closed: Closed, tell: Callable[[Reconnecting], None]) -> Resumed:
        """Another connection, gone on with. Raises what ends the stream where there is none."""
        lost = self.stream.lost(closed.code, closed.reason)
        if self.reconnection is None or not self._may_renew(closed):
            raise lost
        self.up = False
        await discard(self.transport)
        self.transport, resumed = await self.reconnection.go_on(self.stream, lost, tell)
        self.up = True
        return resumed

    def _may_renew(self, closed: Closed) -> bool:
        return self.stream.resumable and closed.code not in FINAL

    async def close(self) -> None:
        self.up = False
        await self.transport.close()
