"""Events that have come and are not read yet, bounded: no I/O, no waiting."""

from __future__ import annotations

from collections import deque
from typing import Final

from client.stream.events import Event, Frame
from kfusion import wire


class Inbox:
    """A queue of events in wire order that holds at most so many frames.

    A live one gives up its oldest frames, each run of them announced in its place as
    ``dropped`` (reason ``slow_reader``), as the server does. One for files is ``full`` instead,
    and its owner stops reading until it is not.
    """

    MESSAGES: Final = 1000

    def __init__(self, frames: int, *, live: bool) -> None:
        self.most, self.live = frames, live
        self.events: deque[Event] = deque()
        self.frames = 0
        self.dropped = 0

    def put(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Frame):
            self.frames += 1
            if self.live and self.frames > self.most:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        at = next(i for i, event in enumerate(self.events) if isinstance(event, Frame))
        gone = self.events[at]
        assert isinstance(gone, Frame)
        self.frames -= 1
        self.dropped += 1
        before = self.events[at - 1] if at else None
        if isinstance(before, wire.Dropped) and before.reason == "slow_reader":
            # Nothing lies between the two: frames and drops follow each other without a gap.
            self.events[at - 1] = wire.Dropped(before.first, before.count + 1, "slow_reader")
            del self.events[at]
        else:
            self.events[at] = wire.Dropped(gone.n, 1, "slow_reader")

    @property
    def full(self) -> bool:
        """Whether its owner should wait before putting more."""
        if len(self.events) - self.frames >= self.MESSAGES:
            return True
        return not self.live and self.frames >= self.most

    def pop(self) -> Event | None:
        """The next event, or None when there is none."""
        if not self.events:
            return None
        event = self.events.popleft()
        self.frames -= isinstance(event, Frame)
        return event
