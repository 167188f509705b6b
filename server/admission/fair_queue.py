"""Whose message is next while the event loop is late: start-time fair queueing of its own time
(Goyal, Vin and Cheng, 1996). Who takes little is next; who takes much waits for the others.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

ROUND: Final = 16  # clients between two looks at everything else


class Share:
    """What one client has had: ``until`` is the virtual time, in seconds of the event loop that a
    client may have had by then, at which its share is due again.
    """

    def __init__(self) -> None:
        self.until = 0.0


class Turns:
    """Lets ``ROUND`` clients go on at a time; all at once while nothing is late, as ``strained``
    says.
    """

    def __init__(self, strained: Callable[[], bool]) -> None:
        self.strained = strained
        self.loop = asyncio.get_running_loop()
        self.time = 0.0  # virtual: what the client that is next has had
        self.waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self.order = count()

    def spend(self, share: Share, seconds: float) -> None:
        """So much of the event loop's time went to a client."""
        share.until = max(self.time, share.until) + seconds

    async def wait(self, share: Share) -> None:
        """Until it is a client's turn."""
        if not self.waiting and not self.strained():
            self.time = max(self.time, share.until)
            return
        turn = self.loop.create_future()
        if not self.waiting:
            self.loop.call_soon(self._round)
        heapq.heappush(self.waiting, (max(self.time, share.until), next(self.order), turn))
        await turn

    def _round(self) -> None:
        for _ in range(min(ROUND, len(self.waiting))):
            at, _, turn = heapq.heappop(self.waiting)
            self.time = max(self.time, at)
            if not turn.done():  # else whoever waited is gone
                turn.set_result(None)
        if self.waiting:
            self.loop.call_soon(self._round)
