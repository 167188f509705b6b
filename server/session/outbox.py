"""What is still to be sent to one client, in order, with every frame counted once."""

from bisect import bisect_left, bisect_right
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kfusion import wire
from server.session.history import History, Item, end_of
from server.session.rendering import Encoding, FrameChunk, FrameEncoder

MAX_RANGES: Final = 1000  # separate ranges of dropped frames


class DroppedFrames:
    """The numbers of all dropped frames, as merged ranges; counts them by reason, each once."""

    def __init__(self) -> None:
        self.by_reason: dict[str, int] = {}
        self.firsts: list[int] = []
        self.ends: list[int] = []

    def add(self, first: int, end: int, reason: str) -> int:
        """Counts frames ``first`` .. ``end`` - 1; gives how many were not dropped before."""
        new = end - first - self.within(first, end)
        self.by_reason[reason] = self.by_reason.get(reason, 0) + new
        low, high = bisect_left(self.ends, first), bisect_right(self.firsts, end)
        if low < high:
            first, end = min(first, self.firsts[low]), max(end, self.ends[high - 1])
        self.firsts[low:high], self.ends[low:high] = [first], [end]
        if len(self.firsts) > MAX_RANGES:  # the oldest gap counts as dropped from now on
            del self.firsts[1], self.ends[0]
        return new

    def within(self, first: int, end: int) -> int:
        """How many of the frames ``first`` .. ``end`` - 1 were dropped."""
        low, high = bisect_right(self.ends, first), bisect_left(self.firsts, end)
        return sum(min(end, self.ends[k]) - max(first, self.firsts[k]) for k in range(low, high))


