"""TCP connections that have not asked for a stream yet."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Any, Final

from websockets.asyncio.server import ServerConnection

from server.admission.slots import network_of

SOON_S: Final = 1.0


class Doorway:
    """Keeps room for the next newcomer: who has stood here longest goes, of his own network where
    that has more than ``each``, or else of all where there are more than ``most``.

    A request comes within milliseconds, so that those are the ones that say nothing; without a
    bound they would take every file that the system lets this process open. Many may come at one
    moment: nobody goes in his first :data:`SOON_S` until there are twice as many. With TLS they are
    counted once that is agreed on, for which they have little time.
    """

    def __init__(self, most: int, each: int) -> None:
        self.most, self.each = most, each
        self.waiting: dict[ServerConnection, tuple[str | None, float]] = {}
        """With their networks and since when, in their order."""
        self.networks: Counter[str | None] = Counter()

    def visitor(self) -> Any:
        """What makes this server's connections, for websockets."""
        return partial(Visitor, self)

    def came(self, visitor: ServerConnection) -> None:
        network, now = network_of(visitor.remote_address[0]), asyncio.get_running_loop().time()
        self.waiting[visitor] = network, now
        self.networks[network] += 1
        here = self.networks[network]
        if network is not None and here > self.each:
            oldest = next(v for v, (n, _) in self.waiting.items() if n == network)
            share = here / self.each
        elif len(self.waiting) > self.most:
            oldest, share = next(iter(self.waiting)), len(self.waiting) / self.most
        else:
            return
        if share > 2 or now > self.waiting[oldest][1] + SOON_S:
            self._turn_away(oldest)

    def left(self, visitor: ServerConnection) -> None:
        """It has asked for a stream, or went."""
        if visitor in self.waiting:
            network, _ = self.waiting.pop(visitor)
            self.networks[network] -= 1
            if not self.networks[network]:
                del self.networks[network]

    def close(self) -> None:
        """Nobody comes in any more."""
        for visitor in list(self.waiting):
            self._turn_away(visitor)

    def _turn_away(self, visitor: ServerConnection) -> None:
        self.left(visitor)
        visitor.transport.abort()


class Visitor(ServerConnection):
    """A connection that says when it comes and goes."""

    def __init__(self, doorway: Doorway, *args: Any, **options: Any) -> None:
        self.doorway = doorway
        super().__init__(*args, **options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.doorway.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.doorway.left(self)
        super().connection_lost(exc)
