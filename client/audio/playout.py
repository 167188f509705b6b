"""When sound that was sent is heard, and its faces with it. Pure: samples and times are passed in.

Sound goes to the server at once and to the loudspeaker later, so that its frames are here when
it is heard. Both are counted in samples: of the stream, and of the device from its start::

    stream   |=== sound ===|..silence that the stream counts..|=== sound ===|
    device   ......|=== sound ===|.............................|=== sound ===|......
             delay                           a longer pause

:class:`PlayoutBuffer` holds sound at its place of the device, :class:`Timeline` says which sample
of the stream is which of the device, :class:`DeviceClock` when a sample of the device is heard,
and :class:`FrameSchedule` gives each frame at that time.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from statistics import median
from typing import Final

from client.stream.events import Event, Frame
from kfusion import wire
from kfusion.stream import sample_of

NEVER: Final = float("inf")


class PlayoutBuffer:
    """Sound at its places in the device's time: one thread puts, the device's takes.

    Without locks: a sound's place never changes, and the queue is grown at one end only and
    shrunk at the other. ``size``: bytes of a sample of all channels. ``filled``: samples that
    the device has taken. ``cut``: samples that came too late to be played.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled = 0
        self.cut = 0
        self._sounds: deque[tuple[int, bytes]] = deque()

    def put(self, first: int, pcm: bytes) -> None:
        """Sound from device sample ``first`` on, after all that was put before."""
        self.cut += max(0, min(self.filled - first, len(pcm) // self.size))
        self._sounds.append((first, pcm))

    def take(self, samples: int) -> bytes:
        """What the device plays next: zeros where no sound is. Never waits."""
        begin, end = self.filled, self.filled + samples
        self.filled = end
        sounds, size = self._sounds, self.size  # clear() puts another queue in its place
        out = bytearray(samples * size)
        while sounds and sounds[0][0] + len(sounds[0][1]) // size <= begin:
            sounds.popleft()
        k = 0
        while k < len(sounds) and sounds[k][0] < end:
            first, pcm = sounds[k]
            part = pcm[max(0, begin - first) * size : (end - first) * size]
            at = max(0, first - begin) * size
            out[at : at + len(part)] = part
            k += 1
        return bytes(out)

    def clear(self) -> None:
        """Forgets what was not taken yet."""
        self._sounds = deque()


class DeviceClock:
    """When a sample of the device is heard, from the times that it tells, s of any one clock.

    Told times jitter, and the device's own second is not ours: the median of what the last
    seconds say follows 200 ppm within a millisecond and a device that stood still within
    ``RECENT`` callbacks.
    """

    WINDOW_S: Final = 5.0
    RECENT: Final = 12
    STEP_S: Final = 0.015

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.offset = 0.0  # when sample 0 was heard, as the present goes
        self._told: deque[tuple[int, float]] = deque()  # (sample, offset)

    @property
    def settled(self) -> bool:
        """Whether the device has run long enough to be believed."""
        return len(self._told) >= self.RECENT

    def note(self, *told: tuple[int, float]) -> None:
        """(device sample, the time at which it is heard), each."""
        if not told:
            return
        self._told.extend((sample, at - sample / self.rate) for sample, at in told)
        while self._told[0][0] < self._told[-1][0] - self.WINDOW_S * self.rate:
            self._told.popleft()
        recent = list(islice(reversed(self._told), self.RECENT))
        self.offset = median(offset for _, offset in self._told)
        now = median(offset for _, offset in recent)
        if self.settled and abs(now - self.offset) > self.STEP_S:  # it stood still, or skipped
            self._told = deque(reversed(recent))
            self.offset = now

    def at(self, sample: int) -> float:
        return self.offset + sample / self.rate

    def sample_at(self, time: float) -> int:
        return round((time - self.offset) * self.rate)


class Timeline:
    """Which sample of the device plays a sample of the stream; both of one rate.

    ``end``: one past the last sample of the stream that is sound. A source that has run dry, or
    pauses longer than the stream counts, puts what follows later: then another segment begins.
    ``gaps`` counts those within sound that follows on, ``gap_samples`` what they are long.
    """

    SEGMENTS: Final = 100

    def __init__(self) -> None:
        self.end = 0
        self.gaps = 0
        self.gap_samples = 0
        # First stream sample, what to add; older ones are of frames that nobody will ask for.
        self._segments: deque[tuple[int, int]] = deque(maxlen=self.SEGMENTS)

    def device(self, sample: int) -> int | None:
        """The device's sample; None before anything was placed."""
        if not self._segments:
            return None
        shifts = (shift for first, shift in reversed(self._segments) if first <= sample)
        return sample + next(shifts, self._segments[0][1])

    def place(self, first: int, samples: int, *, wanted: int, least: int, unseen: int) -> int:
        """Where sound from stream sample ``first`` on is played: after what was before it.

        Only where that would be before device sample ``least`` it is played at ``wanted``
        instead. The silence between is then put as early as the sound before it and the frames
        already shown (those below stream sample ``unseen``) allow, so that the frames that
        only now come meet the time before the sound.
        """
        planned = self.device(first)
        if planned is None or planned < least:
            if planned is not None and first == self.end:
                self.gaps += 1
                self.gap_samples += wanted - planned
            begins = max(self.end, min(unseen, first))
            self._segments.append((begins, wanted - first))
            planned = wanted
        self.end = first + samples
        return planned

    def cut(self, end: int) -> None:
        """The sound before stream sample ``end`` that was not played never will be."""
        self.end = end
        self._segments.clear()


class FrameSchedule:
    """What a stream tells, each frame at the time at which its sample is heard.

    Marks wait for the sound too, the stream's end for the end of the sound; everything else
    comes in its place, at once. Of several frames that are due only the last is given.
    ``late`` counts frames that came after their sound, by ``most_late_s`` at most; ``skipped``
    those that were not given. ``lead_s``: how much earlier than its sound a frame is given.
    """

    def __init__(
        self, rate: int, timeline: Timeline, device: DeviceClock, lead_s: float = 0.0
    ) -> None:
        self.rate, self.timeline, self.device, self.lead_s = rate, timeline, device, lead_s
        self.queue: deque[Event] = deque()
        self.frames = 0  # in the queue
        self.next_frame = 0  # after the last that was given, or forgotten
        self.late = 0
        self.most_late_s = 0.0
        self.skipped = 0

    @property
    def unseen(self) -> int:
        """The stream's sample of the next frame."""
        return sample_of(self.next_frame, self.rate)

    def heard_at(self, sample: int) -> float:
        """When a sample of the stream is heard, s; long ago, if nothing was ever played."""
        device = self.timeline.device(sample)
        return -NEVER if device is None else self.device.at(device)

    def put(self, event: Event, now: float) -> None:
        if isinstance(event, Frame):
            if event.n < self.next_frame:
                return
            late = now - self._time(event)
            if 0 < late < NEVER:
                self.late += 1
                self.most_late_s = max(self.most_late_s, late)
            self.frames += 1
        self.queue.append(event)

    def _time(self, event: Event) -> float:
        match event:
            case Frame() | wire.MarkReached():
                return self.heard_at(sample_of(event.n, self.rate)) - self.lead_s
            case wire.End():
                return self.heard_at(self.timeline.end)
            case _:
                return -NEVER

    def wake_at(self) -> float:
        """When :meth:`due` next has something to give."""
        return self._time(self.queue[0]) if self.queue else NEVER

    def due(self, now: float) -> Event | None:
        """The next event whose time has come."""
        while self.queue and self._time(self.queue[0]) <= now:
            event = self.queue.popleft()
            if not isinstance(event, Frame):
                return event
            self.frames -= 1
            self.next_frame = event.n + 1
            after = next((e for e in self.queue if isinstance(e, Frame)), None)
            if after is None or self._time(after) > now:
                return event
            self.skipped += 1
        return None

    def forget(self, next_frame: int) -> None:
        """Frames below ``next_frame`` show what will not be heard; all else stays."""
        self.next_frame = max(self.next_frame, next_frame)
        kept = [e for e in self.queue if not isinstance(e, Frame) or e.n >= self.next_frame]
        self.queue = deque(kept)
        self.frames = sum(isinstance(e, Frame) for e in kept)
