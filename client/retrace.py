"""What a recorded client did, from what went over its connections. No I/O, no clock.

A recording holds messages, not calls: of what was sent on a second connection some was said
then, and some was said before and lost with the first. Both go out in the order in which they
were said, so what the client's own journal still has to send again tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from client.events import Event
from client.journal import Said
from client.protocol import ClientStream, State
from client.recording import Entry, Failed, Left, Lost, Opened, Received, Sent
from client.words import Words
from kfusion import wire
from kfusion.errors import KFusionError, WireError


@dataclass
class Heard:
    """What the server got of the sound and the words, in order; ``us`` after the start.

    Sound, or silence where ``what`` is None, of ``samples`` from ``at``; or words at ``at``,
    with their ``entry`` of the journal.
    """

    us: int
    at: int
    samples: int
    what: bytes | Words | None
    entry: Said | None = None


class Replay:
    """The client's side of a recorded stream, driven by what went over its connections.

    Feed it the entries in order. ``heard``: what the server got, if ``keeps``.
    """

    def __init__(self, start: wire.Start, *, keeps: bool = False) -> None:
        self.start = start
        self.stream = ClientStream(start, fill_silence=False, reconnects=True, resend=True)
        self.keeps = keeps
        self.heard: list[Heard] = []
        self.failure: KFusionError | None = None  # what ends the stream, if nothing follows
        self._resuming = False
        self._first = True

    def feed(self, entry: Entry) -> list[Event]:
        """What an entry told.

        Raises the server's fatal error, as the stream did, and
        :class:`~kfusion.errors.BadMessage` for what is not the protocol.
        """
        match entry:
            case Opened():
                self._resuming, self._first = self.stream.ready is not None, True
                self.failure = None
            case Sent() if self._first:  # the start, or the resumption
                self._first = False
            case Sent():
                self._sent(entry)
            case Received():
                return self._received(entry.message)
            case Lost() if self.stream.state is not State.DONE:
                self.failure = self.failure or self.stream.lost(entry.code, entry.reason)
            case Failed() | Lost() | Left():
                pass
        return []

    def _received(self, message: str | bytes) -> list[Event]:
        if not self._resuming:
            return self.stream.receive(message)
        self._keep_answered()
        try:
            if self.stream.resumed(message, 0.0) is None:
                return []
        except WireError as error:  # another connection may have been better received
            self.failure = error
            return []
        self.failure, self._resuming = None, False
        self._unsay()
        return []

    def _unsay(self) -> None:
        """Of what was sent the server has only got what the resumption says."""
        journal = self.stream.journal
        lacking = list(journal.said)[journal.sent :]
        position = journal.end - sum(said.samples for said in lacking)
        kept: list[Heard] = []
        for heard in self.heard:
            if heard.samples:
                kept += self._cut(heard, position)
            elif not any(said is heard.entry for said in lacking):
                kept.append(heard)
        self.heard = kept

    def _cut(self, heard: Heard, end: int) -> list[Heard]:
        samples = min(heard.samples, end - heard.at)
        if samples <= 0:
            return []
        what = heard.what
        if isinstance(what, bytes):
            what = what[: samples * self.stream.journal.size]
        return [Heard(heard.us, heard.at, samples, what)]

    def _sent(self, entry: Sent) -> None:
        """Says what was sent, or sends again what was said on an earlier connection."""
        journal, message = self.stream.journal, entry.message
        if isinstance(message, bytes):
            self._sound(entry.us, len(message) // journal.size, message)
            return
        said = wire.parse_client(message)
        if isinstance(said, wire.Silence):
            self._sound(entry.us, said.samples, None)
        elif isinstance(said, Words):
            self._skip_answered(entry.us)
            if journal.sent == len(journal.said):
                self._say(said)
            self._keep(entry.us, self._take(0))

    def _say(self, words: Words) -> None:
        if isinstance(words, wire.EndOfAudio):
            self.stream.end()
        else:
            self.stream.journal.words(words)

    def _sound(self, us: int, samples: int, pcm: bytes | None) -> None:
        journal = self.stream.journal
        self._skip_answered(us)
        if self.keeps and samples:
            waiting = list(journal.said)[journal.sent :]
            at = journal.end - sum(said.samples for said in waiting)
            self.heard.append(Heard(us, at, samples, pcm))
        while samples:
            self._skip_answered(us)
            if journal.sent == len(journal.said):
                rest = None if pcm is None else pcm[-samples * journal.size :]
                if rest is None:
                    journal.silence(samples)
                else:
                    journal.sound(samples, rest)
            samples -= self._take(samples).samples

    def _take(self, samples: int) -> Said:
        """The next entry of the journal as sent, at most so many samples of it."""
        journal = self.stream.journal
        entry = journal.said[journal.sent]
        if entry.samples > samples:
            journal.said.insert(journal.sent + 1, entry.split(samples, journal.size))
        journal.sent += 1
        entry.sends += 1
        return entry

    def _skip_answered(self, us: int) -> None:
        """Words that an earlier connection had carried after all were not sent again."""
        journal = self.stream.journal
        while journal.sent < len(journal.said):
            entry = journal.said[journal.sent]
            if entry.answer is None:
                return
            journal.sent += 1
            self._keep(us, entry)

    def finish(self) -> None:
        """Nothing follows: what was to be sent again, and need not have been, the server had."""
        self._keep_answered(self.stream.state is State.DONE)

    def _keep_answered(self, all_were: bool = False) -> None:
        journal = self.stream.journal
        for entry in list(journal.said)[journal.sent :]:
            if not entry.samples and (entry.answer is not None or all_were):
                self._keep(self.heard[-1].us if self.heard else 0, entry)

    def _keep(self, us: int, entry: Said) -> None:
        if self.keeps and not any(heard.entry is entry for heard in self.heard):
            self.heard.append(Heard(us, entry.at, 0, entry.what, entry))
