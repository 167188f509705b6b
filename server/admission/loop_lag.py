"""Event-loop lag: how much later than due the loop runs its callbacks, the sign of overload."""

import asyncio
from collections import deque
from itertools import islice
from typing import Final

HIGH_S: Final = 0.02
INTERVAL_S: Final = 0.05
SAMPLES: Final = 40  # two seconds
RECENT: Final = 10  # half a second


class LoopLag:
    """The lag in seconds over the last two seconds, as :meth:`measure` sampled it."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self.p95 = 0.0

    @property
    def median(self) -> float:
        return sorted(self._samples)[len(self._samples) // 2] if self._samples else 0.0

    def high(self) -> bool:
        """Whether the lag exceeded :data:`HIGH_S` in the last half second."""
        return max(islice(reversed(self._samples), RECENT), default=0.0) > HIGH_S

    async def measure(self) -> None:
        """Samples the running loop's lag until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self._samples.append(max(0.0, loop.time() - due))
            self.p95 = sorted(self._samples)[-1 - len(self._samples) // 20]
