"""Live sound from an input device, through PortAudio (sounddevice).

PortAudio's thread calls back with blocks of samples and must never wait: they go into a
bounded queue. What does not fit is counted and comes out as silence of the same length in the
same place, so that time stays true.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from client.audio.devices import Device, choose, listed, portaudio
from kfusion.config import MAX_RATE, MIN_RATE
from kfusion.errors import MicrophoneError

if TYPE_CHECKING:
    from client.sdk import Face

BLOCK_MS: Final = 20
QUEUE_S: Final = 2.0


@dataclass(frozen=True)
class Block:
    """Mono s16le ``pcm`` whose first sample was heard at ``at``, s; or ``lost`` samples."""

    pcm: bytes
    at: float
    lost: int = 0


class BlockQueue:
    """Between the device's thread and the loop; one side puts, the other takes, without locks.

    ``lost``: samples that did not fit and are not announced yet; ``lost_in_all`` counts them.
    """

    def __init__(self, blocks: int) -> None:
        self.most = blocks
        self.blocks: deque[Block] = deque()
        self.lost = 0
        self.lost_in_all = 0

    def lose(self, samples: int) -> None:
        """Counts samples that the device itself has dropped."""
        self.lost += samples
        self.lost_in_all += samples

    def put(self, pcm: bytes, at: float) -> None:
        """A block from the device's thread. Never waits."""
        if len(self.blocks) >= self.most:
            self.lose(len(pcm) // 2)
            return
        if self.lost:
            self.blocks.append(Block(b"", at, self.lost))
            self.lost = 0
        self.blocks.append(Block(pcm, at))

    def take(self) -> Block | None:
        """The next block, for the loop."""
        return self.blocks.popleft() if self.blocks else None


class CaptureClock:
    """Samples that a device has dropped, from the times it gives its blocks.

    PortAudio flags an overflow without saying how much is gone; the block's own time does.
    """

    MOST_S: Final = 60.0

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.due: float | None = None

    def block(self, at: float, samples: int, *, overflowed: bool) -> int:
        """Samples missing before a block that was heard at ``at``, s (0: not told)."""
        lost = 0
        if overflowed and self.due is not None and at > self.due:
            lost = round(min(self.MOST_S, at - self.due) * self.rate)
        # Without an overflow, what differs is the jitter of the time stamps.
        self.due = at + samples / self.rate if at > 0 else None
        return lost


def devices() -> list[Device]:
    """Every input device. Raises :class:`~kfusion.errors.MissingExtra`."""
    return listed("input")


class Microphone:
    """An open input device: ``async with Microphone() as mic``, then ``blocks()`` or ``pump``.

    ``rate`` is the device's own, so that nothing is resampled on the way; ``level`` is the
    root mean square of the last block, 0..1.

    Raises :class:`~kfusion.errors.MicrophoneError` where the device cannot be opened.
    """

    def __init__(self, device: str | int | None = None) -> None:
        self._sd = portaudio()
        self.device = choose(devices(), device)
        usable = MIN_RATE <= self.device.rate <= MAX_RATE
        self.rate = self.device.rate if usable else 48_000
        self.level = 0.0
        self.queue = BlockQueue(round(QUEUE_S * 1000 / BLOCK_MS))
        self._capture = CaptureClock(self.rate)
        self._arrived = asyncio.Event()
        self._ended = False
        self._stream: Any = None

    async def __aenter__(self) -> Microphone:
        self._loop = asyncio.get_running_loop()
        try:
            self._stream = self._sd.RawInputStream(
                samplerate=self.rate,
                blocksize=self.rate * BLOCK_MS // 1000,
                device=self.device.index,
                channels=1,
                dtype="int16",
                callback=self._heard,
                finished_callback=self._finished,
            )
            self._stream.start()
        except self._sd.PortAudioError as error:
            raise MicrophoneError(f"{self.device.name}: cannot be opened ({error})") from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._stream is not None:
            self._stream.close()

    def stop(self) -> None:
        """No more blocks: those at hand are still given."""
        self._ended = True
        self._arrived.set()

    def _heard(self, data: Any, samples: int, times: Any, status: Any) -> None:
        """In PortAudio's thread: never waits."""
        if self._ended:
            return
        heard = float(times.inputBufferAdcTime)
        lost = self._capture.block(heard, samples, overflowed=bool(status.input_overflow))
        if lost:
            self.queue.lose(lost)
        self.queue.put(bytes(data), self._loop.time() - samples / self.rate)
        self._wake(self._arrived.set)

    def _finished(self) -> None:
        self._wake(self.stop)

    def _wake(self, what: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(what)
        except RuntimeError:
            return  # the loop is closed: nobody listens any more

    async def blocks(self) -> AsyncIterator[Block]:
        """Blocks as they are heard, until :meth:`stop` or the device is gone."""
        while True:
            while (block := self.queue.take()) is not None:
                if block.pcm:
                    heard = np.frombuffer(block.pcm, "<i2").astype(np.float32) / 32768
                    self.level = float(np.sqrt(np.mean(np.square(heard))))
                yield block
            if self._ended:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def pump(self, face: Face) -> None:
        """Sends all that is heard to a stream of this ``rate``, one channel, s16le."""
        async for block in self.blocks():
            if block.lost:
                await face.silence(block.lost)
            else:
                await face.send(block.pcm)
