"""The silence that a live source owes once it has stopped talking. Pure: times are passed in.

Time moves only with audio, so without it the last frames and marks of an utterance would wait
for the next one (protocol.md, Time)::

    audio sent            its play-out ends       + 100 ms              + limit
    |--- all at once       |                       |                     |
    |======== spoken ======|.......................|--|--|--|--|--|--|---|  silence, in steps
"""

from __future__ import annotations

from typing import Final

from kfusion.config import FPS

NEVER: Final = float("inf")


class SilenceOwed:
    """How much silence to send, and when, for one live stream.

    ``end``: when the last audio has been spoken, by its own play-out, in seconds of any one
    clock; None before the first. ``paid``: samples of silence sent since, by whomever.
    ``limit``: seconds of silence a gap may get: hop + lookahead frames plus 0.4 s.
    """

    STEP_S: Final = 0.1
    BEYOND_S: Final = 0.4

    def __init__(self, rate: int, frames: int) -> None:
        self.rate = rate
        self.most = frames / FPS + self.BEYOND_S
        self.limit = self.most
        self.end: float | None = None
        self.paid = 0
        self.hold: float | None = None  # a late poll is our own stall: audio may be waiting

    def audio(self, samples: int, now: float) -> int:
        """Notes audio that is sent now; gives the silence still owed, to be sent before it."""
        owed = 0
        if self.end is not None and self.paid:
            owed = self._pay(now)
        begins = now if self.end is None else max(now, self.end + self.paid / self.rate)
        self.end = begins + samples / self.rate
        self.paid, self.limit, self.hold = 0, self.most, None
        return owed

    def silence(self, samples: int, now: float) -> None:
        """Notes silence that the caller sends of its own accord."""
        if self.end is None:
            self.end = now
        self.paid += samples

    def interrupt(self, now: float) -> None:
        """What was sent is forgotten: nothing more is spoken from now on."""
        if self.end is not None:
            self.end, self.paid, self.limit, self.hold = now, 0, self.most, None

    def again(self, samples: int, now: float) -> None:
        """The last so many samples are sent once more: they are spoken from now on, or later."""
        if self.end is not None:
            begins = max(now, self.end + (self.paid - samples) / self.rate)
            self.end, self.paid = begins + samples / self.rate, 0
            self.limit, self.hold = self.most, None

    def nudge(self, now: float, seconds: float = 0.0) -> None:
        """Lets time run on for what was just asked for (a mark, an emotion of so many seconds)."""
        if self.end is None:
            return
        if self._left == 0:
            self.end, self.paid, self.limit = max(now, self.end + self.paid / self.rate), 0, 0.0
        self.limit = max(self.limit, max(0.0, now - self.end) + self.most + seconds)

    def wake_at(self) -> float:
        """When :meth:`due` next has something to say."""
        if self.end is None or self._left == 0:
            return NEVER
        at = self.end + min(self.paid / self.rate + self.STEP_S, max(self.limit, self.STEP_S))
        return at if self.hold is None else max(at, self.hold)

    def due(self, now: float) -> int:
        """Samples of silence to send now."""
        at = self.wake_at()
        if now < at:
            return 0
        if self.hold is None and now > at + self.STEP_S:
            self.hold = now + self.STEP_S
            return 0
        self.hold = None
        return self._pay(now)

    def _pay(self, now: float) -> int:
        elapsed = min(self.limit, max(0.0, now - (self.end or now)))
        samples = max(0, round(elapsed * self.rate) - self.paid)
        self.paid += samples
        return samples

    @property
    def _left(self) -> int:
        return max(0, round(self.limit * self.rate) - self.paid)

    def ahead(self, now: float) -> float:
        """Seconds of what was sent that are still to be spoken."""
        if self.end is None:
            return 0.0
        return max(0.0, self.end + self.paid / self.rate - now)
