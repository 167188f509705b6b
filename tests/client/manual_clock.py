"""A clock that a test moves."""

import asyncio


class ManualClock:
    """A :class:`client.clock.Clock` whose time only :meth:`advance` changes."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    async def wait(self, event: asyncio.Event, until: float) -> None:
        while not event.is_set() and self.time < until:  # noqa: ASYNC110 - the test moves time
            await asyncio.sleep(0)

    async def advance(self, seconds: float, step: float = 0.01) -> None:
        """Moves time in steps; every task runs between two steps."""
        for _ in range(round(seconds / step)):
            self.time += step
            await settle()


async def settle() -> None:
    """Lets every task run until it waits for time or for a message."""
    for _ in range(20):
        await asyncio.sleep(0)
