"""Live sound from an input device, through PortAudio (sounddevice).

Blocks that do not fit into a bounded queue are replaced by silence, so that time stays true.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from client.audio.devices import choose_device, sounddevice
from kfusion.config import MAX_RATE, MIN_RATE
from kfusion.errors import MicrophoneError

if TYPE_CHECKING:
    from client.sdk import Face

BLOCK_MS: Final = 20
QUEUE_S: Final = 2.0


@dataclass(frozen=True)
class Block:
    """Mono s16le ``pcm`` whose first sample was captured at ``at``, s; or ``lost`` samples."""

    pcm: bytes
    at: float
    lost: int = 0


class BlockQueue:
    """A queue without locks from the device's thread, which puts, to the event loop, which takes.

    ``pending_loss``: samples lost since the last block that was put; ``lost`` counts all of them.
    """

    def __init__(self, blocks: int) -> None:
        self.max_blocks = blocks
        self.blocks: deque[Block] = deque()
        self.pending_loss = 0
        self.lost = 0

    def add_loss(self, samples: int) -> None:
        """Counts samples that the device itself has dropped."""
        self.pending_loss += samples
        self.lost += samples

    def put(self, pcm: bytes, at: float) -> None:
        """Adds a block, in the device's thread."""
        if len(self.blocks) >= self.max_blocks:
            self.add_loss(len(pcm) // 2)
            return
        if self.pending_loss:
            self.blocks.append(Block(b"", at, self.pending_loss))
            self.pending_loss = 0
        self.blocks.append(Block(pcm, at))

    def take(self) -> Block | None:
        """The next block, in the event loop."""
        return self.blocks.popleft() if self.blocks else None


class CaptureClock:
    """Computes how many samples a device has dropped, which PortAudio flags without a number."""

    MAX_LOSS_S: Final = 60.0

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.next_at: float | None = None

    def missing_before(self, at: float, samples: int, *, overflowed: bool) -> int:
        """Samples missing before a block that was captured at ``at``, s (0: unknown)."""
        lost = 0
        if overflowed and self.next_at is not None and at > self.next_at:
            lost = round(min(self.MAX_LOSS_S, at - self.next_at) * self.rate)
        # Without an overflow, a difference is jitter of the time stamps.
        self.next_at = at + samples / self.rate if at > 0 else None
        return lost


class Microphone:
    """An open input device: ``async with Microphone() as mic``, then ``blocks()`` or ``pump``.

    ``rate`` is the device's own, so that nothing is resampled on the way; ``level`` is the
    root mean square of the last block, 0..1.

    Raises :class:`~kfusion.errors.MicrophoneError` where the device cannot be opened.
    """

    def __init__(self, device: str | int | None = None) -> None:
        self._sd = sounddevice()
        self.device = choose_device(device, "input")
        usable = MIN_RATE <= self.device.rate <= MAX_RATE
        self.rate = self.device.rate if usable else 48_000
        self.level = 0.0
        self.queue = BlockQueue(round(QUEUE_S * 1000 / BLOCK_MS))
        self._capture = CaptureClock(self.rate)
        self._block_put = asyncio.Event()
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
                callback=self._captured,
                finished_callback=self._finished,
            )
            self._stream.start()
        except self._sd.PortAudioError as error:
            raise MicrophoneError(f"{self.device.name}: cannot be opened ({error})") from None
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.stop()
        if self._stream is not None:
            self._stream.close()

    def stop(self) -> None:
        """No more blocks are captured; those in the queue are still given."""
        self._ended = True
        self._block_put.set()

    def _captured(self, data: Any, samples: int, times: Any, status: Any) -> None:
        """In PortAudio's thread: never waits."""
        if self._ended:
            return
        at = float(times.inputBufferAdcTime)
        lost = self._capture.missing_before(at, samples, overflowed=bool(status.input_overflow))
        if lost:
            self.queue.add_loss(lost)
        self.queue.put(bytes(data), self._loop.time() - samples / self.rate)
        self._call_in_loop(self._block_put.set)

    def _finished(self) -> None:
        self._call_in_loop(self.stop)

    def _call_in_loop(self, function: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return  # the loop is closed

    async def blocks(self) -> AsyncIterator[Block]:
        """Blocks as they are captured, until :meth:`stop` or the device is gone."""
        while True:
            while (block := self.queue.take()) is not None:
                if block.pcm:
                    samples = np.frombuffer(block.pcm, "<i2").astype(np.float32) / 32768
                    self.level = float(np.sqrt(np.mean(np.square(samples))))
                yield block
            if self._ended:
                return
            self._block_put.clear()
            await self._block_put.wait()

    async def pump(self, face: Face) -> None:
        """Sends all blocks to a stream of this ``rate``, one channel, s16le."""
        async for block in self.blocks():
            if block.lost:
                await face.silence(block.lost)
            else:
                await face.send(block.pcm)
