"""A server within the process, of one stream: memory.py carries its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.transports import Closed
from kfusion import emotion as emotions
from kfusion import wire
from kfusion.audio import decode_pcm
from kfusion.coefficients import OUTPUTS, Rig, coefficients
from kfusion.config import FPS
from kfusion.emotion import EmotionTrack
from kfusion.errors import BadIdentity, BadMessage, NotStarted, UnknownSession, WireError
from kfusion.landmarks import NEUTRAL_IDENTITY, Identity
from kfusion.life import Hearing, Life
from kfusion.runtime import SyntheticEngine
from kfusion.stream import Slider, Stitcher, Window

Answer = str | bytes | Closed


@dataclass(frozen=True)
class Shown:
    """Consecutive frames from ``first``: (k, width) of each output, points first."""

    first: int
    values: dict[wire.Output, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def part(self, start: int, stop: int | None = None) -> Shown:
        return Shown(self.first + start, {k: rows[start:stop] for k, rows in self.values.items()})


Told = (
    Shown
    | wire.Dropped
    | wire.EmotionSet
    | wire.IdentitySet
    | wire.MarkReached
    | wire.ResetDone
    | wire.End
)


class PretendServer:
    """Answers as a server does with its synthetic engine: a mouth that follows loudness.

    Windows, frames, marks, emotions, identities and resets are those of the protocol; nothing
    is paced or dropped. With ``resume_s`` its stream goes on when a new connection asks for that.
    """

    KEPT: Final = 900  # messages that can be told again

    def __init__(self, resume_s: float = 0.0) -> None:
        self.engine = SyntheticEngine()
        self.limits = wire.Limits(resume_s=resume_s)
        self.token = ""
        self.ended = False
        self.told: deque[Told] = deque()
        self.forgotten = 0  # frames below it cannot be told again
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
            if said.resume is wire.UNSET:
                self._start(said)
                yield wire.encode(self._ready(0))
            else:
                yield from self._resume(said.resume)
            return
        if self.start is None:
            raise NotStarted("nothing before start; wanted start first")
        if self.ended:
            return
        for told in self._told(said):
            self._remember(told)
            yield from self._encoded(told)
        if self.ended:
            yield Closed(1000, "end")

    def _told(self, said: bytes | wire.ClientMessage) -> Iterator[Told]:
        assert self.start is not None
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
            self.ended = True
            yield wire.End(self.sent, self.dropped, self.slider.received / self.slider.rate)

    def _start(self, start: wire.Start) -> None:
        if self.start is not None:
            raise BadMessage("a second start; wanted one")
        vector = emotions.vector(start.emotion)
        if isinstance(start.identity, wire.GivenPoints):
            self.identity, name = Identity.from_points(start.identity.points), None
        else:
            self.identity, name = self._known(start.identity), start.identity
        names = {"points": wire.POINT_NAMES} | {name: list(of) for name, of in OUTPUTS.items()}
        self.outputs: dict[wire.Output, list[str]] = {
            name: names[name] for name in wire.KINDS if name in start.outputs
        }
        self.life, self.hearing = Life(start.seed, start.life), Hearing()
        self.start = start
        self.emotion = EmotionTrack(vector)
        self.slider = Slider(start.audio.rate, start.hop, start.lookahead)
        self.stitcher = Stitcher(start.hop, start.lookahead)
        self.name = name

    def _ready(self, n: int) -> wire.Ready:
        """With a new token, as every one."""
        assert self.start is not None
        self.token = f"{self.token}+" if self.limits.resume_s else ""
        return wire.ready(
            self.start,
            session="memory",
            resume=self.token,
            audio_position=self.slider.received,
            n=n,
            model=wire.Model(self.engine.name, self.engine.sha256),
            emotion=emotions.named(self.emotion.target),
            identity=self.name,
            limits=self.limits,
            outputs={str(name): of for name, of in self.outputs.items()},
        )

    # Told again

    def _remember(self, told: Told) -> None:
        self.told.append(told)
        while len(self.told) > self.KEPT:
            oldest = self.told.popleft()
            if isinstance(oldest, (Shown, wire.Dropped)):
                self.forgotten = _end(oldest)

    def _resume(self, wanted: wire.ResumeFrom) -> Iterator[Answer]:
        if not self.token or wanted.token != self.token:
            raise UnknownSession("resume.token is of no stream that is kept; wanted a new start")
        if wanted.next > self.next_frame:
            raise BadMessage(f"resume.next is {wanted.next}; wanted at most {self.next_frame}")
        yield wire.encode(self._ready(wanted.next))
        lost = self.forgotten - wanted.next
        if lost > 0:
            self.sent, self.dropped = self.sent - lost, self.dropped + lost
            yield wire.encode(wire.Dropped(wanted.next, lost, "resume"))
        for told in self.told:
            yield from self._encoded(_after(told, wanted.next, max(wanted.next, self.forgotten)))
        if self.ended:
            yield Closed(1000, "end")

    def _known(self, name: str) -> Identity:
        if name not in self.identities:
            raise BadIdentity(f"identity {name!r} is unknown; wanted an id put before")
        return self.identities[name]

    def _reply(self, said: wire.ClientMessage) -> Iterator[Told]:
        total = self.slider.total
        match said:
            case wire.Mark():
                self.marks.append(wire.MarkReached(said.id, total))
            case wire.SetEmotion():
                vector = emotions.vector(said.weights)
                self.emotion.start(total, vector, said.ramp * FPS)
                yield wire.EmotionSet(emotions.named(vector), total, said.ramp)
            case wire.SetIdentity():
                if said.image is not wire.UNSET:
                    raise BadMessage("identity.image: this server finds no faces; wanted points")
                if said.points is not wire.UNSET:
                    self.identities[said.id] = Identity.from_points(said.points)
                self.identity, self.name = self._known(said.id), said.id
                yield wire.IdentitySet(said.id, self.slider.next_first, self.identity.pairs)
            case wire.Reset():
                n = self.slider.reset()
                self.stitcher.reset(n, None)
                self.hearing.reset()
                if n > self.next_frame:
                    self.dropped += n - self.next_frame
                    yield wire.Dropped(self.next_frame, n - self.next_frame, "reset")
                self.next_frame = n
                yield from self._reached()
                yield wire.ResetDone(n, self.slider.received)
            case _:
                raise BadMessage(f"{type(said).__name__}: not in this server")

    def _reached(self) -> Iterator[Told]:
        while self.marks and self.marks[0].n <= self.next_frame:
            yield self.marks.popleft()

    def _frames(self) -> Iterator[Told]:
        yield from self._reached()
        while (window := self.slider.take()) is not None:
            vector = self.emotion.at(window.last - 1)
            said = self.engine.step(window.audio[None], self.identity.canonical[None], vector[None])
            faces = self._shown(window, self.stitcher.push(window, said[0]))
            while len(faces):
                count = max(0, self.marks[0].n - faces.first) if self.marks else len(faces)
                part, faces = faces.part(0, count), faces.part(min(count, len(faces)))
                if len(part):
                    yield part
                    self.sent += len(part)
                self.next_frame = faces.first
                yield from self._reached()

    def _shown(self, window: Window, displacement: NDArray[np.float32]) -> Shown:
        lively = self.life.add(self.identity, window.first, displacement, self.hearing.push(window))
        rig = Rig(self.identity)
        values: dict[wire.Output, NDArray[np.float32]] = {}
        for name in self.outputs:
            if name == "points":
                values[name] = self.identity.place(lively).reshape(len(lively), -1)
            else:
                values[name] = coefficients(name, rig, lively)
        return Shown(window.first, values)

    def _encoded(self, told: Told | None) -> Iterator[Answer]:
        assert self.start is not None
        if told is None:
            return
        if not isinstance(told, Shown):
            yield wire.encode(told)
        elif self.start.encoding == "binary":
            for name, rows in told.values.items():
                yield wire.encode_frames(wire.FrameBlock(name, told.first, 0, rows))
        else:
            for k, n in enumerate(range(told.first, _end(told))):
                numbers: dict[str, list[float]] = {
                    name: rows[k].tolist() for name, rows in told.values.items()
                }
                yield wire.encode(wire.Frame(n, n / FPS, **numbers))


def _end(told: Shown | wire.Dropped) -> int:
    return told.first + (told.count if isinstance(told, wire.Dropped) else len(told))


def _after(told: Told, wanted: int, n: int) -> Told | None:
    """What of it a client lacks that wants frame ``wanted``, of frames those from ``n`` on."""
    match told:
        case Shown():
            rest = told.part(min(len(told), max(0, n - told.first)))
            return rest if len(rest) else None
        case wire.Dropped():
            first = max(n, told.first)
            count = _end(told) - first
            return wire.Dropped(first, count, told.reason) if count > 0 else None
        case wire.End():
            return told
        case _:
            return told if told.n >= wanted else None
