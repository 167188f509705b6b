"""What an engine can do: step times measured at warm-up, corrected by those of live steps. Pure."""

from collections.abc import Mapping
from typing import Final

MAX_STEP_S: Final = 0.035
"""Longest step: a window that just missed a batch waits for that step, then for its own."""
MAX_LOAD: Final = 0.7
"""The share of its time for which an engine admits live streams: chunks arrive in clumps, and the
machine has other work.
"""
MIN_SLOWNESS: Final = 0.25
"""The machine may have been busy with other work at warm-up."""
SMOOTHING: Final = 0.02
"""Weight of one live step in the moving average of the slowness."""
MAX_RATIO: Final = 2.0
"""Bound of one live step against the average: a machine that stood still for a moment is not slow,
and one that stays slow is followed all the same, two per cent a step.
"""


class Capacity:
    """``seconds``: of a step, by its batch size, with all ``lanes`` busy."""

    def __init__(self, lanes: int, seconds: Mapping[int, float]) -> None:
        if not seconds:
            raise ValueError("no step times; wanted at least that of a batch of one")
        self.lanes, self.seconds = lanes, dict(sorted(seconds.items()))
        self.slowness = 1.0  # duration of live steps / of those at warm-up

    @property
    def max_batch(self) -> int:
        """The largest batch whose step takes at most :data:`MAX_STEP_S` now; at least one."""
        quick = [size for size, s in self.seconds.items() if s * self.slowness <= MAX_STEP_S]
        return max(quick, default=min(self.seconds))

    @property
    def windows_per_s(self) -> float:
        """The throughput of all lanes now."""
        most = self.max_batch
        steps = ((size, s * self.slowness) for size, s in self.seconds.items() if size <= most)
        return max(self.lanes * size / s for size, s in steps)

    def expected(self, size: int) -> float:
        """Seconds of a step at warm-up, linearly interpolated between the batch sizes."""
        below, s_below = 0, 0.0
        for above, s_above in self.seconds.items():
            if size <= above:
                return s_below + (s_above - s_below) * (size - below) / (above - below)
            below, s_below = above, s_above
        return s_below * size / below

    def observe(self, size: int, seconds: float, *, busy: bool) -> None:
        """One live step. ``busy``: all lanes were; else a fast step says nothing of the throughput
        of all, for a lane alone is faster.
        """
        ratio = seconds / self.expected(size)
        if not busy:
            ratio = max(ratio, min(1.0, self.slowness))
        ratio = min(ratio, MAX_RATIO * self.slowness)
        self.slowness = max(MIN_SLOWNESS, self.slowness + (ratio - self.slowness) * SMOOTHING)

    def refusal(self, used: float, more: float) -> str | None:
        """The reason why ``more`` windows per second do not fit beside those in use, or None."""
        if used + more <= MAX_LOAD * self.windows_per_s:
            return None
        return (
            f"{used:.0f} of the {self.windows_per_s:.0f} windows a second that this server manages "
            f"are taken; {more:.0f} more would make all late"
        )