class Outbox:
    """Frames and messages in wire order.

    ``waiting`` frames are unsent, ``resent`` of them put back by ``rewind``; ``sent + dropped +
    waiting`` is every frame ever put here or announced, and ``written`` counts frames as often as
    they were sent. ``last_sent`` is the displacement (68, 2) that the client got last.

    With the encoding "pairs" frames go over a channel of their own: answers and errors do not wait
    for them.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoder = FrameEncoder(encoding)
        self.items: deque[Item] = deque()
        self.encoded: deque[str | bytes] = (
            deque()
        )  # the other outputs of frames that are being sent
        self.history = History()
        self.waiting = 0
        self.resent = 0
        self.sent = 0
        self.written = 0
        self.dropped_frames = DroppedFrames()
        self.last_sent: NDArray[np.float32] | None = None

    @property
    def paired(self) -> bool:
        """Whether frames go over a channel of their own."""
        return self.encoder.encoding == "pairs"

    @property
    def unsent(self) -> bool:
        return bool(self.items or self.encoded)

    @property
    def dropped(self) -> dict[str, int]:
        """Dropped frames by reason."""
        return self.dropped_frames.by_reason

    @property
    def total_dropped(self) -> int:
        return sum(self.dropped.values())

    def put(self, message: wire.ServerMessage) -> None:
        if self.paired and isinstance(message, (wire.SdpAnswer, wire.Error)):
            self.items.insert(isinstance(next(iter(self.items), None), wire.Ready), message)
        else:
            self.items.append(message)

    def put_frames(self, frames: FrameChunk) -> None:
        if len(frames):
            self.items.append(frames)
            self.waiting += len(frames)

    def announce_dropped(self, first: int, end: int, reason: wire.DropReason) -> None:
        """Announces frames that will never be put: ``first`` .. ``end`` - 1, the next to come."""
        if end <= first:
            return
        self.dropped_frames.add(first, end, reason)
        _announce(self.items, first, end, reason)

    def drop_oldest(self, count: int, reason: wire.DropReason) -> None:
        """Drops the oldest ``count`` unsent frames and announces them in their place."""
        kept: deque[Item] = deque()
        while self.items and count:
            item = self.items.popleft()
            if not isinstance(item, FrameChunk):
                kept.append(item)
                continue
            dropped, rest = item.split(min(count, len(item)))
            count -= len(dropped)
            self._count_removed(len(dropped))
            self.dropped_frames.add(dropped.first, dropped.end, reason)
            _announce(kept, dropped.first, dropped.end, reason)
            if len(rest):
                kept.append(rest)
        self.items.extendleft(reversed(kept))

    def drop_unsent_frames(self, reason: wire.DropReason) -> None:
        """Drops them all, and what is left of the outputs of a frame that is being sent."""
        self.encoded.clear()
        self.drop_oldest(self.waiting, reason)

    def drop_all(self, first: int, until: int, reason: wire.DropReason) -> None:
        """Drops every unsent frame; announces all below ``until`` at once.

        ``first`` is the next frame that would have been put.
        """
        place = len(self.items)
        for k, item in enumerate(self.items):
            if isinstance(item, FrameChunk):
                place, first = k, item.first
                break
        before, after = list(self.items)[:place], list(self.items)[place:]
        self.items = deque(before)
        if until > first:
            self.dropped_frames.add(first, until, reason)
            self.items.append(wire.Dropped(first, until - first, reason))
        # Frames dropped before, and to be announced again, are part of the announced range.
        again = (FrameChunk, wire.Dropped)
        self.items.extend(item for item in after if not isinstance(item, again))
        self.waiting = self.resent = 0

    def _count_removed(self, count: int) -> None:
        self.waiting -= count
        self.resent = max(0, self.resent - count)

    def pop(self, clock_us: int, *, frames: bool = True) -> str | bytes | None:
        """The next message to send, encoded at this time; None when there is none, or when it is
        of frames and ``frames`` is false.
        """
        if self.encoded and frames:
            return self.encoded.popleft()
        if not self.items:
            return None
        item = self.items[0]
        if isinstance(item, FrameChunk):
            if not frames:
                return None
            self._encode_first(item, clock_us)
            return self.encoded.popleft()
        self.history.add(self.items.popleft())
        if isinstance(item, wire.End):  # filled in when it is sent, so that it counts all frames
            item = wire.End(self.sent, self.total_dropped, item.seconds)
        return wire.encode(item)

    def _encode_first(self, item: FrameChunk, clock_us: int) -> None:
        """Moves the first frames of the first item to the encoded messages."""
        chunk, rest = item.split(min(len(item), self.encoder.max_frames))
        if len(rest):
            self.items[0] = rest
        else:
            self.items.popleft()
        self._count_removed(len(chunk))
        self.sent += len(chunk)
        self.written += len(chunk)
        self.last_sent = chunk.displacement[-1]
        self.history.add(chunk)
        self.encoded.extend(self.encoder.encode(chunk, clock_us))

    def rewind(self, n: int) -> None:
        """Puts back, in its order, what a client did not get that has all frames below ``n``.

        Raises :class:`~kfusion.errors.BadMessage`, and changes nothing, beyond what was sent.
        """
        again = self.history.rewind(n)
        forgotten = again[0] if again else None
        if isinstance(forgotten, wire.Dropped) and forgotten.reason == "resume":
            first, end = forgotten.first, end_of(forgotten)
            self.sent -= self.dropped_frames.add(first, end, "resume")
        count = sum(len(item) for item in again if isinstance(item, FrameChunk))
        self.waiting += count
        self.sent -= count
        self.resent = self.waiting
        self.encoded.clear()
        self.encoder.previous = None
        if self.history.last_chunk is not None:
            self.last_sent = self.history.last_chunk.displacement[-1]
        unsent = [item for item in self.items if not isinstance(item, (wire.Ready, wire.SdpAnswer))]
        self.items = deque([*again, *unsent])


def _announce(items: deque[Item], first: int, end: int, reason: wire.DropReason) -> None:
    """Appends that frames are dropped, or adds them to the range announced last."""
    before = items[-1] if items else None
    if isinstance(before, wire.Dropped) and before.reason == reason and end_of(before) == first:
        items[-1] = wire.Dropped(before.first, end - before.first, reason)
    else:
        items.append(wire.Dropped(first, end - first, reason))
