"""Which windows run next: pure policy, no thread, no clock.

A free lane takes a batch, the earliest deadline first; files, which have none, run when nothing
live waits. No window waits for a batch to fill.
"""

import heapq
from itertools import count
from typing import Final, Generic, TypeVar

T = TypeVar("T")
FILE: Final = float("inf")
"""The deadline of a file's windows."""
MAX_LATE_S: Final = 0.5
"""Time after its deadline at which a live window is not run any more."""


class Batcher(Generic[T]):
    """Items in the order of their deadlines, first come first served among equals."""

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.heap: list[tuple[float, int, T]] = []
        self.arrivals = count()

    def add(self, item: T, deadline: float) -> None:
        heapq.heappush(self.heap, (deadline, next(self.arrivals), item))

    def take(self, now: float, idle: int = 1) -> tuple[list[T], list[T]]:
        """A batch for one of ``idle`` lanes, the earliest deadline first, and the items that are
        too late to run: under overload the oldest are dropped, so that the rest is on time.
        """
        late: list[T] = []
        while self.heap and self.heap[0][0] < now - MAX_LATE_S:
            late.append(heapq.heappop(self.heap)[2])
        size = min(self.max_batch, -(-len(self.heap) // idle))
        batch: list[T] = []
        live = bool(self.heap) and self.heap[0][0] < FILE
        while len(batch) < size and (self.heap[0][0] < FILE) == live:
            batch.append(heapq.heappop(self.heap)[2])
        return batch, late

    def __len__(self) -> int:
        return len(self.heap)
