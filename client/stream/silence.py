"""The silence that a live stream sends when its source stops talking. Pure: times are passed in.

Time moves only with audio, so without silence the last frames and marks of an utterance would
wait for the next one (protocol.md, Time)::

    audio sent            its play-out ends       + 100 ms              + limit
    |--- all at once       |                       |                     |
    |======== speech ======|.......................|--|--|--|--|--|--|---|  silence, in steps
"""

from typing import Final

from kfusion.config import FPS

NEVER: Final = float("inf")


class SilenceFiller:
    """How much silence to send, and when, for one live stream. Times are seconds of one clock."""

    STEP_S: Final = 0.1
    MARGIN_S: Final = 0.4

    def __init__(self, rate: int, frames: int) -> None:
        self.rate = rate
        self.gap_s = frames / FPS + self.MARGIN_S  # hop + lookahead frames, and a margin
        self.limit_s = self.gap_s  # the silence that a gap gets
        self.playout_end: float | None = None  # of the last audio at its own pace
        self.filled = 0  # samples of silence sent since then
        self.hold_until: float | None = None  # after a late poll: audio may be waiting to be sent

    def audio_sent(self, samples: int, now: float) -> int:
        """Notes audio that is sent now; gives the silence to send before it."""
        gap = 0
        if self.playout_end is not None and self.filled:
            gap = self._fill(now)
        self.playout_end = max(now, self._filled_until(now)) + samples / self.rate
        self._reset_gap()
        return gap

    def silence_sent(self, samples: int, now: float) -> None:
        """Notes silence that the caller sends on its own."""
        if self.playout_end is None:
            self.playout_end = now
        self.filled += samples

    def interrupt(self, now: float) -> None:
        """The server forgets what was sent: play-out ends now."""
        if self.playout_end is not None:
            self.playout_end = now
            self._reset_gap()

    def audio_resent(self, samples: int, now: float) -> None:
        """The last ``samples`` are sent once more: they are played from now on, or later."""
        if self.playout_end is not None:
            begin = max(now, self._filled_until(now) - samples / self.rate)
            self.playout_end = begin + samples / self.rate
            self._reset_gap()

    def extend(self, now: float, seconds: float = 0.0) -> None:
        """Lets time go on for a request made now: a mark, an emotion with a ramp of ``seconds``."""
        if self.playout_end is None:
            return
        if self._left == 0:
            self.playout_end = max(now, self._filled_until(now))
            self.filled, self.limit_s = 0, 0.0
        self.limit_s = max(self.limit_s, max(0.0, now - self.playout_end) + self.gap_s + seconds)

    def wake_at(self) -> float:
        """When :meth:`due` next gives silence."""
        if self.playout_end is None or self._left == 0:
            return NEVER
        step_s = min(self.filled / self.rate + self.STEP_S, max(self.limit_s, self.STEP_S))
        at = self.playout_end + step_s
        return at if self.hold_until is None else max(at, self.hold_until)

    def due(self, now: float) -> int:
        """Samples of silence to send now."""
        at = self.wake_at()
        if now < at:
            return 0
        if self.hold_until is None and now > at + self.STEP_S:
            self.hold_until = now + self.STEP_S
            return 0
        self.hold_until = None
        return self._fill(now)

    def backlog_s(self, now: float) -> float:
        """Seconds of what was sent that are still to be played."""
        return max(0.0, self._filled_until(now) - now)

    def _filled_until(self, now: float) -> float:
        return now if self.playout_end is None else self.playout_end + self.filled / self.rate

    def _reset_gap(self) -> None:
        self.filled, self.limit_s, self.hold_until = 0, self.gap_s, None

    def _fill(self, now: float) -> int:
        elapsed = min(self.limit_s, max(0.0, now - (self.playout_end or now)))
        samples = max(0, round(elapsed * self.rate) - self.filled)
        self.filled += samples
        return samples

    @property
    def _left(self) -> int:
        return max(0, round(self.limit_s * self.rate) - self.filled)
