"""One stream as a client sees it, without I/O: calls and times in, messages and events out.

::

                 ready               end sent              end received
    STARTING  ---------->  OPEN  -------------->  ENDING  -------------->  DONE
        |                   |                       |
        +-------------------+-----------------------+---- fatal error --> FAILED

A shell (sdk.py) moves the messages and tells the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.errors import named_error
from client.pacing import NEVER, SilenceOwed
from client.pcm import encode_pcm
from kfusion import wire
from kfusion.audio import frame_bytes
from kfusion.config import FPS
from kfusion.emotion import vector
from kfusion.errors import (
    BadIdentity,
    BadMessage,
    ConnectionLost,
    KFusionError,
    WireError,
)
from kfusion.landmarks import COUNT, Identity


@dataclass(frozen=True, eq=False)
class Frame:
    """The face at ``t`` = ``n`` / 30 s after the first sample; ``points`` (68, 2) float32."""

    n: int
    t: float
    points: NDArray[np.float32]


Event = (
    Frame
    | wire.EmotionSet
    | wire.IdentitySet
    | wire.MarkReached
    | wire.ResetDone
    | wire.Dropped
    | wire.Error
    | wire.End
)
"""What a stream tells, in the order of the wire. ``wire.Error`` here is never fatal."""

Message = str | bytes


class State(Enum):
    STARTING = "starting"
    OPEN = "open"
    ENDING = "ending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Piece:
    """Audio that goes in one message: ``pcm``, or silence where that is None."""

    samples: int
    pcm: bytes | None


PIECE_S: Final = 0.5


class ClientStream:
    """The protocol of one stream. ``samples`` sent, ``next_frame`` due, frames ``dropped``.

    ``fill_silence``: owe silence when the source stops talking; for live sources.
    """

    def __init__(self, start: wire.Start, *, fill_silence: bool) -> None:
        self.start = start
        self.audio = start.audio
        self.live = start.mode == "live"
        self.fill_silence = fill_silence and self.live
        self.owed = SilenceOwed(start.audio.rate, start.hop + start.lookahead)
        self.state = State.STARTING
        self.ready: wire.Ready | None = None
        self.samples = 0
        self.next_frame = 0
        self.frames = 0
        self.dropped = 0

    # Out

    def open(self) -> str:
        """The first message. Raises :class:`~kfusion.errors.BadMessage` for a bad option."""
        return _checked(self.start)

    def pieces(self, samples: ArrayLike | bytes) -> Iterator[Piece]:
        """Audio in messages of at most half a second. Raises as :func:`encode_pcm`."""
        pcm = encode_pcm(samples, self.audio)
        size = frame_bytes(self.audio.format, self.audio.channels)
        step = size * max(1, round(PIECE_S * self.audio.rate))
        for at in range(0, len(pcm), step):
            part = pcm[at : at + step]
            yield Piece(len(part) // size, part)

    def silent_pieces(self, samples: int) -> Iterator[Piece]:
        """So many samples of silence, in messages of at most 10 s."""
        if samples < 0:
            raise BadMessage(f"silence of {samples} samples; wanted 0 or more")
        most = 10 * self.audio.rate
        for at in range(0, samples, most):
            yield Piece(min(most, samples - at), None)

    def wait(self, piece: Piece, now: float) -> float:
        """Seconds until the server would hold ``piece`` rather than refuse it as too fast."""
        if not self.live or self.ready is None:
            return 0.0
        ahead = self.owed.ahead(now) + piece.samples / self.audio.rate
        return max(0.0, ahead - self.ready.limits.held_s)

    def send(self, piece: Piece, now: float) -> list[Message]:
        """A piece of audio, preceded by the silence that was owed before it."""
        self._must_be_open("audio")
        out: list[Message] = []
        self.samples += piece.samples
        if piece.pcm is None:
            self.owed.silence(piece.samples, now)
            return [wire.encode(wire.Silence(piece.samples))]
        gap = self.owed.audio(piece.samples, now)
        if gap and self.fill_silence:
            self.samples += gap
            out.append(wire.encode(wire.Silence(gap)))
        out.append(piece.pcm)
        return out

    def emotion(self, weights: Mapping[str, float], ramp: float, now: float) -> str:
        """Raises :class:`~kfusion.errors.BadEmotion`, as the server would."""
        self._must_be_open("emotion")
        vector(weights)
        message = _checked(wire.SetEmotion(dict(weights), ramp))
        self.owed.nudge(now, ramp)
        return message

    def identity(self, name: str, points: ArrayLike | None, now: float) -> str:
        """Raises :class:`~kfusion.errors.BadIdentity` for points that are no usable face."""
        self._must_be_open("identity")
        if points is None:
            message = _checked(wire.SetIdentity(name))
        else:
            message = _checked(wire.SetIdentity(name, pairs(points)))
        self.owed.nudge(now)
        return message

    def mark(self, name: str, now: float) -> str:
        self._must_be_open("mark")
        try:
            message = _checked(wire.Mark(name))
        except ValueError as error:
            raise BadMessage(f"mark: {error}") from None
        self.owed.nudge(now)
        return message

    def reset(self, now: float) -> str:
        self._must_be_open("reset")
        self.owed.interrupt(now)
        return wire.encode(wire.Reset())

    def end(self) -> str:
        self._must_be_open("end")
        self.state = State.ENDING
        return wire.encode(wire.EndOfAudio())

    def tick(self, now: float) -> list[Message]:
        """The silence that is due now."""
        if not self.fill_silence or self.state is not State.OPEN:
            return []
        samples = self.owed.due(now)
        self.samples += samples
        return [wire.encode(wire.Silence(samples))] if samples else []

    def wake_at(self) -> float:
        """When :meth:`tick` next has something to send."""
        if not self.fill_silence or self.state is not State.OPEN:
            return NEVER
        return self.owed.wake_at()

    def _must_be_open(self, what: str) -> None:
        if self.state is not State.OPEN:
            raise BadMessage(f"{what} while the stream is {self.state.value}; wanted it open")

    # In

    def receive(self, message: Message) -> list[Event]:
        """What a message of the server says.

        Raises the server's error, by its code, where it is fatal, and
        :class:`~kfusion.errors.BadMessage` for what is not the protocol.
        """
        try:
            return self._blocks(message) if isinstance(message, bytes) else self._text(message)
        except WireError:
            self.state = State.FAILED
            raise

    def _blocks(self, message: bytes) -> list[Event]:
        block = wire.decode_frames(message)
        if block.output != "points":
            return []
        self._advance("frame", block.first, len(block.values))
        self.frames += len(block.values)
        faces = block.values.astype(np.float32).reshape(-1, COUNT, 2)
        return [Frame(n, n / FPS, face) for n, face in enumerate(faces, block.first)]

    def _text(self, message: str) -> list[Event]:
        said = wire.parse_server(message)
        match said:
            case None | wire.Answer():
                return []
            case wire.Ready():
                self._ready(said)
                return []
            case wire.Error(fatal=True):
                raise named_error(said)
            case wire.Frame():
                self._advance("frame", said.n, 1)
                self.frames += 1
                face = np.array(said.points, np.float32)
                if face.size != 2 * COUNT:
                    raise BadMessage(f"from the server: frame {said.n} has {face.size} numbers")
                return [Frame(said.n, said.t, face.reshape(COUNT, 2))]
            case wire.Dropped():
                self._advance("dropped", said.first, said.count)
                self.dropped += said.count
            case wire.End():
                self.state = State.DONE
            case _:
                pass
        return [said]

    def _ready(self, ready: wire.Ready) -> None:
        if self.state is not State.STARTING:
            raise BadMessage("from the server: a second ready")
        if ready.protocol != wire.PROTOCOL:
            raise BadMessage(
                f"from the server: protocol {ready.protocol}; wanted {wire.PROTOCOL}: "
                "the server and this client are of different versions"
            )
        self.ready = ready
        self.next_frame = ready.n
        self.state = State.OPEN

    def _advance(self, what: str, first: int, count: int) -> None:
        if self.state not in (State.OPEN, State.ENDING) or first != self.next_frame:
            raise BadMessage(f"from the server: {what} {first} where {self.next_frame} was due")
        self.next_frame += count

    def lost(self, code: int, reason: str) -> KFusionError | None:
        """What a closed connection means: None after the end."""
        if self.state is State.DONE:
            return None
        where = "before the stream was ready"
        if self.state is not State.STARTING:
            where = f"after {self.frames} frames, before the end"
        self.state = State.FAILED
        return ConnectionLost(f"the connection closed {where} (code {code}{_told(reason)})")


def _told(reason: str) -> str:
    return f", {reason}" if reason else ""


def pairs(points: ArrayLike) -> list[wire.Pair]:
    """(68, 2) as the wire wants them. Raises :class:`~kfusion.errors.BadIdentity`."""
    return Identity.from_points(points).pairs


def identity_of(identity: ArrayLike | str | None) -> str | wire.GivenPoints:
    """None, an id or points (68, 2) -> what ``start`` says."""
    if identity is None:
        return "neutral"
    if isinstance(identity, str):
        if not identity:
            raise BadIdentity("identity: an empty id; wanted an id, points (68, 2) or None")
        return identity
    return wire.GivenPoints(pairs(identity))


def _checked(message: wire.ClientMessage) -> str:
    """A message that the server will accept, by the schema."""
    text = wire.encode(message)
    wire.parse_client(text)
    return text
