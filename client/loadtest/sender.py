"""Opens streams, and sends the chunks of all of them with one timer."""

import asyncio
import heapq
from collections.abc import Sequence
from typing import Final

from websockets.frames import Frame, Opcode

from client.loadtest.load import LoadClip, StreamPlan
from client.loadtest.streams import Endpoint, LoadState, LoadStream
from kfusion.errors import ConnectionFailed

OPEN_S: Final = 20.0  # for a connection and the ready message


def websocket_messages(clip: LoadClip) -> list[bytes]:
    """A clip's chunks as masked WebSocket messages."""
    return [Frame(Opcode.BINARY, pcm).serialize(mask=True) for pcm in clip.pcm]


class ChunkSender:
    """Sends the chunks of all streams when they are due; one timer and a heap by due time."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.heap: list[tuple[float, int, LoadStream]] = []
        self.timer: asyncio.TimerHandle | None = None

    def add(self, stream: LoadStream) -> None:
        heapq.heappush(self.heap, (stream.due, stream.plan.index, stream))
        if self.timer is None or self.heap[0][2] is stream:
            self._schedule()

    def _schedule(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(self.heap[0][0], self._send_due)

    def _send_due(self) -> None:
        self.timer, heap = None, self.heap
        now = self.loop.time()  # chunks that fall due during this loop wait until sockets are read
        while heap and heap[0][0] <= now:
            _, index, stream = heap[0]
            if stream.send_chunk():
                heapq.heapreplace(heap, (stream.due, index, stream))
            else:
                heapq.heappop(heap)
        if heap:
            self._schedule()


async def open_stream(
    endpoint: Endpoint,
    plan: StreamPlan,
    messages: Sequence[list[bytes]],
    clips: Sequence[LoadClip],
    rate: int,
) -> LoadStream:
    """A stream that is ready or refused as busy. Raises ConnectionFailed or the server's error."""
    loop = asyncio.get_running_loop()
    host, port, secure = endpoint.uri.host, endpoint.uri.port, endpoint.uri.secure
    stream = LoadStream(endpoint, plan, messages[plan.clip], clips[plan.clip], rate)
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(OPEN_S):
            transport, _ = await loop.create_connection(
                lambda: stream, host, port, ssl=True if secure else None
            )
            await stream.opened
    except TimeoutError:
        raise ConnectionFailed(f"{endpoint.name} did not answer within {OPEN_S:g} s") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionFailed(
            f"cannot connect to {endpoint.name} ({reason}); is it running?"
        ) from None
    finally:
        if stream.state in (LoadState.CONNECTING, LoadState.STARTING):  # opening failed
            stream.opened.cancel()
            if transport is not None:
                transport.abort()
    return stream
