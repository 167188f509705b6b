"""How much an engine can do: from step times measured at warm-up, corrected by live ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STEP_S: Final = 0.035
"""A batch may take so long: a window that just missed one waits for it, then takes its own."""
LOAD: Final = 0.7
"""The share of its time that an engine is given to do. Chunks come in clumps, and the machine has
other work; what is left keeps the queue short.
"""
FOLLOW: Final = 0.02
"""The share by which one live step moves the correction: the last fifty or so count."""


class Capacity:
    """``seconds`` are those of a step by its batch's size, with all ``lanes`` busy."""

    def __init__(self, lanes: int, seconds: Mapping[int, float]) -> None:
        if not seconds:
            raise ValueError("no step times; wanted at least that of a batch of one")
        self.lanes, self.seconds = lanes, dict(sorted(seconds.items()))
        quick = [size for size, s in self.seconds.items() if s <= STEP_S]
        self.max_batch = max(quick, default=min(self.seconds))
        self.measured = max(lanes * b / s for b, s in self.seconds.items() if b <= self.max_batch)
        self.slowness = 1.0  # of live steps against the warm-up's

    @property
    def windows_per_s(self) -> float:
        """What the lanes together get done, as things are now."""
        return self.measured / self.slowness

    def expected(self, size: int) -> float:
        """Seconds of a step of so many windows, at warm-up: between the sizes a straight line."""
        below, s_below = 0, 0.0
        for above, s_above in self.seconds.items():
            if size <= above:
                return s_below + (s_above - s_below) * (size - below) / (above - below)
            below, s_below = above, s_above
        return s_below * size / below

    def observe(self, size: int, seconds: float) -> None:
        """One live step. Only slower than measured counts: a lane alone is quicker than many."""
        ratio = seconds / self.expected(size)
        self.slowness = max(1.0, self.slowness + (ratio - self.slowness) * FOLLOW)

    def admits(self, taken: float, more: float) -> bool:
        """Whether ``more`` windows a second fit beside those taken."""
        return taken + more <= LOAD * self.windows_per_s
