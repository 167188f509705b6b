"""Which windows run next: pure policy, no thread, no clock.

Windows of all sessions meet here. The engine takes a batch whenever it is free, the earliest
deadline first; files, which have none, come after everything live. Nothing waits for company:
while one batch runs the next one gathers.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Items in the order of their deadlines, first come first served among equals."""

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.heap: list[tuple[float, int, T]] = []
        self.arrivals = count()

    def add(self, item: T, deadline: float) -> None:
        heapq.heappush(self.heap, (deadline, next(self.arrivals), item))

    def take(self) -> list[T]:
        """At most ``max_batch`` items, the most urgent first."""
        size = min(self.max_batch, len(self.heap))
        return [heapq.heappop(self.heap)[2] for _ in range(size)]

    def __len__(self) -> int:
        return len(self.heap)
