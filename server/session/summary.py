"""What a session counts: its errors, and what is told of it when it ends."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

MAX_ERRORS: Final = 100  # so many errors ...
ERRORS_S: Final = 10.0  # ... within this time end a session


class ErrorCounts:
    """Errors of a session ``by_code``, and the times of the ``recent`` ones."""

    def __init__(self) -> None:
        self.by_code: dict[str, int] = {}
        self.recent: deque[float] = deque()

    def add(self, code: str, now: float) -> bool:
        """Counts an error; whether there were too many lately."""
        self.by_code[code] = self.by_code.get(code, 0) + 1
        self.recent.append(now)
        while self.recent and self.recent[0] <= now - ERRORS_S:
            self.recent.popleft()
        return len(self.recent) >= MAX_ERRORS


@dataclass(frozen=True)
class Summary:
    """``sent`` counts each frame once, ``written`` as often as it was sent."""

    mode: str
    seconds: float  # of sound
    sent: int
    written: int
    dropped: dict[str, int]  # frames by reason
    errors: dict[str, int]  # by code
    resumptions: int
    drift: float | None  # of the client's clock, in seconds; None without sound
