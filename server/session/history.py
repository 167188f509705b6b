"""What was sent lately, for a client that resumes after a lost connection."""

from collections import deque
from typing import Final

from kfusion import wire
from kfusion.errors import BadMessage
from server.session.rendering import FrameChunk

HISTORY: Final = 900  # sent frames that can be sent again, and unsent ones kept for a lost client
MAX_HISTORY: Final = 2 * HISTORY  # chunks of frames and replies

Item = FrameChunk | wire.ServerMessage


class History:
    """Sent ``items`` in their order, with ``frames`` frames among them.

    All below frame ``end`` was sent or announced; nothing below ``start`` can be sent again.
    """

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.frames = 0
        self.start = 0
        self.end = 0

    def add(self, item: Item) -> None:
        """Remembers what is sent; the oldest items are forgotten beyond the bounds."""
        if isinstance(item, (wire.Ready, wire.Error, wire.SdpAnswer)):
            return  # they are of one connection
        new = len(item) if isinstance(item, FrameChunk) else 0
        while self.frames + new > HISTORY or len(self.items) >= MAX_HISTORY:
            self._forget_oldest(max(1, self.frames + new - HISTORY))
        if isinstance(item, (FrameChunk, wire.Dropped)):
            self.end = end_of(item)
        self.frames += new
        self.items.append(item)

    def _forget_oldest(self, most: int) -> None:
        """Forgets the oldest item; of a chunk, at most so many frames."""
        oldest = self.items.popleft()
        if isinstance(oldest, FrameChunk):
            oldest, rest = oldest.split(min(most, len(oldest)))
            self.frames -= len(oldest)
            if len(rest):
                self.items.appendleft(rest)
        if isinstance(oldest, (FrameChunk, wire.Dropped)):
            self.start = end_of(oldest)

    @property
    def last_chunk(self) -> FrameChunk | None:
        return next((item for item in reversed(self.items) if isinstance(item, FrameChunk)), None)

    def rewind(self, n: int) -> list[Item]:
        """Takes out, in order, what a client did not get that has all frames below ``n``.

        What of it is forgotten comes first, as dropped with the reason ``resume``. A reply is taken
        out if the frame that it names is at or after ``n``, or if it was sent after such a frame.
        Raises :class:`~kfusion.errors.BadMessage`, and changes nothing, if ``n`` is beyond ``end``.
        """
        if n > self.end:
            raise BadMessage(
                f"resume.next is {n}; wanted at most {self.end}, the first frame not sent"
            )
        again: list[Item] = []
        gap_end = max(n, min(self.start, self.end))
        if gap_end > n:
            again.append(wire.Dropped(n, gap_end - n, "resume"))
        items, self.items = self.items, deque()
        sent_end = self.start
        for item in items:
            before, after = split_at(item, n)
            if isinstance(item, wire.Dropped):  # the part in the gap is announced with the gap
                after = split_at(item, gap_end)[1]
            if isinstance(item, (FrameChunk, wire.Dropped)):
                sent_end = end_of(item)
            elif sent_end >= n:  # sent after all frames that the client has: perhaps lost
                before, after = None, item
            if before is not None:
                self.items.append(before)
            if after is not None:
                again.append(after)
        self.frames = sum(len(item) for item in self.items if isinstance(item, FrameChunk))
        self.end = n
        return again


def end_of(item: FrameChunk | wire.Dropped) -> int:
    """One past its last frame."""
    return item.end if isinstance(item, FrameChunk) else item.first + item.count


def split_at(item: Item, n: int) -> tuple[Item | None, Item | None]:
    """What of an item lies before frame ``n``, and what at or after it."""
    if isinstance(item, FrameChunk):
        before, after = item.split(min(len(item), max(0, n - item.first)))
        return before if len(before) else None, after if len(after) else None
    if isinstance(item, wire.Dropped):
        count = min(item.count, max(0, n - item.first))
        rest = item.count - count
        return (
            wire.Dropped(item.first, count, item.reason) if count else None,
            wire.Dropped(item.first + count, rest, item.reason) if rest else None,
        )
    if isinstance(item, (wire.EmotionSet, wire.IdentitySet, wire.MarkReached, wire.ResetDone)):
        return (item, None) if item.n < n else (None, item)
    return None, item
