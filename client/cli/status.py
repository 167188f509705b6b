"""What the commands print on standard error: notes, and the status line of a live stream."""

import sys
from collections import deque
from math import log10
from typing import Final

from client.stream.events import Reconnecting, Resumed
from kfusion.errors import Unauthorized
from kfusion.stream import sample_of

FLOOR_DB: Final = -60.0
BAR_WIDTH: Final = 20


def print_note(*lines: str) -> None:
    """Prints lines on standard error, each after the program's name."""
    for line in lines:
        print(f"kfusion-client: {line}", file=sys.stderr)


def exit_code(error: Exception) -> int:
    """1 where the server or the connection failed, 2 where the command cannot be carried out."""
    failed = getattr(error, "fault", "") == "server" or isinstance(error, Unauthorized)
    return 1 if failed else 2


class LatencyMeter:
    """From the capture of a sample to its frame. ``ms`` is smoothed over frames."""

    CAPACITY: Final = 5_000

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.captures: deque[tuple[int, float]] = deque(maxlen=self.CAPACITY)  # (first sample, s)
        self.ms: float | None = None

    def captured(self, first: int, at: float) -> None:
        """Sample ``first`` of the stream was captured at ``at``, s."""
        self.captures.append((first, at))

    def clear(self) -> None:
        """Ignores the sound so far: its frames were delayed by a lost connection."""
        self.captures.clear()

    def frame(self, n: int, now: float) -> None:
        """Frame ``n`` was received."""
        sample = sample_of(n, self.rate)
        while len(self.captures) > 1 and self.captures[1][0] <= sample:
            self.captures.popleft()
        if not self.captures or self.captures[0][0] > sample:
            return
        first, at = self.captures[0]
        ms = (now - at - (sample - first) / self.rate) * 1000
        self.ms = ms if self.ms is None else self.ms + 0.1 * (ms - self.ms)


def level_bar(level: float) -> str:
    """A bar for a root mean square of 0..1, from -60 dB to full scale."""
    db = 20 * log10(level) if level > 0 else FLOOR_DB
    filled = round(BAR_WIDTH * min(1.0, max(0.0, 1 - db / FLOOR_DB)))
    return "#" * filled + "." * (BAR_WIDTH - filled)


def connection_line(event: Reconnecting | Resumed) -> str:
    """The state of the connection, in words."""
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
    connection: str = "",
) -> str:
    """One line of at most 79 characters; ``connection`` is shown in place of the latency."""
    latency = "   - ms" if latency_ms is None else f"{latency_ms:4.0f} ms"
    line = f"[{level_bar(level)}] {connection or latency}  {frames} frames"
    if dropped:
        line += f"  {dropped} dropped"
    if lost_s:
        line += f"  {lost_s:.1f} s unheard"
    return line[:79]
