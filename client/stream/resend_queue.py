"""What a client has to send, and what it has sent and may have to send again. Pure bookkeeping.

Audio, silence and control messages are items at their positions in the audio, in order::

    acknowledged            sent                  not sent yet
    ---------------------- | -------------------- | ------------->
         (forgotten)         items[0]               items[sent]     end

The server tells how many samples it has received; on one connection order says the rest. Control
messages exactly at that sample may have been received or not. They are sent again unless a reply
shows that they were received. A server that has them already changes nothing; a reply that comes
twice is reported once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from client.stream.messages import ControlMessage
from client.stream.pcm import SILENCE_S
from kfusion import wire
from kfusion.emotion import named, vector
from kfusion.errors import BadMessage
from kfusion.stream import frame_count, sample_of

ControlReply = wire.EmotionSet | wire.IdentitySet | wire.MarkReached | wire.ResetDone | wire.Error
"""The server's reply to a control message; errors here are never fatal."""


@dataclass
class QueueItem:
    """PCM, silence (``payload`` None), or a control message (``samples`` 0)."""

    position: int  # samples of audio before this item
    samples: int
    payload: bytes | ControlMessage | None
    sends: int = 0  # over all connections; the server may reply as often, and repeat on each
    reply: ControlReply | None = None  # the first of all, received before frame `reply_frame`
    reply_frame: int = -1
    replies: int = 0  # on the present connection

    @property
    def end(self) -> int:
        return self.position + self.samples

    @property
    def is_silence(self) -> bool:
        return self.payload is None

    def split(self, samples: int, frame_size: int) -> QueueItem:
        """Keeps ``samples`` of ``frame_size`` bytes each and returns the rest."""
        rest = QueueItem(self.position + samples, self.samples - samples, None, self.sends)
        if isinstance(self.payload, bytes):
            rest.payload = self.payload[samples * frame_size :]
            self.payload = self.payload[: samples * frame_size]
        self.samples = samples
        return rest


