"""The client side of the protocol for one stream, without I/O: calls and times in, events out.

::

                 ready                end sent              end received
    STARTING  ---------->  OPEN  -------------->  ENDING  -------------->  DONE
        |                   |                       |
        +-------------------+-----------------------+---- fatal error --> FAILED

OPEN and ENDING outlive a connection. The first message of another one is ``resume_message``;
``accept_resumption`` reads the answer. What the server lacks is then sent again (resend_queue.py).
The shell around it is face.py.
"""

from collections import deque
from enum import Enum
from typing import Final

import msgspec

from client.errors import named_error
from client.stream import messages
from client.stream.events import Event, Frame
from client.stream.frame_assembly import FrameAssembler
from client.stream.messages import ControlMessage
from client.stream.pcm import Chunk
from client.stream.resend_queue import ResendQueue
from client.stream.silence import NEVER, SilenceFiller
from client.stream.transport import Message
from kfusion import wire
from kfusion.audio import frame_bytes
from kfusion.emotion_timeline import EmotionTimeline
from kfusion.errors import BadMessage, ConnectionLost, WireError
from kfusion.stream import sample_of


class StreamState(Enum):
    STARTING = "starting"
    OPEN = "open"
    ENDING = "ending"
    DONE = "done"
    FAILED = "failed"


FILE_AHEAD_S: Final = 35  # of a file's audio are sent ahead of its frames, and kept to be resent
LIVE_BACKLOG_S: Final = 0.5  # a live source that is ahead by less counts as played on a loss


