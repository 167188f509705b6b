"""When audio that was sent is heard, and its frames are shown. Pure: times are passed in.

Audio goes to the server at once and to the loudspeaker later, so that its frames are here when
it is heard. Positions are counted in samples: of the stream, and of the device from its start::

    stream   |=== audio ===|..silence that the stream counts..|=== audio ===|
    device   ......|=== audio ===|.............................|=== audio ===|......
             delay                           a longer pause
"""

from collections import deque
from itertools import islice
from statistics import median
from typing import Final

from client.stream.events import Event, Frame
from kfusion import wire
from kfusion.stream import sample_of

NEVER: Final = float("inf")


class PlayoutBuffer:
    """Audio by its position in the device's time. One thread puts, the device's thread takes.

    No lock is needed: positions never change, and the queue grows at one end and shrinks at the
    other.
    """

    def __init__(self, frame_size: int) -> None:
        self.frame_size = frame_size  # bytes of one sample of all channels
        self.taken = 0  # samples that the device has taken
        self.missed = 0  # samples that came too late to be played
        self._chunks: deque[tuple[int, bytes]] = deque()

    def put(self, first: int, pcm: bytes) -> None:
        """Audio from device sample ``first`` on, after all that was put before."""
        self.missed += max(0, min(self.taken - first, len(pcm) // self.frame_size))
        self._chunks.append((first, pcm))

    def take(self, samples: int) -> bytes:
        """What the device plays next; zeros where there is no audio. Never waits."""
        begin, end = self.taken, self.taken + samples
        self.taken = end
        chunks, size = self._chunks, self.frame_size  # clear() replaces the queue
        out = bytearray(samples * size)
        while chunks and chunks[0][0] + len(chunks[0][1]) // size <= begin:
            chunks.popleft()
        k = 0
        while k < len(chunks) and chunks[k][0] < end:
            first, pcm = chunks[k]
            part = pcm[max(0, begin - first) * size : (end - first) * size]
            at = max(0, first - begin) * size
            out[at : at + len(part)] = part
            k += 1
        return bytes(out)

    def clear(self) -> None:
        """Removes what was not taken yet."""
        self._chunks = deque()


class DeviceClock:
    """When a sample of the device is heard, s of any one clock, from the times it reports.

    The median of the reported times over some seconds follows a drift of 200 ppm within a
    millisecond, and a device that paused within ``RECENT`` callbacks.
    """

    WINDOW_S: Final = 5.0
    RECENT: Final = 12
    STEP_S: Final = 0.015

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.offset = 0.0  # when sample 0 was heard, at the present rate
        self._reports: deque[tuple[int, float]] = deque()  # (sample, offset)

    @property
    def settled(self) -> bool:
        return len(self._reports) >= self.RECENT

    def report(self, *times: tuple[int, float]) -> None:
        """Adds (device sample, the time at which it is heard)."""
        if not times:
            return
        self._reports.extend((sample, at - sample / self.rate) for sample, at in times)
        while self._reports[0][0] < self._reports[-1][0] - self.WINDOW_S * self.rate:
            self._reports.popleft()
        recent = list(islice(reversed(self._reports), self.RECENT))
        self.offset = median(offset for _, offset in self._reports)
        latest = median(offset for _, offset in recent)
        if self.settled and abs(latest - self.offset) > self.STEP_S:  # it paused, or skipped
            self._reports = deque(reversed(recent))
            self.offset = latest

    def time_of(self, sample: int) -> float:
        return self.offset + sample / self.rate

    def sample_at(self, time: float) -> int:
        return round((time - self.offset) * self.rate)


class Timeline:
    """Maps samples of the stream to samples of the device; both have one rate.

    Audio that comes too late for its planned position, after a pause or an underrun of its
    source, begins another segment.
    """

    SEGMENTS: Final = 100

    def __init__(self) -> None:
        self.end = 0  # one past the last sample of the stream that is audio
        self.gaps = 0  # segments that began within continuous audio
        # (first stream sample, offset of the device); frames of older segments were shown.
        self._segments: deque[tuple[int, int]] = deque(maxlen=self.SEGMENTS)

    def device_sample(self, sample: int) -> int | None:
        """The device sample of a stream sample; None before any audio was placed."""
        if not self._segments:
            return None
        offsets = (offset for first, offset in reversed(self._segments) if first <= sample)
        return sample + next(offsets, self._segments[0][1])

    def place(
        self, first: int, samples: int, *, preferred: int, earliest: int, unshown: int
    ) -> int:
        """The device sample at which audio from stream sample ``first`` on is played.

        It follows the audio before it. If that is before device sample ``earliest``, a new
        segment begins and plays it at ``preferred``. The segment includes as much of the silence
        before it as the audio before and the frames already shown (those below stream sample
        ``unshown``) allow, so that frames that come only now are shown before the audio.
        """
        planned = self.device_sample(first)
        if planned is None or planned < earliest:
            if planned is not None and first == self.end:
                self.gaps += 1
            begin = max(self.end, min(unshown, first))
            self._segments.append((begin, preferred - first))
            planned = preferred
        self.end = first + samples
        return planned

    def restart(self, end: int) -> None:
        """Audio before stream sample ``end`` that was not played never will be."""
        self.end = end
        self._segments.clear()


class EventSchedule:
    """The events of a stream, each frame at the time at which its sample is heard.

    Marks wait for their audio too, and the end of the stream for the end of the audio. All other
    events come in their place, at once. Of several frames that are due only the last is given.
    A frame is given ``lead_s`` before its audio.
    """

    def __init__(
        self, rate: int, timeline: Timeline, device: DeviceClock, lead_s: float = 0.0
    ) -> None:
        self.rate, self.timeline, self.device, self.lead_s = rate, timeline, device, lead_s
        self.events: deque[Event] = deque()
        self.frames = 0  # in `events`
        self.next_frame = 0  # after the last that was given or removed
        self.late = 0  # frames that came after their audio, by `max_late_s` at most
        self.max_late_s = 0.0
        self.skipped = 0  # frames that were not given

    @property
    def unshown(self) -> int:
        """The stream sample of the next frame."""
        return sample_of(self.next_frame, self.rate)

    def heard_at(self, sample: int) -> float:
        """When a sample of the stream is heard, s; minus infinity before any audio was placed."""
        played = self.timeline.device_sample(sample)
        return -NEVER if played is None else self.device.time_of(played)

    def put(self, event: Event, now: float) -> None:
        if isinstance(event, Frame):
            if event.n < self.next_frame:
                return
            late_s = now - self._due_at(event)
            if 0 < late_s < NEVER:
                self.late += 1
                self.max_late_s = max(self.max_late_s, late_s)
            self.frames += 1
        self.events.append(event)

    def _due_at(self, event: Event) -> float:
        match event:
            case Frame() | wire.MarkReached():
                return self.heard_at(sample_of(event.n, self.rate)) - self.lead_s
            case wire.End():
                return self.heard_at(self.timeline.end)
            case _:
                return -NEVER

    def wake_at(self) -> float:
        """When :meth:`due` next gives an event."""
        return self._due_at(self.events[0]) if self.events else NEVER

    def due(self, now: float) -> Event | None:
        """The next event whose time has come."""
        while self.events and self._due_at(self.events[0]) <= now:
            event = self.events.popleft()
            if not isinstance(event, Frame):
                return event
            self.frames -= 1
            self.next_frame = event.n + 1
            after = next((e for e in self.events if isinstance(e, Frame)), None)
            if after is None or self._due_at(after) > now:
                return event
            self.skipped += 1
        return None

    def drop_frames(self, next_frame: int) -> None:
        """Removes the frames below ``next_frame``, whose audio will not be heard."""
        self.next_frame = max(self.next_frame, next_frame)
        kept = [e for e in self.events if not isinstance(e, Frame) or e.n >= self.next_frame]
        self.events = deque(kept)
        self.frames = sum(isinstance(e, Frame) for e in kept)
