"""A stream within the process: to test what uses the SDK without a server.

transport = MemoryTransport(PretendServer())
async with connect("memory", transport=transport) as face: ...
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.transports import Closed
from kfusion import emotion as emotions
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.config import FPS
from kfusion.emotion import EmotionTrack
from kfusion.errors import BadIdentity, BadMessage, NotStarted, WireError
from kfusion.landmarks import NEUTRAL_IDENTITY, Identity
from kfusion.runtime import SyntheticEngine
from kfusion.stream import Slider, Stitcher

Answer = str | bytes | Closed
Server = Callable[[str | bytes], Iterable[Answer]]


class MemoryTransport:
    """Carries messages to ``server``, a function of a message, and its answers back.

    ``sent`` keeps what the client sent. At most ``capacity`` answers wait unread: then sending
    waits, as it does on a connection whose other side is not read.
    """

    def __init__(self, server: Server, capacity: int = 1024) -> None:
        self.server, self.capacity = server, capacity
        self.sent: deque[str | bytes] = deque(maxlen=100_000)
        self.closed: Closed | None = None
        self._answers: deque[Answer] = deque()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()

    def feed(self, *answers: Answer) -> None:
        """The server speaks of its own accord."""
        self._answers.extend(answers)
        self._arrived.set()

    async def send(self, message: str | bytes) -> None:
        if self.closed is not None:
            raise self.closed
        self.sent.append(message)
        for answer in self.server(message):
            while len(self._answers) >= self.capacity:
                self._room.clear()
                await self._room.wait()
                if self.closed is not None:
                    raise self.closed
            self.feed(answer)

    async def receive(self) -> str | bytes:
        while not self._answers:
            if self.closed is not None:
                raise self.closed
            self._arrived.clear()
            await self._arrived.wait()
        answer = self._answers.popleft()
        self._room.set()
        if isinstance(answer, Closed):
            self.closed = answer
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = self.closed or Closed(1000)
        self._arrived.set()
        self._room.set()


class PretendServer:
    """Answers as a server does with its synthetic engine: a mouth that follows loudness.

    Windows, frames, marks, emotions, identities and resets are those of the protocol; nothing
    is paced or dropped.
    """

    LIMITS: Final = wire.Limits(resume_s=0)

    def __init__(self) -> None:
        self.engine = SyntheticEngine()
        self.start: wire.Start | None = None
        self.next_frame = 0
        self.sent = 0
        self.dropped = 0
        self.marks: deque[wire.MarkReached] = deque()
        self.identities: dict[str, Identity] = {"neutral": NEUTRAL_IDENTITY}

    def __call__(self, message: str | bytes) -> Iterator[Answer]:
        try:
            yield from self._answers(message)
        except WireError as error:
            fatal = error.fatal or self.start is None
            yield wire.encode(wire.Error(error.code, str(error), fatal))
            if fatal:
                yield Closed(error.close_code, error.code)

    def _answers(self, message: str | bytes) -> Iterator[Answer]:
        said = message if isinstance(message, bytes) else wire.parse_client(message)
        if isinstance(said, wire.Start):
            yield self._start(said)
            return
        if self.start is None:
            raise NotStarted("nothing before start; wanted start first")
        if isinstance(said, bytes):
            audio = self.start.audio
            self.slider.push(decode_pcm(said, audio.format, audio.channels))
        elif isinstance(said, wire.Silence):
            self.slider.push_silence(said.samples)
        elif isinstance(said, wire.EndOfAudio):
            self.slider.finish()
        else:
            yield from self._reply(said)
        yield from self._frames()
        if isinstance(said, wire.EndOfAudio):
            seconds = self.slider.received / self.slider.rate
            yield wire.encode(wire.End(self.sent, self.dropped, seconds))
            yield Closed(1000, "end")

    def _start(self, start: wire.Start) -> str:
        if self.start is not None:
            raise BadMessage("a second start; wanted one")
        vector = emotions.vector(start.emotion)
        if isinstance(start.identity, wire.GivenPoints):
            self.identity, name = Identity.from_points(start.identity.points), None
        else:
            self.identity, name = self._known(start.identity), start.identity
        self.start = start
        self.emotion = EmotionTrack(vector)
        self.slider = Slider(start.audio.rate, start.hop, start.lookahead)
        self.stitcher = Stitcher(start.hop, start.lookahead)
        return wire.encode(
            wire.ready(
                start,
                session="memory",
                resume="",
                model=wire.Model(self.engine.name, self.engine.sha256),
                emotion=emotions.named(vector),
                identity=name,
                limits=self.LIMITS,
            )
        )

    def _known(self, name: str) -> Identity:
        if name not in self.identities:
            raise BadIdentity(f"identity {name!r} is unknown; wanted an id put before")
        return self.identities[name]

    def _reply(self, said: wire.ClientMessage) -> Iterator[Answer]:
        total = self.slider.total
        match said:
            case wire.Mark():
                self.marks.append(wire.MarkReached(said.id, total))
            case wire.SetEmotion():
                vector = emotions.vector(said.weights)
                self.emotion.start(total, vector, said.ramp * FPS)
                yield wire.encode(wire.EmotionSet(emotions.named(vector), total, said.ramp))
            case wire.SetIdentity():
                if said.points is not wire.UNSET:
                    self.identities[said.id] = Identity.from_points(said.points)
                self.identity = self._known(said.id)
                n = self.slider.next_first
                yield wire.encode(wire.IdentitySet(said.id, n, self.identity.pairs))
            case wire.Reset():
                n = self.slider.reset()
                self.stitcher.reset(n, None)
                if n > self.next_frame:
                    self.dropped += n - self.next_frame
                    dropped = wire.Dropped(self.next_frame, n - self.next_frame, "reset")
                    yield wire.encode(dropped)
                self.next_frame = n
                yield from self._reached()
                yield wire.encode(wire.ResetDone(n, self.slider.received))
            case _:
                raise BadMessage(f"{type(said).__name__}: not in this server")

    def _reached(self) -> Iterator[Answer]:
        while self.marks and self.marks[0].n <= self.next_frame:
            yield wire.encode(self.marks.popleft())

    def _frames(self) -> Iterator[Answer]:
        assert self.start is not None
        yield from self._reached()
        while (window := self.slider.take()) is not None:
            vector = self.emotion.at(window.last - 1)
            said = self.engine.step(window.audio[None], self.identity.canonical[None], vector[None])
            faces = self.identity.place(self.stitcher.push(window, said[0]))
            first = window.first
            while len(faces):
                count = max(0, self.marks[0].n - first) if self.marks else len(faces)
                part, faces = faces[:count], faces[count:]
                if len(part):
                    yield from self._encoded(first, part.reshape(len(part), -1))
                    first += len(part)
                self.next_frame = first
                yield from self._reached()

    def _encoded(self, first: int, values: NDArray[np.float32]) -> Iterator[Answer]:
        assert self.start is not None
        self.sent += len(values)
        if self.start.encoding == "binary":
            yield wire.encode_frames(wire.FrameBlock("points", first, 0, values))
            return
        for n, row in enumerate(values, first):
            numbers: list[float] = row.tolist()
            yield wire.encode(wire.Frame(n, n / FPS, numbers))