class ResendQueue:
    """Items from the first that the server may lack. The first ``sent`` of them were sent."""

    MAX_MESSAGES: Final = 1000  # control messages that wait to be sent

    def __init__(self, rate: int, frame_size: int) -> None:
        self.rate, self.frame_size = rate, frame_size  # bytes of one sample of all channels
        self.keeps_sent = False  # items stay once they are sent, for a session that can be resumed
        self.items: deque[QueueItem] = deque()
        self.sent = 0
        self.end = 0  # samples of audio and silence in all
        self.refusals = 0  # errors still to come for messages that the server had before `end`

    # Adding

    def add_audio(self, samples: int, pcm: bytes) -> None:
        self._add(QueueItem(self.end, samples, pcm))

    def add_silence(self, samples: int) -> None:
        if samples:
            self._add(QueueItem(self.end, samples, None))

    def add_message(self, message: ControlMessage) -> None:
        self._add(QueueItem(self.end, 0, message))
        if len(self.items) > 2 * self.MAX_MESSAGES:
            self._forget_message()

    def _add(self, item: QueueItem) -> None:
        self.end += item.samples
        self.items.append(item)

    def _forget_message(self) -> None:
        """Bounds the sent messages where many are sent without any audio between them."""
        if sum(not item.samples for item in self.items) <= 2 * self.MAX_MESSAGES:
            return
        for k, item in enumerate(self.items):
            if item.reply is not None and k < self.sent:
                del self.items[k]
                self.sent -= 1
                return

    @property
    def full(self) -> bool:
        """Whether a further control message has to wait until some are sent."""
        if len(self.items) - self.sent < self.MAX_MESSAGES:
            return False
        unsent = islice(self.items, self.sent, None)
        return sum(not item.samples for item in unsent) >= self.MAX_MESSAGES

    # Sending

    def next_message(self) -> str | bytes | None:
        """The next message to send, or None."""
        while self.sent < len(self.items):
            item = self.items[self.sent]
            longest = SILENCE_S * self.rate
            if item.is_silence and item.samples > longest:
                self.items.insert(self.sent + 1, item.split(longest, self.frame_size))
            if self.keeps_sent:
                self.sent += 1
            else:
                self.items.popleft()
            if item.reply is not None:  # an earlier connection had carried it
                continue
            item.sends += 1
            if item.payload is None:
                return wire.encode(wire.Silence(item.samples))
            return item.payload if isinstance(item.payload, bytes) else wire.encode(item.payload)
        return None

    def acknowledge(self, next_frame: int) -> None:
        """Forgets what the server has received for certain, as all frames below have come."""
        # A reset drops frames up to the end of the one that it falls into: hence the one less.
        received = sample_of(max(0, next_frame - 1), self.rate)
        while self.sent:
            first = self.items[0]
            # The server repeats a reply until a frame after it has been received.
            replied = max(self._frame(first), first.reply_frame)
            over = first.end <= received if first.samples else replied < next_frame
            if not over:
                return
            self.items.popleft()
            self.sent -= 1

    def _frame(self, message: QueueItem) -> int:
        """The frame before which the reply to a control message comes."""
        return frame_count(message.position, self.rate)

    # Sending again

    def rewind(self, position: int, silent_until: int) -> None:
        """Puts what comes after ``position``, which the server has received, back to be sent.

        Audio before ``silent_until`` becomes silence. Raises BadMessage for a wrong position.
        """
        first = self._first_lacking(position)
        lacking = [self.items.pop() for _ in range(len(self.items) - first)][::-1]
        if lacking and lacking[0].position < position:
            lacking[0] = lacking[0].split(position - lacking[0].position, self.frame_size)
        begin = lacking[0].position if lacking else self.end
        if begin != position:
            raise BadMessage(
                f"from the server: audio_position {position}, where {self.end} samples were sent "
                f"and {begin} had arrived"
            )
        messages = [item for item in lacking if item.sends and not item.samples]
        ended = any(isinstance(item.payload, wire.EndOfAudio) for item in messages)
        self.refusals = len(messages) - 1 if ended else 0
        for item in (*self.items, *messages):
            item.replies = 0
        self.sent = len(self.items)
        for item in lacking:
            self._put_back(item, silent_until)

    def _first_lacking(self, position: int) -> int:
        """The index of the first item that the server may lack."""
        lacking = (
            k
            for k, item in enumerate(self.items)
            if item.end > position or (item.position >= position and not item.samples)
        )
        replied = (
            k + 1
            for k, item in enumerate(self.items)
            if item.reply is not None and item.position == position
        )
        return max(next(lacking, len(self.items)), *replied, 0)

    def _put_back(self, item: QueueItem, silent_until: int) -> None:
        if isinstance(item.payload, bytes) and item.position < silent_until:
            if item.end > silent_until:
                rest = item.split(silent_until - item.position, self.frame_size)
                self._put_back(item, silent_until)
                item = rest
            else:
                item.payload = None
        last = self.items[-1] if len(self.items) > self.sent else None
        if last is not None and last.is_silence and item.is_silence:
            last.samples += item.samples
        else:
            self.items.append(item)

    # Replies

    def accept_reply(self, reply: ControlReply, next_frame: int) -> bool:
        """Assigns a reply that came before frame ``next_frame`` to its message; False: repeated."""
        if self.refusals and isinstance(reply, wire.Error) and reply.code == "bad_message":
            self.refusals -= 1
            return False
        for item in self.items:
            if not item.replies and item.reply == reply and not isinstance(reply, wire.Error):
                item.replies = 1  # repeated as it was; errors are not
                return False
        for item in self.items:
            if item.sends and item.reply is None:
                if self._fits(item, reply):
                    item.reply, item.reply_frame, item.replies = reply, next_frame, 1
                    return True
                if self._comes_before(item, reply):
                    break
        for item in self.items:
            if item.reply is not None and item.replies < item.sends and self._fits(item, reply):
                item.replies += 1
                return False
        return True

    def _comes_before(self, item: QueueItem, reply: ControlReply) -> bool:
        """Whether a reply that does not fit this item belongs to an item before it."""
        match item.payload, reply:
            case wire.Reset(), _:
                return True
            case (wire.Mark(), wire.MarkReached()) | (wire.SetEmotion(), wire.EmotionSet()):
                return reply.n == self._frame(item)
            case _:
                return False

    def _fits(self, item: QueueItem, reply: ControlReply) -> bool:
        match item.payload, reply:
            case wire.Mark() as mark, wire.MarkReached():
                return reply.id == mark.id and reply.n == self._frame(item)
            case wire.Reset(), wire.ResetDone():
                return reply.audio_position == item.position
            case wire.SetEmotion() as emotion, wire.EmotionSet():
                return reply.n == self._frame(item) and _same_emotion(emotion, reply)
            case wire.SetIdentity() as identity, wire.IdentitySet():
                return reply.id == identity.id
            case wire.SetEmotion(), wire.Error():
                return reply.code == "bad_emotion"
            case wire.SetIdentity(image=wire.UnsetType()), wire.Error():
                return reply.code == "bad_identity"
            case wire.SetIdentity(), wire.Error():
                return reply.code in _IMAGE_ERRORS
            case _:
                return False


_IMAGE_ERRORS: Final = ("bad_identity", "no_face", "too_big", "bad_message", "too_fast")


def _same_emotion(request: wire.SetEmotion, reply: wire.EmotionSet) -> bool:
    requested = named(vector(request.weights)) | {"": request.ramp}
    replied = reply.weights | {"": reply.ramp}
    return all(abs(replied.get(name, 0.0) - value) < 1e-3 for name, value in requested.items())
