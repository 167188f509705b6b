"""A stream's frames to several sinks: files when received, live sinks at 30 frames a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final

from numpy.typing import ArrayLike

from client.sinks import Sink, open_sink
from client.sinks.schedule import FrameSchedule
from client.stream.clock import Clock, LoopClock
from client.stream.events import Frame
from kfusion import wire
from kfusion.errors import KFusionError
from kfusion.landmarks import NEUTRAL

MAX_QUEUED: Final = 30  # frames that wait for their time before put() blocks


class Bridge:
    """Feeds ``sinks``; within ``async with`` live ones are given frames at 30 a second.

    ``rest``: the face (68, 2) at rest of the frames; None is the neutral one. ``hop``: of the
    stream. ``skips``: whether frames that pile up are skipped, as those of a microphone should be;
    otherwise :meth:`put` waits for room. After the last frame, or when the stream fails, the face
    eases to rest in live sinks; if the block is left by another exception (Ctrl-C), at once.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        rest: ArrayLike | None = None,
        *,
        hop: int = 3,
        skips: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.sinks = sinks
        self.schedule = FrameSchedule(NEUTRAL if rest is None else rest, hop, skips=skips)
        self.clock = clock or LoopClock()
        self._live = [sink for sink in sinks if sink.live]
        self._files = [sink for sink in sinks if not sink.live]
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        file: str | None,
        urls: Iterable[str],
        rest: ArrayLike | None,
        *,
        hop: int,
        skips: bool,
    ) -> Bridge:
        """A bridge to a JSON Lines file, if any, and to the sink of each URL.

        Raises as :func:`~client.sinks.open_sink` does, and leaves nothing open then.
        """
        with ExitStack() as undo:
            sinks: list[Sink] = []
            for url in [*([] if file is None else [f"jsonl:{file}"]), *urls]:
                sinks.append(open_sink(url, rest))
                undo.callback(sinks[-1].discard)
            undo.pop_all()
        return cls(sinks, rest, hop=hop, skips=skips)

    def life(self, option: float | None) -> float:
        """The stream's ``life``; by default 1 with a live sink, else 0."""
        return float(bool(self._live)) if option is None else option

    @property
    def outputs(self) -> tuple[wire.Output, ...]:
        """The stream's ``outputs``."""
        return ("points", *dict.fromkeys(name for sink in self.sinks for name in sink.needs))

    async def put(self, frame: Frame) -> None:
        """Takes the stream's next frame."""
        for sink in self._files:
            sink.send(frame)
        if self._task is None:
            return
        self.schedule.put(frame, self.clock.now())
        self._wake.set()
        while len(self.schedule.queue) >= MAX_QUEUED and not self.schedule.skips:
            if self._task.done():
                return
            self._room.clear()
            await self._room.wait()

    async def __aenter__(self) -> Bridge:
        if self._live:
            self._task = asyncio.create_task(self._send_live())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is None:
            return
        task, self._task = self._task, None
        self.schedule.finish()
        self._wake.set()
        try:
            if kind is None or issubclass(kind, KFusionError):
                await task
        finally:
            task.cancel()
            self._send_rest()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _send_rest(self) -> None:
        """Gives live sinks the face at rest if they have not had it, and awaits nothing."""
        frame = self.schedule.rest_now()
        if frame is None:
            return
        for sink in self._live:
            with contextlib.suppress(Exception):  # a sink's own error is raised by the task
                sink.send(frame)

    async def _send_live(self) -> None:
        try:
            while not self.schedule.done:
                await self.clock.wait(self._wake, self.schedule.wake_at())
                self._wake.clear()
                while (frame := self.schedule.take(self.clock.now())) is not None:
                    for sink in self._live:
                        sink.send(frame)
                self._room.set()
        finally:
            self._room.set()

    def close(self) -> None:
        """Completes the files and closes all sinks."""
        for sink in self.sinks:
            sink.close()

    def discard(self) -> None:
        """Closes all sinks and leaves no file that is not complete."""
        for sink in self.sinks:
            sink.discard()

    @property
    def troubles(self) -> list[str]:
        """What the user should be told at the end, a line each."""
        lines = [sink.trouble for sink in self.sinks if sink.trouble]
        if self.schedule.skipped:
            lines.append(f"{self.schedule.skipped} frames came too late to be shown in their time")
        return lines
