"""What is still to be sent to one client, in order, with every frame counted once.

What was sent lately is remembered, so that a client whose connection was lost can be given again
what it did not get.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from kfusion import wire
from kfusion.config import FPS
from kfusion.errors import BadMessage
from kfusion.life import HISTORY as HEARD
from server.session.rendering import Look

HISTORY: Final = 900  # sent frames that are remembered, and unsent ones kept for a lost client
MAX_HISTORY: Final = 2 * HISTORY  # blocks of frames and replies remembered
MAX_RANGES: Final = 1000  # separate ranges of dropped frames told apart


@dataclass
class Frames:
    """Consecutive frames from ``first``: canonical ``displacement`` (k, 68, 2), how they are shown,
    and with life what it hears: ``levels`` (HISTORY of kfusion.life + k,).
    """

    first: int
    displacement: NDArray[np.float32]
    look: Look
    levels: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.displacement)

    @property
    def end(self) -> int:
        return self.first + len(self.displacement)

    def shown(
        self, outputs: tuple[wire.Output, ...] | None = None
    ) -> dict[wire.Output, NDArray[np.float32]]:
        """As sent, (k, width) of each output, or of these ones."""
        return self.look.shown(self.first, self.displacement, self.levels, outputs)

    def split(self, count: int) -> tuple[Frames, Frames]:
        before = after = self.levels
        if self.levels is not None:
            before, after = self.levels[: HEARD + count], self.levels[count:]
        return (
            Frames(self.first, self.displacement[:count], self.look, before),
            Frames(self.first + count, self.displacement[count:], self.look, after),
        )

    def holding(self, displacement: NDArray[np.float32]) -> Frames:
        """The same frames from another place in memory."""
        return Frames(self.first, displacement, self.look, self.levels)


class DroppedFrames:
    """The numbers of all frames given up, as merged ranges; counts them by reason, each once."""

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
        if len(self.firsts) > MAX_RANGES:  # the oldest gap is no longer told from what was dropped
            del self.firsts[1], self.ends[0]
        return new

    def within(self, first: int, end: int) -> int:
        """How many of the frames ``first`` .. ``end`` - 1 were dropped."""
        low, high = bisect_right(self.ends, first), bisect_left(self.firsts, end)
        return sum(min(end, self.ends[k]) - max(first, self.firsts[k]) for k in range(low, high))


class Outbox:
    """Frames and messages in wire order.

    ``waiting`` frames are unsent; ``sent + dropped + waiting`` is every frame ever put here or
    announced. ``last_sent`` is the displacement (68, 2) that the client saw last. ``reached`` is
    one past the last frame sent or announced; everything below ``forgotten`` cannot be sent again,
    the rest is in ``history``. ``owed`` of the waiting frames are those that ``rewind`` put back.
    ``written`` counts frames as often as they were sent.

    ``encoding`` "pairs" is for a way that loses messages: each holds one frame and, again, the one
    before it, if that was sent. Answers and errors do not wait for frames then.
    """

    MAX_BLOCK: Final = 30  # frames a binary message

    def __init__(self, encoding: Literal["json", "binary", "pairs"]) -> None:
        self.encoding = encoding
        self.items: deque[Frames | wire.ServerMessage] = deque()
        self.blocks: deque[bytes] = deque()  # the other outputs of frames that are being sent
        self.history: deque[Frames | wire.ServerMessage] = deque()
        # All that the history will ever take, from the start: a server's memory is flat then. A
        # block does not go over the end, and what lies there is the older by up to two blocks.
        self.memory = np.full((HISTORY + 2 * self.MAX_BLOCK, 68, 2), 0, np.float32)
        self.free = 0
        self.remembered = 0  # frames in the history
        self.waiting = 0
        self.owed = 0
        self.sent = 0
        self.written = 0
        self.reached = 0
        self.forgotten = 0
        self.given_up = DroppedFrames()
        self.last_sent: NDArray[np.float32] | None = None
        self.before: tuple[int, dict[wire.Output, NDArray[np.float32]]] | None = None  # of pairs

    @property
    def paired(self) -> bool:
        """Whether frames go another way than the rest."""
        return self.encoding == "pairs"

    @property
    def unsent(self) -> bool:
        return bool(self.items or self.blocks)

    @property
    def dropped(self) -> dict[str, int]:
        """Frames given up, by reason."""
        return self.given_up.by_reason

    @property
    def total_dropped(self) -> int:
        return sum(self.dropped.values())

    def put(self, message: wire.ServerMessage) -> None:
        if self.paired and isinstance(message, (wire.SdpAnswer, wire.Error)):
            self.items.insert(isinstance(next(iter(self.items), None), wire.Ready), message)
        else:
            self.items.append(message)

    def put_frames(self, frames: Frames) -> None:
        if len(frames):
            self.items.append(frames)
            self.waiting += len(frames)

    def give_up(self, first: int, end: int, reason: wire.DropReason) -> None:
        """Announces frames that will never be put: ``first`` .. ``end`` - 1, the next to come."""
        if end <= first:
            return
        self.given_up.add(first, end, reason)
        _announce(self.items, first, end, reason)

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
            self._taken(len(gone))
            self.given_up.add(gone.first, gone.end, reason)
            _announce(kept, gone.first, gone.end, reason)
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
        before, after = list(self.items)[:place], list(self.items)[place:]
        self.items = deque(before)
        if until > first:
            self.given_up.add(first, until, reason)
            self.items.append(wire.Dropped(first, until - first, reason))
        # What was dropped among these frames, and is to be announced again, is part of the whole.
        self.items.extend(item for item in after if not isinstance(item, (Frames, wire.Dropped)))
        self.waiting = self.owed = 0

    def _taken(self, count: int) -> None:
        self.waiting -= count
        self.owed = max(0, self.owed - count)

    def pop(self, clock_us: int, *, frames: bool = True) -> str | bytes | None:
        """The next message to send, encoded at this time; None when there is none, or when it is
        of frames and those are not wanted.
        """
        if self.blocks and frames:
            return self.blocks.popleft()
        if not self.items:
            return None
        item = self.items[0]
        if isinstance(item, Frames) and not frames:
            return None
        if not isinstance(item, Frames):
            self._remember(self.items.popleft())
            if isinstance(item, wire.End):  # counted when it leaves, so that it is the truth
                item = wire.End(self.sent, self.total_dropped, item.seconds)
            return wire.encode(item)
        count = min(len(item), self.MAX_BLOCK) if self.encoding == "binary" else 1
        now, later = item.split(count)
        if len(later):
            self.items[0] = later
        else:
            self.items.popleft()
        self._taken(count)
        self.sent += count
        self.written += count
        self.last_sent = now.displacement[-1]
        self._remember(now)
        shown = now.shown()
        if self.encoding == "json":
            numbers: dict[str, list[float]] = {k: v[0].tolist() for k, v in shown.items()}
            return wire.encode(wire.Frame(now.first, now.first / FPS, **numbers))
        first = now.first
        if self.paired:
            first, shown = self._paired(first, shown)
        self.blocks.extend(
            wire.encode_frames(wire.FrameBlock(name, first, clock_us, values))
            for name, values in shown.items()
        )
        return self.blocks.popleft()

    def _paired(
        self, n: int, shown: dict[wire.Output, NDArray[np.float32]]
    ) -> tuple[int, dict[wire.Output, NDArray[np.float32]]]:
        """Frame ``n`` with the one that was sent before it, as it was sent."""
        before, self.before = self.before, (n, shown)
        if before is None or before[0] != n - 1 or before[1].keys() != shown.keys():
            return n, shown
        return n - 1, {k: np.concatenate((before[1][k], v)) for k, v in shown.items()}

    # A lost connection

    def _remember(self, item: Frames | wire.ServerMessage) -> None:
        if isinstance(item, (wire.Ready, wire.Error, wire.SdpAnswer)):
            return
        if isinstance(item, (Frames, wire.Dropped)):
            self.reached = _end(item)
        new = len(item) if isinstance(item, Frames) else 0
        while self.remembered + new > HISTORY or len(self.history) >= MAX_HISTORY:
            oldest = self.history.popleft()
            if not isinstance(oldest, (Frames, wire.Dropped)):
                continue
            if isinstance(oldest, Frames):
                excess = max(1, self.remembered + new - HISTORY)
                gone, rest = oldest.split(min(excess, len(oldest)))
                self.remembered -= len(gone)
                if len(rest):
                    self.history.appendleft(rest)
                oldest = gone
            self.forgotten = _end(oldest)
        if isinstance(item, Frames):
            self.remembered += new
            item = item.holding(self._stored(item.displacement))
        self.history.append(item)

    def _stored(self, displacement: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy in this outbox's own memory, where the oldest frames were."""
        if self.free + len(displacement) > len(self.memory):
            self.free = 0
        place = self.memory[self.free : self.free + len(displacement)]
        place[:] = displacement
        self.free += len(displacement)
        return place

    def _pack(self) -> None:
        """Moves the history to the memory's start: what is sent next would else come to lie behind
        what was put back, and reach the oldest of the history before its turn.
        """
        kept = [
            item.holding(item.displacement.copy()) if isinstance(item, Frames) else item
            for item in self.history
        ]
        self.free = 0
        self.history = deque(
            item.holding(self._stored(item.displacement)) if isinstance(item, Frames) else item
            for item in kept
        )

    def rewind(self, wanted: int) -> None:
        """Puts back, in its order, what a client did not get that has all frames below it.

        What of it is forgotten is announced as dropped, reason ``resume``. Replies come again if
        the frame that they name is at or after ``wanted``. Raises
        :class:`~kfusion.errors.BadMessage`, and changes nothing, for one beyond what was sent.
        """
        if wanted > self.reached:
            raise BadMessage(
                f"resume.next is {wanted}; wanted at most {self.reached}, the first frame not sent"
            )
        again: list[Frames | wire.ServerMessage] = []
        gap_end = max(wanted, min(self.forgotten, self.reached))
        if gap_end > wanted:
            self.sent -= self.given_up.add(wanted, gap_end, "resume")
            again.append(wire.Dropped(wanted, gap_end - wanted, "resume"))
        self.blocks.clear()
        self.before = None
        history, self.history = self.history, deque()
        told = self.forgotten
        for item in history:
            before, after = _split(item, wanted)
            if isinstance(item, wire.Dropped):  # what of it lies in the gap was announced anew
                after = _split(item, gap_end)[1]
            if isinstance(item, (Frames, wire.Dropped)):
                told = _end(item)
            elif told >= wanted:  # came after all frames that the client has: perhaps not at all
                before, after = None, item
            if before is not None:
                self.history.append(before)
            if isinstance(after, Frames):  # out of the memory that new frames will take
                after = after.holding(after.displacement.copy())
            if after is not None:
                again.append(after)
        frames = [item for item in again if isinstance(item, Frames)]
        put_back = sum(map(len, frames))
        self.remembered -= put_back
        self.waiting += put_back
        self.sent -= put_back
        self.owed = self.waiting
        self.reached = wanted
        seen = [item for item in self.history if isinstance(item, Frames)]
        if seen:
            self.last_sent = seen[-1].displacement[-1].copy()
        self._pack()
        unsent = [item for item in self.items if not isinstance(item, (wire.Ready, wire.SdpAnswer))]
        self.items = deque([*again, *unsent])


