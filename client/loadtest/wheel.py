"""Opens streams, and one timer for all of them."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Sequence
from typing import Final

from websockets.frames import Frame, Opcode

from client.loadtest.plan import Part, Sound
from client.loadtest.streams import Door, State, Stream
from kfusion.errors import ConnectionFailed

OPEN_S: Final = 20.0  # for a connection and the answer to start


def messages_of(sound: Sound) -> list[bytes]:
    """A sound's chunks as WebSocket messages, masked."""
    return [Frame(Opcode.BINARY, pcm).serialize(mask=True) for pcm in sound.pcm]


class Wheel:
    """One timer for all streams: whose chunk is due next."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.heap: list[tuple[float, int, Stream]] = []
        self.timer: asyncio.TimerHandle | None = None

    def add(self, stream: Stream) -> None:
        heapq.heappush(self.heap, (stream.due, stream.part.index, stream))
        if self.timer is None or self.heap[0][2] is stream:
            self._set()

    def _set(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(self.heap[0][0], self._turn)

    def _turn(self) -> None:
        self.timer, heap = None, self.heap
        now = self.loop.time()  # what falls due meanwhile waits, so that the sockets are read
        while heap and heap[0][0] <= now:
            _, index, stream = heap[0]
            if stream.speak():
                heapq.heapreplace(heap, (stream.due, index, stream))
            else:
                heapq.heappop(heap)
        if heap:
            self._set()


async def open_stream(
    door: Door, part: Part, messages: Sequence[list[bytes]], sounds: Sequence[Sound], rate: int
) -> Stream:
    """A stream that is ready, or refused for want of a place.

    Raises :class:`~kfusion.errors.ConnectionFailed`, or the server's error by its name.
    """
    loop = asyncio.get_running_loop()
    host, port, secure = door.uri.host, door.uri.port, door.uri.secure
    stream = Stream(door, part, messages[part.sound], sounds[part.sound], rate)
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(OPEN_S):
            transport, _ = await loop.create_connection(
                lambda: stream, host, port, ssl=True if secure else None
            )
            await stream.opened
    except TimeoutError:
        raise ConnectionFailed(f"{door.where} did not answer within {OPEN_S:g} s") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionFailed(
            f"cannot connect to {door.where} ({reason}); is it running?"
        ) from None
    finally:
        if stream.state in (State.CONNECTING, State.STARTING):  # given up
            stream.opened.cancel()
            if transport is not None:
                transport.abort()
    return stream
