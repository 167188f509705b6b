"""A stream's frames to several sinks at once: files as they come, live ones at their own time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final

from numpy.typing import ArrayLike

from client.sinks import Sink, open_sink
from client.sinks.schedule import Showing
from client.stream.clock import Clock, LoopClock
from client.stream.events import Frame
from kfusion import wire
from kfusion.errors import KFusionError
from kfusion.landmarks import NEUTRAL

AHEAD: Final = 30  # frames that may wait to be shown before whoever puts them has to


class Bridge:
    """Feeds ``sinks``; within ``async with`` live ones are given frames at 30 a second.

    ``rest``: the face (68, 2) at rest that frames are of; None is the neutral one. ``hop``: of the
    stream. ``skips``: whether frames that pile up are passed over, as those of a microphone should
    be; otherwise :meth:`put` waits for room. After the last frame, or when the stream fails, live
    sinks see the face go to rest; where that is not waited for (Ctrl-C) they see it there at once.
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
        self.showing = Showing(NEUTRAL if rest is None else rest, hop, skips=skips)
        self.clock = clock or LoopClock()
        self._live = [sink for sink in sinks if sink.live]
        self._files = [sink for sink in sinks if not sink.live]
        self._stir, self._room = asyncio.Event(), asyncio.Event()
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
        """To a JSON Lines file, if any, and to :func:`~client.sinks.open_sink` of each URL.

        Raises what that raises, and leaves nothing open then.
        """
        with ExitStack() as undo:
            sinks: list[Sink] = []
            for url in [*([] if file is None else [f"jsonl:{file}"]), *urls]:
                sinks.append(open_sink(url, rest))
                undo.callback(sinks[-1].discard)
            undo.pop_all()
        return cls(sinks, rest, hop=hop, skips=skips)

    def life(self, asked: float | None) -> float:
        """How much life to ask for: whoever looks at a face expects all of it."""
        return float(bool(self._live)) if asked is None else asked

    @property
    def outputs(self) -> tuple[wire.Output, ...]:
        """What the stream has to be asked for."""
        return ("points", *dict.fromkeys(name for sink in self.sinks for name in sink.needs))

    async def put(self, frame: Frame) -> None:
        """The stream's next frame."""
        for sink in self._files:
            sink.send(frame)
        if self._task is None:
            return
        self.showing.put(frame, self.clock.now())
        self._stir.set()
        while len(self.showing.queue) >= AHEAD and not self.showing.skips:
            if self._task.done():
                return
            self._room.clear()
            await self._room.wait()

    async def __aenter__(self) -> Bridge:
        if self._live:
            self._task = asyncio.create_task(self._show())
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
        self.showing.finish()
        self._stir.set()
        try:
            if kind is None or issubclass(kind, KFusionError):
                await task
        finally:
            task.cancel()
            self._cut()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _cut(self) -> None:
        """Leaves no mouth open, whatever ended it, and awaits nothing."""
        frame = self.showing.cut()
        if frame is None:
            return
        for sink in self._live:
            with contextlib.suppress(Exception):  # a sink's own mistake: the task tells of it
                sink.send(frame)

    async def _show(self) -> None:
        try:
            while not self.showing.done:
                await self.clock.wait(self._stir, self.showing.wake_at())
                self._stir.clear()
                while (frame := self.showing.take(self.clock.now())) is not None:
                    for sink in self._live:
                        sink.send(frame)
                self._room.set()
        finally:
            self._room.set()

    def close(self) -> None:
        """Files become whole."""
        for sink in self.sinks:
            sink.close()

    def discard(self) -> None:
        """Leaves no file that did not become whole."""
        for sink in self.sinks:
            sink.discard()

    @property
    def troubles(self) -> list[str]:
        """What to tell the user at the end, a line each."""
        told = [sink.trouble for sink in self.sinks if sink.trouble]
        if self.showing.skipped:
            told.append(f"{self.showing.skipped} frames came too late to be shown in their time")
        return told