def _announce(
    items: deque[Frames | wire.ServerMessage], first: int, end: int, reason: wire.DropReason
) -> None:
    """Appends that frames are dropped, or adds them to what was just announced."""
    before = items[-1] if items else None
    if isinstance(before, wire.Dropped) and before.reason == reason and _end(before) == first:
        items[-1] = wire.Dropped(before.first, end - before.first, reason)
    else:
        items.append(wire.Dropped(first, end - first, reason))


def _end(item: Frames | wire.Dropped) -> int:
    return item.end if isinstance(item, Frames) else item.first + item.count


def _split(
    item: Frames | wire.ServerMessage, frame: int
) -> tuple[Frames | wire.ServerMessage | None, Frames | wire.ServerMessage | None]:
    """What of an item lies before frame ``frame``, and what at or after it."""
    if isinstance(item, Frames):
        before, after = item.split(min(len(item), max(0, frame - item.first)))
        return before if len(before) else None, after if len(after) else None
    if isinstance(item, wire.Dropped):
        kept = min(item.count, max(0, frame - item.first))
        parts = (
            wire.Dropped(item.first, kept, item.reason),
            wire.Dropped(item.first + kept, item.count - kept, item.reason),
        )
        return parts[0] if kept else None, parts[1] if kept < item.count else None
    if isinstance(item, (wire.EmotionSet, wire.IdentitySet, wire.MarkReached, wire.ResetDone)):
        return (item, None) if item.n < frame else (None, item)
    return None, item
