"""What the commands print on standard error: notes, and the status line of a live stream.

The status line takes times as arguments and reads no clock.
"""

from __future__ import annotations

import sys
from collections import deque
from math import log10
from typing import Final

from client.stream.events import Reconnecting, Resumed
from kfusion.stream import sample_of

FLOOR_DB: Final = -60.0
BAR: Final = 20


def print_note(*lines: str) -> None:
    """Prints lines on standard error, each after the program's name."""
    for line in lines:
        print(f"kfusion-client: {line}", file=sys.stderr)


class LatencyMeter:
    """From a sample being heard to the frame that shows it. ``ms`` is smoothed over frames."""

    MOST: Final = 5_000

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.heard: deque[tuple[int, float]] = deque(maxlen=self.MOST)  # (first sample, at)
        self.ms: float | None = None

    def sound(self, first: int, at: float) -> None:
        """Sample ``first`` of the stream was heard at ``at``, s."""
        self.heard.append((first, at))

    def forget(self) -> None:
        """What was heard so far came late for another reason: its frames teach nothing."""
        self.heard.clear()

    def frame(self, n: int, now: float) -> None:
        """Frame ``n`` has come."""
        sample = sample_of(n, self.rate)
        while len(self.heard) > 1 and self.heard[1][0] <= sample:
            self.heard.popleft()
        if not self.heard or self.heard[0][0] > sample:
            return
        first, at = self.heard[0]
        ms = (now - at - (sample - first) / self.rate) * 1000
        self.ms = ms if self.ms is None else self.ms + 0.1 * (ms - self.ms)


def level_bar(level: float) -> str:
    """A bar for a root mean square of 0..1, from -60 dB to full scale."""
    db = 20 * log10(level) if level > 0 else FLOOR_DB
    filled = round(BAR * min(1.0, max(0.0, 1 - db / FLOOR_DB)))
    return "#" * filled + "." * (BAR - filled)


def link_line(event: Reconnecting | Resumed) -> str:
    """What became of the connection."""
    if isinstance(event, Resumed):
        return f"connected again after {event.away_s:.1f} s"
    again = "" if event.attempt == 1 else f" (attempt {event.attempt})"
    return f"connection lost, trying again in {event.wait_s:.1f} s{again}"


def status_line(
    level: float,
    latency_ms: float | None,
    frames: int,
    dropped: int,
    lost_s: float,
    away: str = "",
) -> str:
    """One line of at most 79 characters; ``away``: what to say in place of the latency."""
    latency = "   - ms" if latency_ms is None else f"{latency_ms:4.0f} ms"
    line = f"[{level_bar(level)}] {away or latency}  {frames} frames"
    if dropped:
        line += f"  {dropped} dropped"
    if lost_s:
        line += f"  {lost_s:.1f} s unheard"
    return line[:79]
