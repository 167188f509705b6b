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
LEAST: Final = 0.25
"""The correction's lower bound: the machine may have been busy with other work at warm-up."""
FOLLOW: Final = 0.02
"""The share by which one live step moves the correction: the last fifty or so count."""
STALL: Final = 2.0
"""Times as slow as is known by now that one step may count: a machine that stood still for a moment
is not a slow one, and one that stays slow is followed all the same, two per cent a step.
"""


class Capacity:
    """``seconds`` are those of a step by its batch's size, with all ``lanes`` busy."""

    def __init__(self, lanes: int, seconds: Mapping[int, float]) -> None:
        if not seconds:
            raise ValueError("no step times; wanted at least that of a batch of one")
        self.lanes, self.seconds = lanes, dict(sorted(seconds.items()))
        self.slowness = 1.0  # of live steps against the warm-up's

    @property
    def max_batch(self) -> int:
        """The largest batch that is quick enough, as things are now; at least one."""
        quick = [size for size, s in self.seconds.items() if s * self.slowness <= STEP_S]
        return max(quick, default=min(self.seconds))

    @property
    def windows_per_s(self) -> float:
        """What the lanes together get done, as things are now."""
        most = self.max_batch
        steps = ((size, s * self.slowness) for size, s in self.seconds.items() if size <= most)
        return max(self.lanes * size / s for size, s in steps)

    def expected(self, size: int) -> float:
        """Seconds of a step of so many windows, at warm-up: between the sizes a straight line."""
        below, s_below = 0, 0.0
        for above, s_above in self.seconds.items():
            if size <= above:
                return s_below + (s_above - s_below) * (size - below) / (above - below)
            below, s_below = above, s_above
        return s_below * size / below

    def observe(self, size: int, seconds: float, *, busy: bool) -> None:
        """One live step; ``busy`` if all lanes were. A lane alone is quicker than many, and what
        it does quickly says nothing of them.
        """
        ratio = seconds / self.expected(size)
        if not busy:
            ratio = max(ratio, min(1.0, self.slowness))
        ratio = min(ratio, STALL * self.slowness)
        self.slowness = max(LEAST, self.slowness + (ratio - self.slowness) * FOLLOW)

    def admits(self, taken: float, more: float) -> bool:
        """Whether ``more`` windows a second fit beside those taken."""
        return taken + more <= LOAD * self.windows_per_s
