"""TCP connections that have not sent their request yet."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

from websockets.asyncio.server import ServerConnection

from server.admission.slots import network_of


class Backlog:
    """Closes the oldest connection that has not sent a request, first within a network that has
    more than ``per_address``, otherwise when there are more than ``limit``.

    A connection is not closed in its first ``grace_s`` seconds until there are twice as many. TLS
    connections are added after their handshake, which has a time limit of its own.
    """

    def __init__(self, limit: int, per_address: int, grace_s: float) -> None:
        self.limit, self.per_address, self.grace_s = limit, per_address, grace_s
        self.waiting: dict[ServerConnection, tuple[str | None, float]] = {}
        """Networks and arrival times, in the order of arrival."""
        self.networks: Counter[str | None] = Counter()

    def connection_factory(self) -> Any:
        """The ``create_connection`` of websockets' ``serve``."""
        return partial(PendingConnection, self)

    def add(self, connection: ServerConnection) -> None:
        now = asyncio.get_running_loop().time()
        network = network_of(connection.remote_address[0])
        self.waiting[connection] = network, now
        self.networks[network] += 1
        count = self.networks[network]
        if network is not None and count > self.per_address:
            oldest = next(c for c, (n, _) in self.waiting.items() if n == network)
            excess = count / self.per_address
        elif len(self.waiting) > self.limit:
            oldest, excess = next(iter(self.waiting)), len(self.waiting) / self.limit
        else:
            return
        if excess > 2 or now > self.waiting[oldest][1] + self.grace_s:
            self._close(oldest)

    def remove(self, connection: ServerConnection) -> None:
        """The connection has sent its request, or is closed."""
        if connection in self.waiting:
            network, _ = self.waiting.pop(connection)
            self.networks[network] -= 1
            if not self.networks[network]:
                del self.networks[network]

    def close(self) -> None:
        """Closes all of them."""
        for connection in list(self.waiting):
            self._close(connection)

    def _close(self, connection: ServerConnection) -> None:
        self.remove(connection)
        connection.transport.abort()


class PendingConnection(ServerConnection):
    """A connection that is in the backlog until it is removed or closed."""

    def __init__(self, backlog: Backlog, *args: Any, **options: Any) -> None:
        self.backlog = backlog
        super().__init__(*args, **options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.backlog.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.backlog.remove(self)
        super().connection_lost(exc)
