"""When audio is due: the play-out clock of a live stream. Times are seconds of any one clock."""

from collections import deque
from typing import Final


class PlayoutClock:
    """Maps sample positions to the times at which they are spoken.

    Audio is due at the later of its arrival and the end of what came before; silence at the
    end of what came before, however late it arrives.
    """

    GRAIN_S: Final = 0.01  # arrivals are told apart so finely

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.received = 0
        self.end: float | None = None
        self.segments: deque[tuple[int, float]] = deque()  # (first sample, its time)
        self.arrivals: deque[tuple[int, float]] = deque()  # (samples received in all, when)
        self.began: float | None = None  # when the first sample was spoken, at the latest
        self.drift = 0.0  # at the last message: seconds since then less what was received

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
        at = now
        if self.arrivals and now < self.arrivals[-1][1] + self.GRAIN_S:
            at = self.arrivals.pop()[1]
        self.arrivals.append((self.received, at))
        if self.began is None:
            self.began = now - samples / self.rate
        self.drift = now - self.began - self.received / self.rate
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

    def arrived(self, sample: int) -> float:
        """When so many samples were there, to within 10 ms; asked for ever later ones."""
        self._forget_arrivals(sample)
        return self.arrivals[0][1]

    def forget(self, sample: int) -> None:
        """Lets go of what no sample at or after this one needs."""
        while len(self.segments) > 1 and self.segments[1][0] <= sample:
            self.segments.popleft()
        self._forget_arrivals(sample)

    def _forget_arrivals(self, sample: int) -> None:
        while len(self.arrivals) > 1 and self.arrivals[0][0] < sample:
            self.arrivals.popleft()

    def interrupt(self, now: float) -> None:
        """What was to be spoken later is not: the next audio may be due at once."""
        if self.end is not None and self.end > now:
            self.end = now
            self.segments.append((self.received, now))
