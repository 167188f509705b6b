"""Plays a recording: the events of the recorded stream, at any speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from client.errors import RecordingError
from client.recording.format import Entry, Failed, Left, Lost, Opened, Received, Recording, Sent
from client.stream.clock import Clock, LoopClock
from client.stream.events import Event
from client.stream.messages import Words
from client.stream.resend_queue import Said
from client.stream.state import ClientStream, Message, State
from kfusion import wire
from kfusion.errors import KFusionError, WireError

AT_ONCE: Final = float("inf")


class Replay:
    """The client's protocol, driven by the recorded messages in order. No I/O, no clock.

    The answers that count depend on what was sent and on which connection, so the messages that
    were sent are entered into the stream's journal again.
    """

    def __init__(self, start: wire.Start) -> None:
        self.stream = ClientStream(start, fill_silence=False, reconnects=True, resend=True)
        self.failure: KFusionError | None = None  # what ends the stream, if nothing follows
        self._resuming = False
        self._first = True

    def feed(self, entry: Entry) -> list[Event]:
        """The events of an entry.

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
                self._sent(entry.message)
            case Received():
                return self._received(entry.message)
            case Lost() if self.stream.state is not State.DONE:
                self.failure = self.failure or self.stream.lost(entry.code, entry.reason)
            case Failed() | Lost() | Left():
                pass
        return []

    def _received(self, message: Message) -> list[Event]:
        if not self._resuming:
            return self.stream.receive(message)
        try:
            if self.stream.resumed(message, 0.0) is None:
                return []
        except WireError as error:  # a later connection may be accepted
            self.failure = error
            return []
        self.failure, self._resuming = None, False
        return []

    def _sent(self, message: Message) -> None:
        """Enters what was sent for the first time, or takes it from the journal once more."""
        journal = self.stream.journal
        if isinstance(message, bytes):
            self._sound(len(message) // journal.size)
            return
        said = wire.parse_client(message)
        if isinstance(said, wire.Silence):
            self._sound(said.samples)
        elif isinstance(said, Words):
            self._skip_answered()
            if journal.sent == len(journal.said):
                self._say(said)
            self._take(0)

    def _say(self, words: Words) -> None:
        if isinstance(words, wire.EndOfAudio):
            self.stream.end()
        else:
            self.stream.journal.words(words)

    def _sound(self, samples: int) -> None:
        """Sound or silence, of which the answers need the length alone."""
        journal = self.stream.journal
        while samples:
            self._skip_answered()
            if journal.sent == len(journal.said):
                journal.silence(samples)
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

    def _skip_answered(self) -> None:
        """Skips words that were not sent again because they had been answered meanwhile."""
        journal = self.stream.journal
        while journal.sent < len(journal.said) and journal.said[journal.sent].answer is not None:
            journal.sent += 1


def start_of(recording: Recording) -> wire.Start:
    """How the stream was opened. Raises :class:`~client.errors.RecordingError` if it was not."""
    for entry in recording.entries():
        if isinstance(entry, Sent):
            if isinstance(entry.message, bytes):
                break
            said = wire.parse_client(entry.message)
            if isinstance(said, wire.Start) and said.resume is wire.UNSET:
                return said
            break
    raise RecordingError(
        f"{recording.path}: no stream was started in it; wanted one that begins with start"
    )


def events(recording: Recording) -> Iterator[tuple[float, Event]]:
    """(seconds, event) of all that the stream told; frames are the same to the bit.

    :class:`~client.Reconnecting` and :class:`~client.Resumed` are not among them: the connections
    are in ``recording.entries()``. Raises what ended the stream, at its end.
    """
    replay = Replay(start_of(recording))
    for entry in recording.entries():
        for event in replay.feed(entry):
            yield entry.us / 1e6, event
    if replay.failure is not None:
        raise replay.failure


async def play(
    recording: Recording, speed: float = 1.0, clock: Clock | None = None
) -> AsyncGenerator[Event, None]:
    """The events, when they came; ``speed`` times as fast, or at once for 0 or infinity."""
    clock = clock or LoopClock()
    began, never = clock.now(), asyncio.Event()
    for seconds, event in events(recording):
        if 0 < speed < AT_ONCE:
            await clock.wait(never, began + seconds / speed)
        yield event
