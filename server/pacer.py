"""When audio is due: the play-out clock of a live stream. Times are seconds of any one clock."""

from __future__ import annotations

from collections import deque


class PlayoutClock:
    """Maps sample positions to the times at which they are spoken.

    Audio is due at the later of its arrival and the end of what came before; silence at the
    end of what came before, however late it arrives.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.received = 0
        self.end: float | None = None
        self.segments: deque[tuple[int, float]] = deque()  # (first sample, its time)

    def end_with(self, samples: int, now: float, *, silent: bool) -> float:
        """Where the clock would end after a message of so many samples."""
        return self._begin(now, silent) + samples / self.rate

    def _begin(self, now: float, silent: bool) -> float:
        if self.end is None:
            return now
        return self.end if silent else max(now, self.end)

    def add(self, samples: int, now: float, *, silent: bool) -> None:
        begin = self._begin(now, silent)
        if begin != self.end:
            self.segments.append((self.received, begin))
        self.received += samples
        # From the segment's start, so that an hour of chunks adds up without rounding.
        first, at = self.segments[-1]
        self.end = at + (self.received - first) / self.rate

    def due(self, sample: int) -> float:
        """When a received sample is spoken."""
        for first, at in reversed(self.segments):
            if first <= sample:
                return at + (sample - first) / self.rate
        first, at = self.segments[0]
        return at + (sample - first) / self.rate

    def forget(self, sample: int) -> None:
        """Lets go of what no sample at or after this one needs."""
        while len(self.segments) > 1 and self.segments[1][0] <= sample:
            self.segments.popleft()

    def interrupt(self, now: float) -> None:
        """What was to be spoken later is not: the next audio may be due at once."""
        if self.end is not None and self.end > now:
            self.end = now
            self.segments.append((self.received, now))
