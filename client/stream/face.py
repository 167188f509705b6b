"""One open stream, as its user has it: the asyncio shell around protocol.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Final, Protocol

from numpy.typing import ArrayLike

from client.stream.clock import Clock
from client.stream.connection import Link
from client.stream.event_queue import Inbox
from client.stream.events import Event, Frame
from client.stream.pcm import Piece, pieces, silent_pieces
from client.stream.state import ClientStream, State
from client.stream.transports import Closed
from kfusion import wire
from kfusion.errors import ConnectionFailed, ConnectionLost, KFusionError

LIVE_FRAMES: Final = 300  # unread frames kept of a live stream (10 s)
FILE_FRAMES: Final = 36_000  # ... and of a file (20 min, some 30 MB)


class Told(Protocol):
    """What tells one event after the other: a face, or a player (player.py)."""

    async def next_event(self) -> Event | None: ...


class Events(AsyncIterator[Event]):
    """Everything a face tells, in the order of the wire; ends after ``wire.End``."""

    def __init__(self, face: Told) -> None:
        self.face = face

    async def __anext__(self) -> Event:
        event = await self.face.next_event()
        if event is None:
            raise StopAsyncIteration
        return event


class Frames(AsyncIterator[Frame]):
    """Only the frames of a face; what else it tells is passed over."""

    def __init__(self, face: Told) -> None:
        self.face = face

    async def __anext__(self) -> Frame:
        while (event := await self.face.next_event()) is not None:
            if isinstance(event, Frame):
                return event
        raise StopAsyncIteration


class Face:
    """One open stream. Made by :func:`client.sdk.connect`.

    ``ready`` is what the server answered to the start, or last to a resumption. Sending and
    reading may go on in different tasks at once. Any method raises what ended the stream: the
    server's error by its name (:mod:`kfusion.errors`), or
    :class:`~kfusion.errors.ConnectionLost`. While a lost connection is being replaced, words
    are taken and sent later, live sound goes by, and other sound waits.
    """

    ready: wire.Ready

    def __init__(self, stream: ClientStream, link: Link, clock: Clock) -> None:
        self.stream, self.link, self.clock = stream, link, clock
        self.inbox = Inbox(LIVE_FRAMES if stream.live else FILE_FRAMES, live=stream.live)
        self._turn = asyncio.Lock()  # what is sent goes out whole and in order
        self._arrived, self._room, self._stir = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._moved = asyncio.Event()  # for whoever has the turn: there may be room now
        self._resets = 0
        self._failure: KFusionError | None = None
        self._finished = False
        self._was_read = False
        self._filling_until = float("inf")
        self._tasks: list[asyncio.Task[None]] = []

    # Sending

    async def send(self, samples: ArrayLike | bytes) -> None:
        """Audio: floats in -1..1 or int16, (n,) or (n, channels), or PCM bytes.

        Waits while the server has enough; a :meth:`reset` meanwhile ends that, and what was not
        sent of it by then never is. Raises :class:`~kfusion.errors.BadAudio`.
        """
        await self._send_pieces(pieces(samples, self.stream.audio))

    async def silence(self, samples: int) -> None:
        """So many samples of silence, as if zeros had been sent."""
        await self._send_pieces(silent_pieces(samples, self.stream.audio.rate))

    async def set_emotion(self, weights: Mapping[str, float], ramp: float = 0.3) -> None:
        """{name: 0..1}, what is left over neutral; reached over ``ramp`` seconds."""
        await self._say(lambda now: self.stream.emotion(weights, ramp, now))

    async def set_identity(
        self, name: str, points: ArrayLike | None = None, *, image: bytes | None = None
    ) -> None:
        """Animates a face put before, or with ``points`` (68, 2) at rest puts it first.

        With ``image``, a JPEG or PNG file of at most 700 KB and 16 megapixels, the server finds
        them: ``wire.IdentitySet`` tells them, in its pixels, once that is done, or ``wire.Error``
        why there are none. A later identity takes the place of one that is not found yet.
        """
        await self._say(lambda now: self.stream.identity(name, points, now, image))

    async def mark(self, name: str) -> None:
        """Asks for ``wire.MarkReached`` once the frames of all sent so far have come."""
        await self._say(lambda now: self.stream.mark(name, now))

    async def reset(self) -> None:
        """Someone interrupted: what was sent and not shown yet is forgotten.

        So is the rest of what :meth:`send` and :meth:`silence` are at: they return without it.
        """
        self._resets += 1
        self._moved.set()  # whoever has the turn and waits gives it up
        await self._say(self.stream.reset)

    async def end(self) -> None:
        """No more audio: the frames still to come end the iteration."""
        async with self._turn:
            self._check()
            self.stream.end()
            await self._flush()

    async def _say(self, words: Callable[[float], None]) -> None:
        async with self._turn:
            self._check()
            while self.stream.journal.full:
                await self._wait_for_room()
                await self._flush()
            words(self.clock.now())
            await self._flush()

    async def _send_pieces(self, sound: Iterable[Piece]) -> None:
        resets = self._resets
        async with self._turn:
            for piece in sound:
                self._check()
                if not await self._admit(piece, resets):
                    return
                self.stream.send(piece, self.clock.now())
                await self._flush()

    async def _admit(self, piece: Piece, resets: int) -> bool:
        """Waits until a piece may be sent; False where more than ``resets`` were asked for."""
        while self._resets == resets:
            wait = self.stream.wait(piece, self.clock.now())
            away = self.stream.resend and not self.link.up
            if wait > 0:
                await self._wait_for_room(wait)
            elif away or not self.stream.room(piece):
                await self._wait_for_room()
            else:
                return True
            await self._flush()  # what another connection has to carry first
        return False

    async def _wait_for_room(self, seconds: float = float("inf")) -> None:
        self._moved.clear()
        await self.clock.wait(self._moved, self.clock.now() + seconds)
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._finished and self.stream.state is not State.DONE:
            raise ConnectionLost("the stream was closed here before its end; wanted it open")

    async def _flush(self) -> None:
        """Sends all that was said, while the turn is held."""
        if self.stream.wake_at() < self._filling_until:
            self._stir.set()
        try:
            await self.link.send()
        except Closed as closed:
            # The server's own words may still be on their way through the reader.
            await asyncio.wait(self._tasks[:1], timeout=1.0)
            self._check()
            raise self.stream.lost(closed.code, closed.reason) from None

    # Reading

    def frames(self) -> Frames:
        """The frames as they come, each (68, 2); ends when the server's ``end`` came."""
        self._was_read = True
        return Frames(self)

    def events(self) -> Events:
        """Frames, marks, emotions, identities, resets, drops and errors that are not fatal.

        Also :class:`~client.stream.events.Reconnecting` and :class:`~client.stream.events.Resumed`.
        """
        self._was_read = True
        return Events(self)

    async def next_event(self) -> Event | None:
        """The next event, or None after the last."""
        while (event := self.inbox.pop()) is None:
            if self._failure is not None:
                raise self._failure
            if self._finished:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        self._room.set()
        return event

    # The tasks behind it

    async def open(self, open_timeout: float) -> None:
        """Says the start and waits for the answer."""
        try:
            async with asyncio.timeout(open_timeout):
                with contextlib.suppress(Closed):  # a refusal may be there already: read it
                    await self.link.transport.send(self.stream.open())
                while self.stream.ready is None:
                    self.stream.receive(await self.link.receive())
        except TimeoutError:
            raise ConnectionFailed(f"no answer to start within {open_timeout:g} s") from None
        except Closed as closed:
            raise self.stream.lost(closed.code, closed.reason) from None
        self.ready = self.stream.ready
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._tend())]

    async def close(self) -> None:
        """Leaves, whatever is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._finish(None)
        await self.link.close()

    async def _read(self) -> None:
        """Reads until the end, from as many connections as it takes."""
        try:
            while self.stream.state is not State.DONE:
                try:
                    for event in self.stream.receive(await self.link.receive()):
                        await self._keep(event)
                except Closed as closed:
                    self._put(await self.link.renew(closed, self._put))
                    self.ready = self.stream.ready or self.ready
                    self._stir.set()
                self._moved.set()
        except KFusionError as error:
            self._finish(error)
            await self.link.close()  # frees whoever waits to send
        else:
            self._finish(None)

    async def _keep(self, event: Event) -> None:
        while self.inbox.full:
            if not self._was_read:
                raise KFusionError(
                    f"{len(self.inbox.events)} events wait and nothing reads them; "
                    "read face.frames() or face.events() in a task beside the sending"
                )
            self._room.clear()
            await self._room.wait()
        self._put(event)

    def _put(self, event: Event) -> None:
        self.inbox.put(event)
        self._arrived.set()

    def _finish(self, failure: KFusionError | None) -> None:
        self._failure = self._failure or failure
        self._finished = True
        self._arrived.set()
        self._moved.set()

    async def _tend(self) -> None:
        """Sends what is due of itself: a source's silence, what a lost connection swallowed."""
        try:
            while not self._finished:
                self._filling_until = self.stream.wake_at()
                await self.clock.wait(self._stir, self._filling_until)
                self._stir.clear()
                async with self._turn:
                    self.stream.tick(self.clock.now())
                    await self._flush()
        except KFusionError:
            return  # the reader tells
