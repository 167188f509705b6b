"""Start-time fair queueing of the event loop's time across clients (Goyal, Vin and Cheng, 1996).

It orders clients only while the loop lags: a client that has used little of it goes first.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

BATCH: Final = 16  # clients that go on before the loop runs everything else


class Flow:
    """One client. ``finish`` is the virtual time, in seconds of the event loop, up to which it has
    used its share.
    """

    def __init__(self) -> None:
        self.finish = 0.0


class FairQueue:
    """Lets :data:`BATCH` clients go on at a time while ``overloaded()``, otherwise all at once."""

    def __init__(self, overloaded: Callable[[], bool]) -> None:
        self.overloaded = overloaded
        self.loop = asyncio.get_running_loop()
        self.virtual_time = 0.0  # the start tag of the client that goes on
        self.waiting: list[tuple[float, int, asyncio.Future[None]]] = []  # heap of start tags
        self.order = count()

    def charge(self, flow: Flow, seconds: float) -> None:
        """Records the event loop's time that a client has used."""
        flow.finish = max(self.virtual_time, flow.finish) + seconds

    async def wait(self, flow: Flow) -> None:
        """Returns when the client may go on."""
        if not self.waiting and not self.overloaded():
            self.virtual_time = max(self.virtual_time, flow.finish)
            return
        turn = self.loop.create_future()
        if not self.waiting:
            self.loop.call_soon(self._release)
        start = max(self.virtual_time, flow.finish)
        heapq.heappush(self.waiting, (start, next(self.order), turn))
        await turn

    def _release(self) -> None:
        for _ in range(min(BATCH, len(self.waiting))):
            start, _, turn = heapq.heappop(self.waiting)
            self.virtual_time = max(self.virtual_time, start)
            if not turn.done():  # a cancelled client's future is done
                turn.set_result(None)
        if self.waiting:
            self.loop.call_soon(self._release)
