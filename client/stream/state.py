"""One stream as a client sees it, without I/O: calls and times in, messages and events out.

::

                 ready                end said              end received
    STARTING  ---------->  OPEN  -------------->  ENDING  -------------->  DONE
        |                   |                       |
        +-------------------+-----------------------+---- fatal error --> FAILED

OPEN and ENDING outlive a connection: ``resume`` is what another one begins with, ``resumed``
reads the answer, and what the server has not got is then taken once more (journal.py).
A shell (sdk.py) moves the messages and tells the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import Final

import msgspec
from numpy.typing import ArrayLike

from client.errors import named_error
from client.stream import messages as words
from client.stream.events import Event, Frame
from client.stream.frame_assembly import Joining
from client.stream.pcm import Piece
from client.stream.resend_queue import Journal
from client.stream.silence import NEVER, SilenceOwed
from kfusion import wire
from kfusion.audio import frame_bytes
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.errors import BadMessage, ConnectionLost, WireError
from kfusion.stream import sample_of

Message = str | bytes


class State(Enum):
    STARTING = "starting"
    OPEN = "open"
    ENDING = "ending"
    DONE = "done"
    FAILED = "failed"


KEPT_S: Final = 35  # of a file's sound go out ahead of its frames, and are kept to be sent again
MICROPHONE_S: Final = 0.5  # of what a live source not further ahead says, all is past


class ClientStream:
    """The protocol of one stream. ``samples`` said, ``next_frame`` due, frames ``dropped``.

    ``fill_silence``: owe silence when the source stops talking; for live sources.
    ``reconnects``: whether lost connections are to be gone on with. ``resend``: whether all the
    sound that one swallowed is then sent again, as in mode file; else what is past by then
    counts as silence. ``score``: emotions that are said by themselves, each at its frame.
    """

    def __init__(
        self,
        start: wire.Start,
        *,
        fill_silence: bool,
        reconnects: bool = False,
        resend: bool | None = None,
        score: EmotionTimeline | None = None,
    ) -> None:
        self.start = start
        self.audio = start.audio
        self.live = start.mode == "live"
        self.fill_silence = fill_silence and self.live
        self.reconnects = reconnects
        self.resend = not self.live if resend is None else resend
        self.owed = SilenceOwed(start.audio.rate, start.hop + start.lookahead)
        size = frame_bytes(start.audio.format, start.audio.channels)
        self.journal = Journal(start.audio.rate, size)
        self.joining = Joining(start.outputs)
        self.state = State.STARTING
        self.ready: wire.Ready | None = None
        self.next_frame = 0
        self.frames = 0
        self.dropped = 0
        self._held: list[wire.Dropped | wire.MarkReached] = []
        self._score: deque[tuple[int, wire.SetEmotion]] = deque()
        if score is not None:
            for n, weights in score.changes:
                said = words.emotion(weights, score.ramp)
                self._score.append((sample_of(n, start.audio.rate), said))

    @property
    def samples(self) -> int:
        return self.journal.end

    # Out

    def open(self) -> str:
        """The first message. Raises :class:`~kfusion.errors.BadMessage` for a bad option."""
        return wire.encode(words.checked(self.start))

    def wait(self, piece: Piece, now: float) -> float:
        """Seconds until the server would hold ``piece`` rather than refuse it as too fast."""
        if not self.live or self.ready is None:
            return 0.0
        ahead = self.owed.ahead(now) + piece.samples / self.audio.rate
        return max(0.0, ahead - self.ready.limits.held_s)

    def room(self, piece: Piece) -> bool:
        """Whether all that a file's server may lack, and ``piece``, can be kept."""
        if self.live or not self.resumable:
            return True
        ahead = self.samples - sample_of(self.next_frame, self.audio.rate)
        return ahead + piece.samples <= KEPT_S * self.audio.rate

    def send(self, piece: Piece, now: float) -> None:
        """A piece of audio, preceded by the silence that was owed before it."""
        self._must_be_open("audio")
        if piece.pcm is None:
            self.owed.silence(piece.samples, now)
            self._note(piece)
            return
        gap = self.owed.audio(piece.samples, now)
        if self.fill_silence:
            self._note(Piece(gap, None))
        self._note(piece)

    def _note(self, piece: Piece) -> None:
        """Sound or silence, with the emotions that the score has in its midst."""
        size = frame_bytes(self.audio.format, self.audio.channels)
        done = 0
        begin = self.samples
        while self._score and self._score[0][0] < begin + piece.samples:
            at, said = self._score.popleft()
            self._take(piece, done, at - begin, size)
            done = at - begin
            self.journal.words(said)
        self._take(piece, done, piece.samples, size)

    def _take(self, piece: Piece, first: int, end: int, size: int) -> None:
        if piece.pcm is None:
            self.journal.silence(end - first)
        elif end > first:
            self.journal.sound(end - first, piece.pcm[first * size : end * size])

    def emotion(self, weights: Mapping[str, float], ramp: float, now: float) -> None:
        """Raises :class:`~kfusion.errors.BadEmotion`, as the server would."""
        self._must_be_open("emotion")
        self.journal.words(words.emotion(weights, ramp))
        self.owed.nudge(now, ramp)

    def identity(
        self, name: str, points: ArrayLike | None, now: float, image: bytes | None = None
    ) -> None:
        """Raises what :func:`client.stream.messages.identity` raises."""
        self._must_be_open("identity")
        self.journal.words(words.identity(name, points, image))
        self.owed.nudge(now)

    def mark(self, name: str, now: float) -> None:
        self._must_be_open("mark")
        self.journal.words(words.mark(name))
        self.owed.nudge(now)

    def reset(self, now: float) -> None:
        self._must_be_open("reset")
        self.journal.words(wire.Reset())
        self.owed.interrupt(now)

    def end(self) -> None:
        self._must_be_open("end")
        self.journal.words(wire.EndOfAudio())
        self.state = State.ENDING

    def tick(self, now: float) -> None:
        """Says the silence that is due now."""
        if self.fill_silence and self.state is State.OPEN:
            self._note(Piece(self.owed.due(now), None))

    def wake_at(self) -> float:
        """When :meth:`tick` next has something to say."""
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
            told = self._blocks(message) if isinstance(message, bytes) else self._text(message)
        except WireError:
            self.state = State.FAILED
            raise
        self.journal.reached(self.next_frame)
        return told

    def _blocks(self, message: bytes) -> list[Event]:
        return self._frames(self.joining.block(wire.decode_frames(message)))

    def _frames(self, frames: list[Frame]) -> list[Event]:
        if not frames:
            return []
        events = self._release()
        self._advance("frame", frames[0].n, len(frames))
        self.frames += len(frames)
        return [*events, *frames]

    def _text(self, message: str) -> list[Event]:
        said = wire.parse_server(message)
        match said:
            case None | wire.SdpAnswer():
                return []
            case wire.Ready():
                self._ready(said)
                return []
            case wire.Error(fatal=True):
                raise named_error(said)
            case wire.Dropped() | wire.MarkReached() if self._held or _interrupts(said):
                # A reset is told whole, for the server tells again only what lies at or after
                # `next`: the marks that it has passed over would be lost with the connection.
                self._held.append(said)
                return []
            case _:
                return self._release() + self._event(said)

    def _release(self) -> list[Event]:
        held, self._held = self._held, []
        return [event for said in held for event in self._event(said)]

    def _event(
        self, said: wire.Frame | wire.Reply | wire.Dropped | wire.Error | wire.End
    ) -> list[Event]:
        match said:
            case wire.Frame():
                return self._frames([self.joining.frame(said)])
            case wire.Dropped():
                self._advance("dropped", said.first, said.count)
                self.dropped += said.count
            case wire.End():
                self.state = State.DONE
            case wire.SdpAnswer():
                return []
            case _:
                if not self.journal.answer(said, self.next_frame):
                    return []
        return [said]

    def _ready(self, ready: wire.Ready) -> None:
        if self.state is not State.STARTING:
            raise BadMessage("from the server: a second ready")
        if ready.protocol != wire.PROTOCOL:
            raise BadMessage(
                f"from the server: protocol {ready.protocol}; wanted {wire.PROTOCOL}: "
                "the server and this client are of different versions"
            )
        self.joining.agree(ready)
        self.ready = ready
        self.next_frame = ready.n
        self.state = State.OPEN
        self.journal.keeps = self.resumable

    def _advance(self, what: str, first: int, count: int) -> None:
        if self.state not in (State.OPEN, State.ENDING) or first != self.next_frame:
            raise BadMessage(f"from the server: {what} {first} where {self.next_frame} was due")
        self.next_frame += count

    # A lost connection

    @property
    def resumable(self) -> bool:
        """Whether another connection could go on."""
        ready = self.ready
        return (
            self.reconnects
            and self.state in (State.OPEN, State.ENDING)
            and ready is not None
            and ready.limits.resume_s > 0
        )

    @property
    def owes(self) -> bool:
        """Whether the server has had what it needs to say more."""
        if self.state is State.ENDING:
            return True
        needed = self.next_frame + 2 * self.start.hop + self.start.lookahead + 3
        return self.samples >= sample_of(needed, self.audio.rate)

    def lost(self, code: int, reason: str) -> ConnectionLost:
        """What a connection means that closed before the end."""
        where = "before the stream was ready"
        if self.state is not State.STARTING:
            where = f"after {self.frames} frames, before the end"
        told = f", {reason}" if reason else ""
        return ConnectionLost(f"the connection closed {where} (code {code}{told})")

    def resume(self) -> str:
        """The first message on another connection."""
        assert self.ready is not None
        resume = wire.ResumeFrom(self.ready.resume, self.next_frame)
        return msgspec.json.encode({"type": "start", "resume": resume}).decode()

    def resumed(self, message: Message, now: float) -> int | None:
        """Reads the answer: the samples that count as silence now; None, and it is yet to come.

        Raises the server's error, by its code, and :class:`~kfusion.errors.BadMessage` for what
        is not the protocol.
        """
        said = wire.parse_server(message) if isinstance(message, str) else None
        match said:
            case None if isinstance(message, str):
                return None
            case wire.Error():
                raise named_error(said)
            case wire.Ready() if said.n == self.next_frame:
                return self._go_on(said, now)
            case _:
                raise BadMessage(f"from the server: no ready for frame {self.next_frame}")

    def _go_on(self, ready: wire.Ready, now: float) -> int:
        self.joining.agree(ready)
        self.ready = ready
        self._held = []
        position, spoken = ready.audio_position, self._spoken(now)
        if self.resend:
            spoken = position
            if position < self.samples:
                self.owed.again(self.samples - position, now)
        self.journal.rewind(position, spoken)
        return max(0, spoken - position)

    def _spoken(self, now: float) -> int:
        """Samples of all that was said whose time has come."""
        ahead = self.owed.ahead(now)
        return self.samples - round(ahead * self.audio.rate) * (ahead > MICROPHONE_S)


def _interrupts(said: wire.Dropped | wire.MarkReached) -> bool:
    return isinstance(said, wire.Dropped) and said.reason == "reset"
