"""What a client has said and the server may not have, so that another connection can go on.

Pure bookkeeping. Everything said is an entry at its place in the sound, in order::

    server has it for sure      sent, unsure        not sent yet
    ---------------------- | -------------------- | ------------->
         (forgotten)         said[0]                said[sent]       end

The server says how much sound it has got; the order of a connection says the rest. Words (an
emotion, a mark, ...) exactly at that sample may have come through or not: they are sent again
unless an answer has shown that they did, which changes nothing at a server that has them, and
an answer that comes twice is told once.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from client.stream.messages import Words
from client.stream.pcm import SILENCE_S
from kfusion import wire
from kfusion.emotion import named, vector
from kfusion.errors import BadMessage
from kfusion.stream import frame_count, sample_of

Answer = wire.EmotionSet | wire.IdentitySet | wire.MarkReached | wire.ResetDone | wire.Error
"""What words are answered with; errors here are never fatal."""


@dataclass
class Said:
    """PCM, or silence where ``what`` is None, of ``samples`` from ``at``; or words at ``at``.

    ``sends``: how often it was sent, on whatever connections. The server may answer words so
    often, and once more all that on each connection; ``heard`` answers came on this one.
    ``answer``: the first of all, which came before frame ``answered``.
    """

    at: int
    samples: int
    what: bytes | Words | None
    sends: int = 0
    answer: Answer | None = None
    answered: int = -1
    heard: int = 0

    @property
    def end(self) -> int:
        return self.at + self.samples

    @property
    def silent(self) -> bool:
        return self.what is None

    def split(self, samples: int, size: int) -> Said:
        """Keeps so many samples, of ``size`` bytes each, and gives the rest."""
        rest = Said(self.at + samples, self.samples - samples, None, self.sends)
        if isinstance(self.what, bytes):
            rest.what = self.what[samples * size :]
            self.what = self.what[: samples * size]
        self.samples = samples
        return rest


class Journal:
    """All that was said from what the server may lack on; ``end`` samples in all.

    ``size``: bytes a sample (of all channels). ``keeps``: whether what was sent is remembered at
    all. ``sent`` of the entries are with the connection.
    """

    WORDS: Final = 1000  # that wait to be sent

    def __init__(self, rate: int, size: int) -> None:
        self.rate, self.size = rate, size
        self.keeps = False
        self.said: deque[Said] = deque()
        self.sent = 0
        self.end = 0
        self.refusals = 0  # errors still to come for words that the server had before `end`

    # Said

    def sound(self, samples: int, pcm: bytes) -> None:
        self._add(Said(self.end, samples, pcm))

    def silence(self, samples: int) -> None:
        if samples:
            self._add(Said(self.end, samples, None))

    def words(self, what: Words) -> None:
        self._add(Said(self.end, 0, what))
        if len(self.said) > 2 * self.WORDS:
            self._forget_words()

    def _add(self, entry: Said) -> None:
        self.end += entry.samples
        self.said.append(entry)

    def _forget_words(self) -> None:
        """Bounds what is kept where words go on and on without any sound."""
        if sum(not s.samples for s in self.said) <= 2 * self.WORDS:
            return
        for k, entry in enumerate(self.said):
            if entry.answer is not None and k < self.sent:
                del self.said[k]
                self.sent -= 1
                return

    @property
    def full(self) -> bool:
        """Whether so many words wait to be sent that more should wait."""
        if len(self.said) - self.sent < self.WORDS:
            return False
        return sum(not s.samples for s in islice(self.said, self.sent, None)) >= self.WORDS

    # Sent

    def take(self) -> str | bytes | None:
        """The next message to send, or None."""
        while self.sent < len(self.said):
            entry = self.said[self.sent]
            most = SILENCE_S * self.rate
            if entry.silent and entry.samples > most:
                self.said.insert(self.sent + 1, entry.split(most, self.size))
            if self.keeps:
                self.sent += 1
            else:
                self.said.popleft()
            if entry.answer is not None:  # meanwhile, for an earlier connection had carried it
                continue
            entry.sends += 1
            if entry.what is None:
                return wire.encode(wire.Silence(entry.samples))
            return entry.what if isinstance(entry.what, bytes) else wire.encode(entry.what)
        return None

    def reached(self, next_frame: int) -> None:
        """All frames below have come or were dropped: forgets what that proves received."""
        # A reset gives up frames to the end of the one that it falls into: hence the one less.
        heard = sample_of(max(0, next_frame - 1), self.rate)
        while self.sent:
            first = self.said[0]
            # The server sends an answer again as long as no frame that came after it was got.
            told = max(self._frame(first), first.answered)
            over = first.end <= heard if first.samples else told < next_frame
            if not over:
                return
            self.said.popleft()
            self.sent -= 1

    def _frame(self, words: Said) -> int:
        """The frame before which words are answered."""
        return frame_count(words.at, self.rate)

    # Sent again

    def rewind(self, position: int, spoken: int) -> None:
        """The server has got ``position`` samples: what comes after will be taken once more.

        Sound below ``spoken`` is silence then. Raises :class:`~kfusion.errors.BadMessage` for a
        position that cannot be.
        """
        first = self._first_lacking(position)
        lacking = [self.said.pop() for _ in range(len(self.said) - first)][::-1]
        if lacking and lacking[0].at < position:
            lacking[0] = lacking[0].split(position - lacking[0].at, self.size)
        if (lacking[0].at if lacking else self.end) != position:
            raise BadMessage(
                f"from the server: audio_position {position}, where {self.end} samples were sent "
                f"and {lacking[0].at if lacking else self.end} had arrived"
            )
        again = [s for s in lacking if s.sends and not s.samples]
        ended = any(isinstance(s.what, wire.EndOfAudio) for s in again)
        self.refusals = len(again) - 1 if ended else 0
        for entry in (*self.said, *again):
            entry.heard = 0
        self.sent = len(self.said)
        for entry in lacking:
            self._put_back(entry, spoken)

    def _first_lacking(self, position: int) -> int:
        """The first entry that the server may lack."""
        lacking = (
            k
            for k, s in enumerate(self.said)
            if s.end > position or (s.at >= position and not s.samples)
        )
        shown = (
            k + 1 for k, s in enumerate(self.said) if s.answer is not None and s.at == position
        )
        return max(next(lacking, len(self.said)), *shown, 0)

    def _put_back(self, entry: Said, spoken: int) -> None:
        if isinstance(entry.what, bytes) and entry.at < spoken:
            if entry.end > spoken:
                rest = entry.split(spoken - entry.at, self.size)
                self._put_back(entry, spoken)
                entry = rest
            else:
                entry.what = None
        last = self.said[-1] if len(self.said) > self.sent else None
        if last is not None and last.silent and entry.silent:
            last.samples += entry.samples
        else:
            self.said.append(entry)

    # Answered

    def answer(self, reply: Answer, next_frame: int) -> bool:
        """Notes an answer that came before this frame; gives whether it is news, and not told twice
        for a resumption.
        """
        if self.refusals and isinstance(reply, wire.Error) and reply.code == "bad_message":
            self.refusals -= 1
            return False
        for words in self.said:
            if not words.heard and words.answer == reply and not isinstance(reply, wire.Error):
                words.heard = 1  # told again, as it was; errors are not
                return False
        for words in self.said:
            if words.sends and words.answer is None:
                if self._fits(words, reply):
                    words.answer, words.answered, words.heard = reply, next_frame, 1
                    return True
                if self._comes_before(words, reply):
                    break
        for words in self.said:
            if words.answer is not None and words.heard < words.sends and self._fits(words, reply):
                words.heard += 1
                return False
        return True

    def _comes_before(self, said: Said, reply: Answer) -> bool:
        """Whether an answer can only be to what stands before these words, that still wait."""
        match said.what, reply:
            case wire.Reset(), _:
                return True
            case (wire.Mark(), wire.MarkReached()) | (wire.SetEmotion(), wire.EmotionSet()):
                return reply.n == self._frame(said)
            case _:
                return False

    def _fits(self, said: Said, reply: Answer) -> bool:
        match said.what, reply:
            case wire.Mark() as asked, wire.MarkReached():
                return reply.id == asked.id and reply.n == self._frame(said)
            case wire.Reset(), wire.ResetDone():
                return reply.audio_position == said.at
            case wire.SetEmotion() as asked, wire.EmotionSet():
                return reply.n == self._frame(said) and _same(asked, reply)
            case wire.SetIdentity() as asked, wire.IdentitySet():
                return reply.id == asked.id
            case wire.SetEmotion(), wire.Error():
                return reply.code == "bad_emotion"
            case wire.SetIdentity(image=wire.UnsetType()), wire.Error():
                return reply.code == "bad_identity"
            case wire.SetIdentity(), wire.Error():
                return reply.code in _OF_IMAGES
            case _:
                return False


_OF_IMAGES: Final = ("bad_identity", "no_face", "too_big", "bad_message", "too_fast")


def _same(asked: wire.SetEmotion, told: wire.EmotionSet) -> bool:
    wanted = named(vector(asked.weights)) | {"": asked.ramp}
    given = told.weights | {"": told.ramp}
    return all(abs(given.get(name, 0.0) - value) < 1e-3 for name, value in wanted.items())
