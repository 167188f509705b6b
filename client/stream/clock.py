"""The clock of the SDK, which a test can replace."""

import asyncio
import contextlib
from typing import Protocol


class Clock(Protocol):
    """Time in seconds of any one clock, and waiting for it."""

    def now(self) -> float: ...

    async def wait(self, event: asyncio.Event, until: float) -> None:
        """Returns once ``event`` is set or it is ``until``."""
        ...


class LoopClock:
    """The event loop's own time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def wait(self, event: asyncio.Event, until: float) -> None:
        left = max(0.0, until - self.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left if left < float("inf") else None):
                await event.wait()
