"""Connect, send, frames: a stream as a user writes it.

    async with connect("ws://127.0.0.1:8765") as face:
        await face.send(samples)  # float32 in -1..1, or PCM bytes
        async for frame in face.frames():
            draw(frame.points)  # (68, 2)

The protocol lies in protocol.py; this is the asyncio shell around it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from typing import Final, Literal

from numpy.typing import ArrayLike

from client.clock import Clock, LoopClock
from client.inbox import Inbox
from client.protocol import ClientStream, Event, Frame, Message, Piece, State, identity_of
from client.transports import Closed, Transport, open_websocket
from kfusion import wire
from kfusion.audio import Format
from kfusion.emotion import vector
from kfusion.errors import BadMessage, ConnectionFailed, KFusionError

LIVE_FRAMES: Final = 300  # unread frames kept of a live stream (10 s)
FILE_FRAMES: Final = 36_000  # ... and of a file (20 min, some 30 MB)


class Events(AsyncIterator[Event]):
    """Everything a face tells, in the order of the wire; ends after ``wire.End``."""

    def __init__(self, face: Face) -> None:
        self.face = face

    async def __anext__(self) -> Event:
        event = await self.face.next_event()
        if event is None:
            raise StopAsyncIteration
        return event


class Frames(AsyncIterator[Frame]):
    """Only the frames of a face; what else it tells is passed over."""

    def __init__(self, face: Face) -> None:
        self.face = face

    async def __anext__(self) -> Frame:
        while (event := await self.face.next_event()) is not None:
            if isinstance(event, Frame):
                return event
        raise StopAsyncIteration


class Face:
    """One open stream. Made by :func:`connect`.

    ``ready`` is what the server answered to the start. Sending and reading may go on in
    different tasks at once. Any method raises what ended the stream: the server's error by its
    name (:mod:`kfusion.errors`), or :class:`~kfusion.errors.ConnectionLost`.
    """

    ready: wire.Ready

    def __init__(self, stream: ClientStream, transport: Transport, clock: Clock) -> None:
        self.stream, self.transport, self.clock = stream, transport, clock
        self.inbox = Inbox(LIVE_FRAMES if stream.live else FILE_FRAMES, live=stream.live)
        self._turn = asyncio.Lock()  # what is sent goes out whole and in order
        self._arrived, self._room, self._stir = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._never = asyncio.Event()
        self._failure: KFusionError | None = None
        self._finished = False
        self._was_read = False
        self._filling_until = float("inf")
        self._tasks: list[asyncio.Task[None]] = []

    # Sending

    async def send(self, samples: ArrayLike | bytes) -> None:
        """Audio: floats in -1..1 or int16, (n,) or (n, channels), or PCM bytes.

        Waits while the server has enough. Raises :class:`~kfusion.errors.BadAudio`.
        """
        await self._send_pieces(self.stream.pieces(samples))

    async def silence(self, samples: int) -> None:
        """So many samples of silence, as if zeros had been sent."""
        await self._send_pieces(self.stream.silent_pieces(samples))

    async def set_emotion(self, weights: Mapping[str, float], ramp: float = 0.3) -> None:
        """{name: 0..1}, what is left over neutral; reached over ``ramp`` seconds."""
        await self._say(lambda now: self.stream.emotion(weights, ramp, now))

    async def set_identity(self, name: str, points: ArrayLike | None = None) -> None:
        """Animates a face put before, or with ``points`` (68, 2) at rest puts it first."""
        await self._say(lambda now: self.stream.identity(name, points, now))

    async def mark(self, name: str) -> None:
        """Asks for ``wire.MarkReached`` once the frames of all sent so far have come."""
        await self._say(lambda now: self.stream.mark(name, now))

    async def reset(self) -> None:
        """Someone interrupted: what was sent and not shown yet is forgotten."""
        await self._say(self.stream.reset)

    async def end(self) -> None:
        """No more audio: the frames still to come end the iteration."""
        await self._say(lambda _: self.stream.end())

    async def _say(self, words: Callable[[float], Message]) -> None:
        async with self._turn:
            self._raise_failure()
            await self._out([words(self.clock.now())])

    async def _send_pieces(self, pieces: Iterable[Piece]) -> None:
        async with self._turn:
            for piece in pieces:
                self._raise_failure()
                while (wait := self.stream.wait(piece, self.clock.now())) > 0:
                    await self.clock.wait(self._never, self.clock.now() + wait)
                await self._out(self.stream.send(piece, self.clock.now()))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _out(self, messages: Iterable[Message]) -> None:
        """Sends while the turn is held."""
        if self.stream.wake_at() < self._filling_until:
            self._stir.set()
        try:
            for message in messages:
                await self.transport.send(message)
        except Closed as closed:
            # The server's own words may still be on their way through the reader.
            await asyncio.wait(self._tasks[:1], timeout=1.0)
            raise self._failure or self._lost(closed) from None

    # Reading

    def frames(self) -> Frames:
        """The frames as they come, each (68, 2); ends when the server's ``end`` came."""
        self._was_read = True
        return Frames(self)

    def events(self) -> Events:
        """Frames, marks, emotions, identities, resets, drops and errors that are not fatal."""
        self._was_read = True
        return Events(self)

    async def next_event(self) -> Event | None:
        """The next event, or None after the last."""
        while (event := self.inbox.pop()) is None:
            self._raise_failure()
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
                    await self.transport.send(self.stream.open())
                while self.stream.ready is None:
                    self.stream.receive(await self.transport.receive())
        except TimeoutError:
            raise ConnectionFailed(f"no answer to start within {open_timeout:g} s") from None
        except Closed as closed:
            raise self._lost(closed) from None
        self.ready = self.stream.ready
        self._tasks = [asyncio.create_task(self._read())]
        if self.stream.fill_silence:
            self._tasks.append(asyncio.create_task(self._fill()))

    async def close(self) -> None:
        """Leaves, whatever is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._finish(None)
        await self.transport.close()

    async def _read(self) -> None:
        try:
            while self.stream.state is not State.DONE:
                for event in self.stream.receive(await self.transport.receive()):
                    await self._keep(event)
        except Closed as closed:
            self._finish(self._lost(closed))
        except KFusionError as error:
            self._finish(error)
            await self.transport.close()  # frees whoever waits to send
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
        self.inbox.put(event)
        self._arrived.set()

    def _finish(self, failure: KFusionError | None) -> None:
        self._failure = self._failure or failure
        self._finished = True
        self._arrived.set()

    def _lost(self, closed: Closed) -> KFusionError:
        self._failure = self._failure or self.stream.lost(closed.code, closed.reason)
        return self._failure or KFusionError("the stream has ended; wanted nothing more")

    async def _fill(self) -> None:
        """Sends the silence that a source owes when it stops talking."""
        try:
            while not self._finished:
                self._filling_until = self.stream.wake_at()
                await self.clock.wait(self._stir, self._filling_until)
                self._stir.clear()
                async with self._turn:
                    await self._out(self.stream.tick(self.clock.now()))
        except KFusionError:
            return  # the reader tells


@contextlib.asynccontextmanager
async def connect(
    url: str,
    *,
    rate: int = 16_000,
    channels: Literal[1, 2] = 1,
    format: Format = "s16le",  # noqa: A002 - the protocol's word
    encoding: Literal["json", "binary"] = "binary",
    hop: int = 3,
    lookahead: int = 3,
    mode: Literal["live", "file"] = "live",
    identity: ArrayLike | str | None = None,
    emotion: Mapping[str, float] | None = None,
    token: str | None = None,
    fill_silence: bool = True,
    open_timeout: float = 10.0,
    transport: Transport | None = None,
    clock: Clock | None = None,
) -> AsyncGenerator[Face, None]:
    """Opens a stream; leaving the block closes it.

    ``url``: ws://HOST:8765 or wss://. ``rate`` 8000-96000 Hz. ``hop`` and ``lookahead`` in
    frames of 1/30 s: what they sum to is the latency. ``mode`` "file" is as fast as the server
    can, nothing dropped; send and read at once. ``identity``: an id, or points (68, 2) at rest
    in any coordinates, which the frames are then in. ``fill_silence``: in live mode, send the
    silence of a source that stops talking; False for a file played at live pace.
    ``open_timeout`` in seconds, for connecting and for the answer. ``transport``: instead of a
    WebSocket, e.g. :class:`client.memory.MemoryTransport` in tests.

    Raises :class:`~kfusion.errors.ConnectionFailed`, ``Busy`` (with ``retry_after_s``),
    ``Unauthorized``, or ``BadMessage``, ``BadEmotion``, ``BadIdentity`` for a bad option.
    """
    weights = dict(emotion or {})
    vector(weights)
    try:
        start = wire.Start(
            audio=wire.AudioFormat(rate, channels, format),
            encoding=encoding,
            hop=hop,  # type: ignore[arg-type] - checked below, by the schema
            lookahead=lookahead,
            mode=mode,
            identity=identity_of(identity),
            emotion=weights,
        )
    except ValueError as error:
        raise BadMessage(f"start: {error}") from None
    stream = ClientStream(start, fill_silence=fill_silence)
    stream.open()  # tells a bad option before a server is asked
    if transport is None:
        transport = await open_websocket(
            url, token=token, pings=stream.live, open_timeout=open_timeout
        )
    face = Face(stream, transport, clock or LoopClock())
    try:
        await face.open(open_timeout)
        yield face
    finally:
        await face.close()
