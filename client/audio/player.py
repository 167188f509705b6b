"""Speech that is sent and played, and each face at the moment its sound is heard.

    async with connect(url, rate=24_000) as face, Player(face) as player:
        await player.say(samples)  # e.g. ready-made speech
        async for frame in player.frames():
            draw(frame.points)

The arithmetic lies in playout.py, the device in speaker.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Final

from numpy.typing import ArrayLike

from client.audio.playout import DeviceClock, FrameSchedule, PlayoutBuffer, Timeline
from client.audio.speaker import Output, Speaker
from client.stream.events import Event
from client.stream.face import Events, Face, Frames
from client.stream.pcm import Piece, pieces
from kfusion.audio import frame_bytes
from kfusion.errors import KFusionError, SpeakerError
from kfusion.stream import frame_count

MARGIN_S: Final = 0.15  # the SDK's silence comes in steps of 100 ms; the rest for the way
MOST_MARGIN_S: Final = 0.5
HELD_S: Final = 30.0  # of sound wait to be played
FRAMES: Final = 600  # wait to be shown
START_S: Final = 5.0  # for the device to play


class Player:
    """Plays what it sends on ``face``, and gives the frames with the sound.

    ``speaker``: what plays, by default the output ``device`` of a number or name, or the
    system's. The sound is heard ``latency_ms`` of the stream and a margin after it was sent:
    ``margin_s``, or else as much as the frames have been found to need, from 150 ms on. Frames
    are given ``lead_s`` before their sound, for what drawing them takes.

    ``schedule.late`` and ``.skipped`` count frames, ``timeline.gaps`` where sound was awaited,
    ``speaker.underruns`` where the device itself was not given sound in time.

    Entering raises :class:`~kfusion.errors.SpeakerError` where nothing can be played.
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
        self.measures = margin_s is None
        self.margin_s = MARGIN_S if margin_s is None else margin_s
        self.lead_s = lead_s
        self.buffer = PlayoutBuffer(frame_bytes(self.audio.format, self.audio.channels))
        self.timeline = Timeline()
        self.device = DeviceClock(self.audio.rate)
        self.schedule = FrameSchedule(self.audio.rate, self.timeline, self.device, lead_s)
        self.held_s = min(HELD_S, face.ready.limits.held_s / 2)
        self._told: deque[tuple[int, float]] = deque(maxlen=10_000)  # by the device's thread
        self._block = 0
        self._settled = False
        self._resets = 0
        self._speaking, self._turn = asyncio.Lock(), asyncio.Lock()
        self._stir, self._room, self._freed = asyncio.Event(), asyncio.Event(), asyncio.Event()
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.speaker.stop()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    # Said

    async def say(self, samples: ArrayLike | bytes) -> bool:
        """Sends and plays sound, as :meth:`Face.send <client.face.Face.send>` takes it.

        Returns once all is sent, which for more than half a minute of sound waits for its
        play-out; False where :meth:`reset` came between.
        """
        async with self._speaking:
            resets = self._resets
            for piece in pieces(samples, self.audio):
                await self._wait_for_room(resets)
                async with self._turn:
                    if self._resets != resets:
                        return False
                    await self.face.send(piece.pcm or b"")
                    self._place(self.face.stream.samples - piece.samples, piece)
        return True

    async def reset(self) -> None:
        """Someone interrupted: silence at once; what was not heard yet is forgotten."""
        async with self._turn:
            self._resets += 1
            self._freed.set()
            await self.face.reset()
            position = self.face.stream.samples
            self.buffer.clear()
            self.timeline.cut(position)
            self.schedule.forget(frame_count(position, self.audio.rate))
            self._place(position, Piece(0, b""))

    async def end(self) -> None:
        """No more sound: the iteration ends once the last of it was heard."""
        async with self._turn:
            await self.face.end()
            self._place(self.face.stream.samples, Piece(0, b""))  # the last frames come only now

    @property
    def ahead_s(self) -> float:
        """Seconds of sound that are still to be heard."""
        self._hear()
        return max(0.0, self.schedule.heard_at(self.timeline.end) - self.clock.now())

    async def _wait_for_room(self, resets: int) -> None:
        while self._resets == resets and (over := self.ahead_s - self.held_s) > 0:
            self._freed.clear()
            await self.clock.wait(self._freed, self.clock.now() + over)
        if self._failure is not None:
            raise self._failure

    def _place(self, first: int, piece: Piece) -> None:
        """Puts sound from stream sample ``first`` on where it will be heard."""
        self._hear()
        margin_s = self._margin_s()
        heard = self.clock.now() + self.face.ready.latency_ms / 1000 + self.lead_s
        soonest = self.buffer.filled + 2 * self._block
        wanted = max(soonest, self.device.sample_at(heard + margin_s))
        least = max(soonest, self.device.sample_at(heard))
        place = self.timeline.place(
            first, piece.samples, wanted=wanted, least=least, unseen=self.schedule.unseen
        )
        if place == wanted:
            self.margin_s = margin_s
            self.schedule.most_late_s = 0.0
        if piece.pcm:
            self.buffer.put(place, piece.pcm)
        self._stir.set()

    def _margin_s(self) -> float:
        """What sound gets that begins now, by how late the frames of the last came."""
        if not self.measures:
            return self.margin_s
        late_s = self.schedule.most_late_s
        if late_s:
            return min(MOST_MARGIN_S, self.margin_s + late_s)
        return MARGIN_S + (self.margin_s - MARGIN_S) * 0.9

    # Heard

    def frames(self) -> Frames:
        """Each frame (68, 2) when its sound is heard; ends after :meth:`end`, with the sound."""
        return Frames(self)

    def events(self) -> Events:
        """As ``face.events()``, with frames and marks when their sound is heard."""
        return Events(self)

    async def next_event(self) -> Event | None:
        """The next event when it is due, or None after the last.

        Raises what ended the stream, once all that came before is shown, and
        :class:`~kfusion.errors.SpeakerError` where the device is gone.
        """
        while True:
            self._hear()
            event = self.schedule.due(self.clock.now())
            if event is not None:
                self._room.set()
                return event
            if self._failure is not None and (
                isinstance(self._failure, SpeakerError) or not self.schedule.queue
            ):
                raise self._failure
            if self._ended and not self.schedule.queue:
                return None
            self._stir.clear()
            await self.clock.wait(self._stir, self.schedule.wake_at())

    async def _read(self) -> None:
        try:
            async for event in self.face.events():
                while self.schedule.frames >= FRAMES:
                    self._room.clear()
                    await self._room.wait()
                self._hear()
                self.schedule.put(event, self.clock.now())
                self._stir.set()
        except KFusionError as error:
            self._failure = self._failure or error
        self._ended = True
        self._stir.set()

    # The device

    def _fill(self, samples: int, heard_at: float) -> bytes:
        """In the device's thread: never waits."""
        self._told.append((self.buffer.filled, heard_at))
        self._block = max(self._block, samples)
        if not self._settled:
            self._wake()
        return self.buffer.take(samples)

    def _gone(self) -> None:
        self._failure = SpeakerError(f"{self.speaker.name} stopped playing; wanted it plugged in")
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._stir.set)

    def _hear(self) -> None:
        """Takes what the device has told of its time."""
        told: list[tuple[int, float]] = []
        while self._told:
            told.append(self._told.popleft())
        self.device.note(*told)

    async def _settle(self) -> None:
        """Waits until the device runs and its time is known: some stand still at first."""
        until = self.clock.now() + START_S
        while not self.device.settled:
            if self._failure is not None:
                raise self._failure
            if self.clock.now() >= until:
                raise SpeakerError(
                    f"{self.speaker.name} plays nothing: within {START_S:g} s it asked for "
                    f"{self.buffer.filled} samples; wanted a device that runs"
                )
            self._stir.clear()
            self._hear()
            if not self.device.settled:
                await self.clock.wait(self._stir, until)
        self._settled = True
