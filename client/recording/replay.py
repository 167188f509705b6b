"""Plays a recording: the events of the recorded stream, at any speed."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from client.errors import RecordingError
from client.recording.format import Entry, Failed, Left, Lost, Opened, Received, Recording, Sent
from client.stream.clock import Clock, LoopClock
from client.stream.events import Event
from client.stream.messages import ControlMessage
from client.stream.resend_queue import QueueItem
from client.stream.state import ClientStream, StreamState
from client.stream.transport import Message
from kfusion import wire
from kfusion.errors import KFusionError, WireError

AT_ONCE: Final = float("inf")


class Replay:
    """The client's protocol, driven by the recorded messages in order. No I/O, no clock."""

    def __init__(self, start: wire.Start) -> None:
        self.stream = ClientStream(start, fill_silence=False, reconnects=True, resend=True)
        self.failure: KFusionError | None = None  # what ends the stream, if nothing follows
        self._resuming = False
        self._first = True

    def feed(self, entry: Entry) -> list[Event]:
        """The events of an entry. Raises as :meth:`ClientStream.receive` does."""
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
            case Lost() if self.stream.state is not StreamState.DONE:
                self.failure = self.failure or self.stream.lost_error(entry.code, entry.reason)
            case Failed() | Lost() | Left():
                pass
        return []

    def _received(self, message: Message) -> list[Event]:
        if not self._resuming:
            return self.stream.receive(message)
        try:
            if self.stream.accept_resumption(message, 0.0) is None:
                return []
        except WireError as error:  # a later connection may be accepted
            self.failure = error
            return []
        self.failure, self._resuming = None, False
        return []

    def _sent(self, message: Message) -> None:
        """Adds what was sent for the first time; marks as sent what was sent once more."""
        queue = self.stream.resend_queue
        if isinstance(message, bytes):
            self._sent_audio(len(message) // queue.frame_size)
            return
        parsed = wire.parse_client(message)
        if isinstance(parsed, wire.Silence):
            self._sent_audio(parsed.samples)
        elif isinstance(parsed, ControlMessage):
            self._skip_replied()
            if queue.sent == len(queue.items):
                self.stream.send_control(parsed, 0.0)
            self._take(0)

    def _sent_audio(self, samples: int) -> None:
        """Audio or silence: events depend on its length alone."""
        queue = self.stream.resend_queue
        while samples:
            self._skip_replied()
            if queue.sent == len(queue.items):
                queue.add_silence(samples)
            samples -= self._take(samples).samples

    def _take(self, samples: int) -> QueueItem:
        """Marks the next item, at most ``samples`` of it, as sent."""
        queue = self.stream.resend_queue
        item = queue.items[queue.sent]
        if item.samples > samples:
            queue.items.insert(queue.sent + 1, item.split(samples, queue.frame_size))
        queue.sent += 1
        item.sends += 1
        return item

    def _skip_replied(self) -> None:
        """Skips messages that were not sent again, for their replies had come meanwhile."""
        queue = self.stream.resend_queue
        while queue.sent < len(queue.items) and queue.items[queue.sent].reply is not None:
            queue.sent += 1


def start_of(recording: Recording) -> wire.Start:
    """How the stream was opened. Raises :class:`~client.errors.RecordingError` if it was not."""
    first = next((entry for entry in recording.entries() if isinstance(entry, Sent)), None)
    if first is not None and isinstance(first.message, str):
        start = wire.parse_client(first.message)
        if isinstance(start, wire.Start) and start.resume is wire.UNSET:
            return start
    raise RecordingError(
        f"{recording.path}: no stream was started in it; wanted one that begins with start"
    )


def events(recording: Recording) -> Iterator[tuple[float, Event]]:
    """(seconds, event) of all events of the stream; frames are the same to the bit.

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
    """The events at the times of the recording, ``speed`` times as fast; at once for 0 or
    infinity.
    """
    clock = clock or LoopClock()
    began, never = clock.now(), asyncio.Event()
    for seconds, event in events(recording):
        if 0 < speed < AT_ONCE:
            await clock.wait(never, began + seconds / speed)
        yield event