class ClientStream:
    """The protocol of one stream.

    With ``resend`` all audio that was lost with a connection is sent again, as mode file does.
    Otherwise audio whose time has passed counts as silence.
    """

    def __init__(
        self,
        start: wire.Start,
        *,
        fill_silence: bool,
        reconnects: bool = False,
        resend: bool | None = None,
        timeline: EmotionTimeline | None = None,
    ) -> None:
        self.start = start
        self.audio = start.audio
        self.live = start.mode == "live"
        self.fill_silence = fill_silence and self.live
        self.reconnects = reconnects
        self.resend = not self.live if resend is None else resend
        self.filler = SilenceFiller(start.audio.rate, start.hop + start.lookahead)
        self._frame_size = frame_bytes(start.audio.format, start.audio.channels)
        self.resend_queue = ResendQueue(start.audio.rate, self._frame_size)
        self.assembler = FrameAssembler(start.outputs)
        self.state = StreamState.STARTING
        self.ready: wire.Ready | None = None
        self.next_frame = 0
        self.frames = 0
        self.dropped = 0
        self._held: list[wire.Dropped | wire.MarkReached] = []
        self._timeline: deque[tuple[int, wire.SetEmotion]] = deque()
        if timeline is not None:
            for n, weights in timeline.changes:
                message = messages.set_emotion(weights, timeline.ramp)
                self._timeline.append((sample_of(n, start.audio.rate), message))

    @property
    def samples(self) -> int:
        """Samples of audio and silence that were sent, or wait to be sent."""
        return self.resend_queue.end

    # Sending

    def start_message(self) -> str:
        """The first message. Raises :class:`~kfusion.errors.BadMessage` for a bad option."""
        return wire.encode(messages.validated(self.start))

    def wait_s(self, chunk: Chunk, now: float) -> float:
        """Seconds until the server accepts ``chunk``, and does not refuse it as too fast."""
        if not self.live or self.ready is None:
            return 0.0
        ahead_s = self.filler.backlog_s(now) + chunk.samples / self.audio.rate
        return max(0.0, ahead_s - self.ready.limits.held_s)

    def has_room(self, chunk: Chunk) -> bool:
        """Whether the audio that a file's server may lack can be kept with ``chunk`` added."""
        if self.live or not self.resumable:
            return True
        ahead = self.samples - sample_of(self.next_frame, self.audio.rate)
        return ahead + chunk.samples <= FILE_AHEAD_S * self.audio.rate

    def send(self, chunk: Chunk, now: float) -> None:
        """A chunk of audio, preceded by the silence that is due before it."""
        self._check_open("audio")
        if chunk.pcm is None:
            self.filler.silence_sent(chunk.samples, now)
        else:
            gap = self.filler.audio_sent(chunk.samples, now)
            if self.fill_silence:
                self._add(Chunk(gap, None))
        self._add(chunk)

    def _add(self, chunk: Chunk) -> None:
        """Audio or silence, with the emotions that the timeline has within it."""
        done = 0
        begin = self.samples
        while self._timeline and self._timeline[0][0] < begin + chunk.samples:
            position, message = self._timeline.popleft()
            self._add_part(chunk, done, position - begin)
            done = position - begin
            self.resend_queue.add_message(message)
        self._add_part(chunk, done, chunk.samples)

    def _add_part(self, chunk: Chunk, first: int, end: int) -> None:
        size = self._frame_size
        if chunk.pcm is None:
            self.resend_queue.add_silence(end - first)
        elif end > first:
            self.resend_queue.add_audio(end - first, chunk.pcm[first * size : end * size])

    def send_control(self, message: ControlMessage, now: float) -> None:
        """A control message. Silence is due until its reply has come."""
        self._check_open(str(message.__struct_config__.tag))
        self.resend_queue.add_message(message)
        match message:
            case wire.Reset():
                self.filler.interrupt(now)
            case wire.EndOfAudio():
                self.state = StreamState.ENDING
            case wire.SetEmotion():
                self.filler.extend(now, message.ramp)
            case _:
                self.filler.extend(now)

    def tick(self, now: float) -> None:
        """Sends the silence that is due now."""
        if self.fill_silence and self.state is StreamState.OPEN:
            self._add(Chunk(self.filler.due(now), None))

    def wake_at(self) -> float:
        """When :meth:`tick` next sends something."""
        if not self.fill_silence or self.state is not StreamState.OPEN:
            return NEVER
        return self.filler.wake_at()

    def _check_open(self, what: str) -> None:
        if self.state is not StreamState.OPEN:
            raise BadMessage(f"{what} while the stream is {self.state.value}; wanted it open")

    # Receiving

    def receive(self, message: Message) -> list[Event]:
        """The events of a message. Raises the server's fatal error by its code, or BadMessage."""
        try:
            events = self._binary(message) if isinstance(message, bytes) else self._text(message)
        except WireError:
            self.state = StreamState.FAILED
            raise
        self.resend_queue.acknowledge(self.next_frame)
        return events

    def _binary(self, message: bytes) -> list[Event]:
        return self._frames(self.assembler.add_block(wire.decode_frames(message)))

    def _frames(self, frames: list[Frame]) -> list[Event]:
        if not frames:
            return []
        events = self._release()
        self._advance("frame", frames[0].n, len(frames))
        self.frames += len(frames)
        return [*events, *frames]

    def _text(self, text: str) -> list[Event]:
        message = wire.parse_server(text)
        match message:
            case None | wire.SdpAnswer():
                return []
            case wire.Ready():
                self._ready(message)
                return []
            case wire.Error(fatal=True):
                raise named_error(message)
            case wire.Dropped() | wire.MarkReached() if self._held or _is_reset(message):
                # A reset is reported whole: the server repeats only what lies at or after `next`,
                # so the marks that it has passed over would be lost with the connection.
                self._held.append(message)
                return []
            case _:
                return self._release() + self._event(message)

    def _release(self) -> list[Event]:
        held, self._held = self._held, []
        return [event for message in held for event in self._event(message)]

    def _event(
        self, message: wire.Frame | wire.Reply | wire.Dropped | wire.Error | wire.End
    ) -> list[Event]:
        match message:
            case wire.Frame():
                return self._frames([self.assembler.from_json(message)])
            case wire.Dropped():
                self._advance("dropped", message.first, message.count)
                self.dropped += message.count
            case wire.End():
                self.state = StreamState.DONE
            case wire.SdpAnswer():
                return []
            case _:
                if not self.resend_queue.accept_reply(message, self.next_frame):
                    return []
        return [message]

    def _ready(self, ready: wire.Ready) -> None:
        if self.state is not StreamState.STARTING:
            raise BadMessage("from the server: a second ready")
        if ready.protocol != wire.PROTOCOL:
            raise BadMessage(
                f"from the server: protocol {ready.protocol}; wanted {wire.PROTOCOL}: "
                "the server and this client are of different versions"
            )
        self.assembler.connected(ready)
        self.ready = ready
        self.next_frame = ready.n
        self.state = StreamState.OPEN
        self.resend_queue.keeps_sent = self.resumable

    def _advance(self, what: str, first: int, count: int) -> None:
        open_ = self.state in (StreamState.OPEN, StreamState.ENDING)
        if not open_ or first != self.next_frame:
            raise BadMessage(f"from the server: {what} {first} where {self.next_frame} was due")
        self.next_frame += count

    # Resuming on another connection

    @property
    def resumable(self) -> bool:
        """Whether another connection could resume the stream."""
        ready = self.ready
        return (
            self.reconnects
            and self.state in (StreamState.OPEN, StreamState.ENDING)
            and ready is not None
            and ready.limits.resume_s > 0
        )

    @property
    def expects_messages(self) -> bool:
        """Whether the server has received enough to send more."""
        if self.state is StreamState.ENDING:
            return True
        needed = self.next_frame + 2 * self.start.hop + self.start.lookahead + 3
        return self.samples >= sample_of(needed, self.audio.rate)

    def lost_error(self, code: int, reason: str) -> ConnectionLost:
        """The error for a connection that closed before the end."""
        where = "before the stream was ready"
        if self.state is not StreamState.STARTING:
            where = f"after {self.frames} frames, before the end"
        given = f", {reason}" if reason else ""
        return ConnectionLost(f"the connection closed {where} (code {code}{given})")

    def resume_message(self) -> str:
        """The first message on another connection."""
        assert self.ready is not None
        resume = wire.ResumeFrom(self.ready.resume, self.next_frame)
        return msgspec.json.encode({"type": "start", "resume": resume}).decode()

    def accept_resumption(self, message: Message, now: float) -> int | None:
        """Reads the answer. Returns the samples that count as silence; None for another message.

        Raises the server's error by its code, or BadMessage.
        """
        answer = wire.parse_server(message) if isinstance(message, str) else None
        match answer:
            case None if isinstance(message, str):
                return None
            case wire.Error():
                raise named_error(answer)
            case wire.Ready() if answer.n == self.next_frame:
                return self._resume(answer, now)
            case _:
                raise BadMessage(f"from the server: no ready for frame {self.next_frame}")

    def _resume(self, ready: wire.Ready, now: float) -> int:
        self.assembler.connected(ready)
        self.ready = ready
        self._held = []
        position, played = ready.audio_position, self._played(now)
        if self.resend:
            played = position
            if position < self.samples:
                self.filler.audio_resent(self.samples - position, now)
        self.resend_queue.rewind(position, played)
        return max(0, played - position)

    def _played(self, now: float) -> int:
        """The samples whose time has come, of all that was sent."""
        backlog_s = self.filler.backlog_s(now)
        return self.samples - round(backlog_s * self.audio.rate) * (backlog_s > LIVE_BACKLOG_S)


def _is_reset(message: wire.Dropped | wire.MarkReached) -> bool:
    return isinstance(message, wire.Dropped) and message.reason == "reset"
