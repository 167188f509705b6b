"""Sends and plays speech, and gives each frame when its audio is heard.

    async with connect(url, rate=24_000) as face, Player(face) as player:
        await player.say(samples)  # e.g. ready-made speech
        async for frame in player.frames():
            draw(frame.points)

The arithmetic is in playout.py, the device in speaker.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final

from numpy.typing import ArrayLike

from client.audio.playout import DeviceClock, EventSchedule, PlayoutBuffer, Timeline
from client.audio.speaker import Output, Speaker
from client.stream.events import Event
from client.stream.face import EventIterator, Face, FrameIterator
from client.stream.pcm import Chunk, chunks
from kfusion.audio import frame_bytes
from kfusion.errors import KFusionError, SpeakerError
from kfusion.stream import frame_count

MARGIN_S: Final = 0.15  # the SDK's silence comes in steps of 100 ms; the rest is transport
MAX_MARGIN_S: Final = 0.5
MAX_AHEAD_S: Final = 30.0  # of audio wait to be played
MAX_FRAMES: Final = 600  # wait to be shown
START_S: Final = 5.0  # until the device plays


class Player:
    """Plays the audio that it sends on ``face``, and gives the frames with it.

    The counters are ``schedule.late`` and ``schedule.skipped`` for frames, ``timeline.gaps`` for
    pauses within continuous audio, and ``speaker.underruns`` for audio that the device was given
    too late. Entering raises :class:`~kfusion.errors.SpeakerError` where nothing can be played.

    Args:
        face: The stream.
        speaker: What plays; by default the output device ``device``.
        device: The number or name of an output device; None: the system's.
        margin_s: The audio is heard the stream's latency and this margin after it was sent. None:
            measured from the frames, 150 ms at first.
        lead_s: Frames are given so long before their audio, for the time that drawing takes.
    """

    def __init__(
        self,
        face: Face,
        speaker: Output | None = None,
        *,
        device: str | int | None = None,
        margin_s: float | None = None,
        lead_s: float = 0.0,
    ) -> None:
        self.face, self.clock, self.audio = face, face.clock, face.stream.audio
        self.speaker: Output = Speaker(device) if speaker is None else speaker
        self.measures_margin = margin_s is None
        self.margin_s = MARGIN_S if margin_s is None else margin_s
        self.lead_s = lead_s
        self.buffer = PlayoutBuffer(frame_bytes(self.audio.format, self.audio.channels))
        self.timeline = Timeline()
        self.device = DeviceClock(self.audio.rate)
        self.schedule = EventSchedule(self.audio.rate, self.timeline, self.device, lead_s)
        self.max_ahead_s = min(MAX_AHEAD_S, face.ready.limits.held_s / 2)
        self._reports: deque[tuple[int, float]] = deque(maxlen=10_000)  # of the device's thread
        self._block = 0
        self._settled = False
        self._resets = 0
        self._say_lock, self._send_lock = asyncio.Lock(), asyncio.Lock()
        self._due_changed, self._event_taken = asyncio.Event(), asyncio.Event()
        self._interrupted = asyncio.Event()
        self._failure: KFusionError | None = None
        self._ended = False
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Player:
        self._loop = asyncio.get_running_loop()
        self.speaker.start(self.audio, self._fill, self._gone)
        try:
            await self._settle()
        except BaseException:
            self.speaker.stop()
            raise
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.speaker.stop()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    # Sending

    async def say(self, samples: ArrayLike | bytes) -> bool:
        """Sends and plays audio, in the forms of :meth:`client.Face.send`.

        Returns once all is sent; of more than half a minute of audio, once the rest is less.
        Returns False where :meth:`reset` interrupted it.
        """
        async with self._say_lock:
            resets = self._resets
            for chunk in chunks(samples, self.audio):
                await self._wait_for_room(resets)
                async with self._send_lock:
                    if self._resets != resets:
                        return False
                    await self.face.send(chunk.pcm or b"")
                    self._place(self.face.stream.samples - chunk.samples, chunk)
        return True

    async def reset(self) -> None:
        """Interrupts: silence at once; audio that was not heard yet is dropped."""
        async with self._send_lock:
            self._resets += 1
            self._interrupted.set()
            await self.face.reset()
            position = self.face.stream.samples
            self.buffer.clear()
            self.timeline.restart(position)
            self.schedule.drop_frames(frame_count(position, self.audio.rate))
            self._place(position, Chunk(0, b""))

    async def end(self) -> None:
        """No more audio: the iteration ends once the last of it was heard."""
        async with self._send_lock:
            await self.face.end()
            self._place(self.face.stream.samples, Chunk(0, b""))  # the last frames come now

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that are still to be heard."""
        self._update_clock()
        return max(0.0, self.schedule.heard_at(self.timeline.end) - self.clock.now())

    async def _wait_for_room(self, resets: int) -> None:
        while self._resets == resets and (wait_s := self.ahead_s - self.max_ahead_s) > 0:
            self._interrupted.clear()
            await self.clock.wait(self._interrupted, self.clock.now() + wait_s)
        if self._failure is not None:
            raise self._failure

    def _place(self, first: int, chunk: Chunk) -> None:
        """Puts audio from stream sample ``first`` on where it will be heard."""
        self._update_clock()
        margin_s = self._margin_s()
        heard = self.clock.now() + self.face.ready.latency_ms / 1000 + self.lead_s
        soonest = self.buffer.taken + 2 * self._block
        preferred = max(soonest, self.device.sample_at(heard + margin_s))
        earliest = max(soonest, self.device.sample_at(heard))
        place = self.timeline.place(
            first,
            chunk.samples,
            preferred=preferred,
            earliest=earliest,
            unshown=self.schedule.unshown,
        )
        if place == preferred:
            self.margin_s = margin_s
            self.schedule.max_late_s = 0.0
        if chunk.pcm:
            self.buffer.put(place, chunk.pcm)
        self._due_changed.set()

    def _margin_s(self) -> float:
        """The margin of audio that begins now, by how late the frames before it came."""
        if not self.measures_margin:
            return self.margin_s
        late_s = self.schedule.max_late_s
        if late_s:
            return min(MAX_MARGIN_S, self.margin_s + late_s)
        return MARGIN_S + (self.margin_s - MARGIN_S) * 0.9

    # Reading

    def frames(self) -> FrameIterator:
        """Each frame (68, 2) when its audio is heard; ends after :meth:`end`, with the audio."""
        return FrameIterator(self)

    def events(self) -> EventIterator:
        """As ``face.events()``, with frames and marks when their audio is heard."""
        return EventIterator(self)

    async def next_event(self) -> Event | None:
        """The next event when it is due, or None after the last.

        Raises what ended the stream, after the events before it, and
        :class:`~kfusion.errors.SpeakerError` where the device is gone.
        """
        while True:
            self._update_clock()
            event = self.schedule.due(self.clock.now())
            if event is not None:
                self._event_taken.set()
                return event
            if self._failure is not None and (
                isinstance(self._failure, SpeakerError) or not self.schedule.events
            ):
                raise self._failure
            if self._ended and not self.schedule.events:
                return None
            self._due_changed.clear()
            await self.clock.wait(self._due_changed, self.schedule.wake_at())

    async def _read(self) -> None:
        try:
            async for event in self.face.events():
                while self.schedule.frames >= MAX_FRAMES:
                    self._event_taken.clear()
                    await self._event_taken.wait()
                self._update_clock()
                self.schedule.put(event, self.clock.now())
                self._due_changed.set()
        except KFusionError as error:
            self._failure = self._failure or error
        self._ended = True
        self._due_changed.set()

    # The device

    def _fill(self, samples: int, heard_at: float) -> bytes:
        """In the device's thread: never waits."""
        self._reports.append((self.buffer.taken, heard_at))
        self._block = max(self._block, samples)
        if not self._settled:
            self._wake()
        return self.buffer.take(samples)

    def _gone(self) -> None:
        self._failure = SpeakerError(f"{self.speaker.name} stopped playing; wanted it plugged in")
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._due_changed.set)

    def _update_clock(self) -> None:
        """Takes the times that the device's thread has reported."""
        reports: list[tuple[int, float]] = []
        while self._reports:
            reports.append(self._reports.popleft())
        self.device.report(*reports)

    async def _settle(self) -> None:
        """Waits until the device runs and its time is known: some pause at first."""
        until = self.clock.now() + START_S
        while not self.device.settled:
            if self._failure is not None:
                raise self._failure
            if self.clock.now() >= until:
                raise SpeakerError(
                    f"{self.speaker.name} plays nothing: within {START_S:g} s it asked for "
                    f"{self.buffer.taken} samples; wanted a device that runs"
                )
            self._due_changed.clear()
            self._update_clock()
            if not self.device.settled:
                await self.clock.wait(self._due_changed, until)
        self._settled = True
