"""What is still to be sent to one client, in order, with every frame counted once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kfusion import wire
from kfusion.config import FPS


@dataclass
class Frames:
    """Consecutive frames from ``first``: ``points`` as sent, ``displacement`` canonical."""

    first: int
    points: NDArray[np.float32]  # (k, 68, 2)
    displacement: NDArray[np.float32]  # (k, 68, 2)

    def __len__(self) -> int:
        return len(self.points)

    def split(self, count: int) -> tuple[Frames, Frames]:
        return (
            Frames(self.first, self.points[:count], self.displacement[:count]),
            Frames(self.first + count, self.points[count:], self.displacement[count:]),
        )


class Outbox:
    """Frames and messages in wire order.

    ``waiting`` frames are unsent; ``sent + dropped + waiting`` is every frame ever put here or
    announced. ``last_sent`` is the displacement (68, 2) that the client saw last.
    """

    MAX_BLOCK: Final = 30  # frames a binary message

    def __init__(self, encoding: Literal["json", "binary"]) -> None:
        self.encoding = encoding
        self.items: deque[Frames | wire.ServerMessage] = deque()
        self.waiting = 0
        self.sent = 0
        self.dropped: dict[str, int] = {}
        self.last_sent: NDArray[np.float32] | None = None

    def put(self, message: wire.ServerMessage) -> None:
        self.items.append(message)

    def put_frames(self, frames: Frames) -> None:
        if len(frames):
            self.items.append(frames)
            self.waiting += len(frames)

    def drop_oldest(self, count: int, reason: wire.DropReason) -> None:
        """Gives up the oldest ``count`` unsent frames and announces them in their place."""
        kept: deque[Frames | wire.ServerMessage] = deque()
        while self.items and count:
            item = self.items.popleft()
            if not isinstance(item, Frames):
                kept.append(item)
                continue
            gone, rest = item.split(min(count, len(item)))
            count -= len(gone)
            self.waiting -= len(gone)
            self._count_dropped(len(gone), reason)
            before = kept[-1] if kept else None
            if (
                isinstance(before, wire.Dropped)
                and before.reason == reason
                and before.first + before.count == gone.first
            ):
                kept[-1] = wire.Dropped(before.first, before.count + len(gone), reason)
            else:
                kept.append(wire.Dropped(gone.first, len(gone), reason))
            if len(rest):
                kept.append(rest)
        self.items.extendleft(reversed(kept))

    def drop_all(self, first: int, until: int, reason: wire.DropReason) -> None:
        """Gives up every unsent frame; announces all below ``until`` at once.

        ``first`` is the next frame that would have been put.
        """
        place = len(self.items)
        for k, item in enumerate(self.items):
            if isinstance(item, Frames):
                place, first = k, item.first
                break
        kept = [item for item in self.items if not isinstance(item, Frames)]
        self.waiting = 0
        if until > first:
            self._count_dropped(until - first, reason)
            kept.insert(place, wire.Dropped(first, until - first, reason))
        self.items = deque(kept)

    def _count_dropped(self, count: int, reason: wire.DropReason) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    @property
    def total_dropped(self) -> int:
        return sum(self.dropped.values())

    def pop(self, clock_us: int) -> str | bytes | None:
        """The next message to send, encoded at this time; None when there is none."""
        if not self.items:
            return None
        item = self.items[0]
        if not isinstance(item, Frames):
            self.items.popleft()
            if isinstance(item, wire.End):  # counted when it leaves, so that it is the truth
                item = wire.End(self.sent, self.total_dropped, item.seconds)
            return wire.encode(item)
        count = 1 if self.encoding == "json" else min(len(item), self.MAX_BLOCK)
        now, later = item.split(count)
        if len(later):
            self.items[0] = later
        else:
            self.items.popleft()
        self.waiting -= count
        self.sent += count
        self.last_sent = now.displacement[-1]
        if self.encoding == "json":
            points: list[Any] = now.points[0].ravel().tolist()
            return wire.encode(wire.Frame(now.first, now.first / FPS, points))
        values = now.points.reshape(count, -1)
        return wire.encode_frames(wire.FrameBlock("points", now.first, clock_us, values))
