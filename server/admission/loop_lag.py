"""How late the event loop runs what is due: the sign that it has more to do than it can."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Final

LATE_S: Final = 0.02  # at which those who ask for much are read later
EVERY_S: Final = 0.05
NOTED: Final = 40  # the last two seconds
SOON: Final = 10  # the last half second


class Lateness:
    """What :meth:`watch` noted over the last two seconds, in seconds."""

    def __init__(self) -> None:
        self._noted: deque[float] = deque(maxlen=NOTED)
        self.most = 0.0  # 95 % of them within

    @property
    def usual(self) -> float:
        """The median."""
        return sorted(self._noted)[len(self._noted) // 2] if self._noted else 0.0

    def late(self) -> bool:
        """Whether it was late in the last half second."""
        return max(islice(reversed(self._noted), SOON), default=0.0) > LATE_S

    async def watch(self) -> None:
        """Notes by how much the running loop is late, all the time."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._noted.append(max(0.0, loop.time() - due))
            self.most = sorted(self._noted)[-1 - len(self._noted) // 20]
