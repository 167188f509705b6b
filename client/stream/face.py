"""One open stream, as its user has it: the asyncio shell around state.py."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Protocol

from numpy.typing import ArrayLike

from client.stream import messages
from client.stream.clock import Clock
from client.stream.connection import Connection
from client.stream.event_queue import EventQueue
from client.stream.events import Event, Frame
from client.stream.pcm import Chunk, chunks, silent_chunks
from client.stream.state import ClientStream, StreamState
from client.stream.transport import Closed
from kfusion import wire
from kfusion.errors import ConnectionFailed, ConnectionLost, KFusionError

LIVE_FRAMES: Final = 300  # unread frames kept of a live stream (10 s)
FILE_FRAMES: Final = 36_000  # ... and of a file (20 min, some 30 MB)


class EventSource(Protocol):
    """Gives one event after the other: a face, or a player."""

    async def next_event(self) -> Event | None: ...


class EventIterator(AsyncIterator[Event]):
    """All events of a source, in the order of the wire; ends after ``wire.End``."""

    def __init__(self, source: EventSource) -> None:
        self.source = source

    async def __anext__(self) -> Event:
        event = await self.source.next_event()
        if event is None:
            raise StopAsyncIteration
        return event


class FrameIterator(AsyncIterator[Frame]):
    """The frames of a source, without its other events."""

    def __init__(self, source: EventSource) -> None:
        self.source = source

    async def __anext__(self) -> Frame:
        while (event := await self.source.next_event()) is not None:
            if isinstance(event, Frame):
                return event
        raise StopAsyncIteration


class Face:
    """One open stream. Made by :func:`client.connect`.

    Sending and reading may go on in different tasks at once. Any method raises what ended the
    stream: the server's error by its name (:mod:`kfusion.errors`), or
    :class:`~kfusion.errors.ConnectionLost`. While a lost connection is being replaced, control
    messages wait to be sent, live audio counts as silence, and other audio waits.

    Attributes:
        ready: The server's answer to the start, or to the latest resumption.
        clock: The clock of the stream.
        stream: The state of the protocol; ``stream.samples`` counts the samples sent.
    """

    ready: wire.Ready

    def __init__(self, stream: ClientStream, connection: Connection, clock: Clock) -> None:
        self.stream, self.connection, self.clock = stream, connection, clock
        self.event_queue = EventQueue(LIVE_FRAMES if stream.live else FILE_FRAMES, live=stream.live)
        self._send_lock = asyncio.Lock()  # what is sent goes out whole and in order
        self._event_put, self._event_taken = asyncio.Event(), asyncio.Event()
        self._progress = asyncio.Event()  # the task that has the lock may have room to send now
        self._due_changed = asyncio.Event()  # silence is due earlier, or audio is to be resent
        self._resets = 0
        self._failure: KFusionError | None = None
        self._finished = False
        self._was_read = False
        self._silence_due = float("inf")
        self._tasks: list[asyncio.Task[None]] = []

    # Sending

    async def send(self, samples: ArrayLike | bytes) -> None:
        """Sends audio: floats in -1..1 or int16, (n,) or (n, channels), or PCM bytes.

        Waits while the server has enough. A :meth:`reset` meanwhile ends the call; the rest of
        the samples is never sent. Raises :class:`~kfusion.errors.BadAudio`.
        """
        await self._send_chunks(chunks(samples, self.stream.audio))

    async def silence(self, samples: int) -> None:
        """Sends silence, as if zeros had been sent."""
        await self._send_chunks(silent_chunks(samples, self.stream.audio.rate))

    async def set_emotion(self, weights: Mapping[str, float], ramp: float = 0.3) -> None:
        """{name: 0..1}, the rest neutral; reached over ``ramp`` seconds."""
        await self._send_control(messages.set_emotion(weights, ramp))

    async def set_identity(
        self, name: str, points: ArrayLike | None = None, *, image: bytes | None = None
    ) -> None:
        """Changes to the face ``name``, which ``points`` (68, 2) at rest define if given.

        With ``image``, a JPEG or PNG file of at most 700 KB and 16 megapixels, the server finds
        the points. ``wire.IdentitySet`` then has them, in pixels of the image; ``wire.Error`` says
        why there are none. A later identity replaces one that is not found yet.
        """
        await self._send_control(messages.set_identity(name, points, image))

    async def mark(self, name: str) -> None:
        """Requests ``wire.MarkReached`` after the frames of all audio sent so far."""
        await self._send_control(messages.mark(name))

    async def reset(self) -> None:
        """Interrupts: the server forgets the audio whose frames it has not sent yet.

        A :meth:`send` or :meth:`silence` in progress returns without sending its rest.
        """
        self._resets += 1
        self._progress.set()  # the task that has the lock gives it up
        await self._send_control(wire.Reset())

    async def end(self) -> None:
        """No more audio: the iteration ends after the frames still to come."""
        await self._send_control(wire.EndOfAudio())

    async def _send_control(self, message: messages.ControlMessage) -> None:
        async with self._send_lock:
            self._check()
            while self.stream.resend_queue.full:
                await self._wait_for_progress()
                await self._flush()
            self.stream.send_control(message, self.clock.now())
            await self._flush()

    async def _send_chunks(self, audio: Iterable[Chunk]) -> None:
        resets = self._resets
        async with self._send_lock:
            for chunk in audio:
                self._check()
                if not await self._wait_for_room(chunk, resets):
                    return
                self.stream.send(chunk, self.clock.now())
                await self._flush()

    async def _wait_for_room(self, chunk: Chunk, resets: int) -> bool:
        """Waits until a chunk may be sent; False after more than ``resets`` resets."""
        while self._resets == resets:
            wait_s = self.stream.wait_s(chunk, self.clock.now())
            away = self.stream.resend and not self.connection.up
            if wait_s > 0:
                await self._wait_for_progress(wait_s)
            elif away or not self.stream.has_room(chunk):
                await self._wait_for_progress()
            else:
                return True
            await self._flush()  # what is sent again on another connection comes first
        return False

    async def _wait_for_progress(self, seconds: float = float("inf")) -> None:
        self._progress.clear()
        await self.clock.wait(self._progress, self.clock.now() + seconds)
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._finished and self.stream.state is not StreamState.DONE:
            raise ConnectionLost("the stream was closed here before its end; wanted it open")

    async def _flush(self) -> None:
        """Sends all that waits to be sent; the caller holds the lock."""
        if self.stream.wake_at() < self._silence_due:
            self._due_changed.set()
        try:
            await self.connection.send()
        except Closed as closed:
            # The receiving task may be about to raise the server's own error.
            await asyncio.wait(self._tasks[:1], timeout=1.0)
            self._check()
            raise self.stream.lost_error(closed.code, closed.reason) from None

    # Reading

    def frames(self) -> FrameIterator:
        """The frames as they come, each (68, 2); ends after the server's ``end``."""
        self._was_read = True
        return FrameIterator(self)

    def events(self) -> EventIterator:
        """Frames, marks, emotions, identities, resets, drops and errors that are not fatal.

        Also :class:`~client.stream.events.Reconnecting` and :class:`~client.stream.events.Resumed`.
        """
        self._was_read = True
        return EventIterator(self)

    async def next_event(self) -> Event | None:
        """The next event, or None after the last."""
        while (event := self.event_queue.pop()) is None:
            if self._failure is not None:
                raise self._failure
            if self._finished:
                return None
            self._event_put.clear()
            await self._event_put.wait()
        self._event_taken.set()
        return event

    # The stream's own tasks

    async def open(self) -> None:
        """Sends the start and waits for the answer."""
        open_timeout = self.connection.open_timeout
        try:
            async with asyncio.timeout(open_timeout):
                with contextlib.suppress(Closed):  # a refusal may be there already: receive it
                    await self.connection.transport.send(self.stream.start_message())
                while self.stream.ready is None:
                    self.stream.receive(await self.connection.receive())
        except TimeoutError:
            raise ConnectionFailed(f"no answer to start within {open_timeout:g} s") from None
        except Closed as closed:
            raise self.stream.lost_error(closed.code, closed.reason) from None
        self.ready = self.stream.ready
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._send_due())]

    async def close(self) -> None:
        """Closes the stream, whatever is still in progress."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._finish(None)
        await self.connection.close()

    async def _read(self) -> None:
        """Receives until the end, and reconnects."""
        try:
            while self.stream.state is not StreamState.DONE:
                try:
                    for event in self.stream.receive(await self.connection.receive()):
                        await self._put_when_read(event)
                except Closed as closed:
                    self._put(await self.connection.reconnect(closed, self._put))
                    self.ready = self.stream.ready or self.ready
                    self._due_changed.set()
                self._progress.set()
        except KFusionError as error:
            self._finish(error)
            await self.connection.close()  # ends the calls that wait to send
        else:
            self._finish(None)

    async def _put_when_read(self, event: Event) -> None:
        while self.event_queue.full:
            if not self._was_read:
                raise KFusionError(
                    f"{len(self.event_queue.events)} events wait and nothing reads them; "
                    "read face.frames() or face.events() in a task beside the sending"
                )
            self._event_taken.clear()
            await self._event_taken.wait()
        self._put(event)

    def _put(self, event: Event) -> None:
        self.event_queue.put(event)
        self._event_put.set()

    def _finish(self, failure: KFusionError | None) -> None:
        self._failure = self._failure or failure
        self._finished = True
        self._event_put.set()
        self._progress.set()

    async def _send_due(self) -> None:
        """Sends silence when it is due, and what a lost connection did not carry."""
        try:
            while not self._finished:
                self._silence_due = self.stream.wake_at()
                await self.clock.wait(self._due_changed, self._silence_due)
                self._due_changed.clear()
                async with self._send_lock:
                    self.stream.tick(self.clock.now())
                    await self._flush()
        except KFusionError:
            return  # the reader raises it
