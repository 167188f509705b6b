"""The command ``file``: sound files to JSON Lines and preview videos, one or many."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from client.cli.file_stream import Link, faces_at, stream_file
from client.cli.output_paths import Job
from client.cli.progress import Progress
from client.cli.status import link_line
from client.sinks.bridge import Bridge
from client.stream.events import Frame, Resumed
from kfusion.audio import read_audio
from kfusion.errors import AudioFileError, Busy, ConnectionFailed, KFusionError, Unauthorized
from kfusion.stream import frame_count

if TYPE_CHECKING:
    from client.video.render import Film

BUSY_TRIES: Final = 20
"""How often a server that is busy is asked again, where there are several files."""

Failure = KFusionError | OSError


def run(a: argparse.Namespace) -> int:
    """The command ``file``; its exit code.

    Raises a :class:`~kfusion.errors.KFusionError` that says why not; of several files only what
    is wrong with all.
    """
    jobs: Sequence[Job] = a.jobs
    drawer = None
    if any(job.video is not None for job in jobs):
        from client.video import mp4 as video
        from client.video.look import drawer_of

        video.check()
        drawer = drawer_of(a)
    with ExitStack() as undo:
        progress = Progress(jobs)
        undo.callback(progress.close)
        film = None
        if drawer is not None:
            from client.video.render import Film

            film = Film(drawer)
            undo.callback(film.close)
        batch = Batch(a, jobs, progress, film)
        undo.callback(batch.discard)
        batch.run()
    return batch.code()


@dataclass
class Made:
    """A file that was streamed: its frames' sinks, and its video once that is drawn."""

    job: Job
    bridge: Bridge
    drawn: Future[None] | None = None


@dataclass
class Batch:
    """All files in order. While one is drawn the next is streamed; no more wait than that."""

    a: argparse.Namespace
    jobs: Sequence[Job]
    progress: Progress
    film: Film | None
    failed: dict[Job, Failure] = field(default_factory=dict)
    untried: Sequence[Job] = ()
    made: deque[Made] = field(default_factory=deque)

    def run(self) -> None:
        for k, job in enumerate(self.jobs):
            try:
                self._patiently(job)
            except (KFusionError, OSError) as error:
                self._fail(job, error)
                if isinstance(error, ConnectionFailed | Unauthorized | Busy):
                    self.untried = self.jobs[k + 1 :]  # so it would be with them
                    break
            while len(self.made) > 1:
                self._settle()
        while self.made:
            self._settle()

    def _patiently(self, job: Job) -> None:
        for _ in range(BUSY_TRIES if len(self.jobs) > 1 else 0):
            try:
                return self._stream(job)
            except Busy as error:
                self.progress.note(f"the server is busy: again in {error.retry_after_s} s")
                time.sleep(error.retry_after_s)
        return self._stream(job)

    def _stream(self, job: Job) -> None:
        """Streams a file, and hands on what is to be drawn of it."""
        a = argparse.Namespace(**vars(self.a) | {"record": job.record})
        samples, rate = read_audio(job.sound)
        total = frame_count(len(samples), rate)
        if not total and job.video is not None:
            raise AudioFileError(f"{job.sound}: holds no sound; wanted some for a video")
        self.progress.begin(job, total)
        frames: list[Frame] = []
        with ExitStack() as undo:
            bridge = Bridge.open(job.out, job.to, a.face, hop=a.hop, skips=False)
            undo.callback(bridge.discard)

            async def take(frame: Frame) -> None:
                await bridge.put(frame)
                if job.video is not None:
                    frames.append(frame)
                self.progress.step(job)

            ended = asyncio.run(stream_file(a, samples, rate, bridge, take, self._link))
            if ended is not None and ended.dropped:
                self._tell(job, f"{ended.dropped} frames were dropped")
            made = Made(job, bridge)
            if self.film is not None and job.video is not None:
                made.drawn = self.film.draw(
                    job.video,
                    faces_at(frames, total),
                    samples,
                    rate,
                    lambda: self.progress.step(job),
                )
            self.made.append(made)
            undo.pop_all()

    def _settle(self) -> None:
        """Waits until the first that was streamed is drawn; its files become whole."""
        made = self.made[0]
        try:
            if made.drawn is not None:
                made.drawn.result()
            made.bridge.close()
            self.made.popleft()
        except (KFusionError, OSError) as error:
            self.made.popleft()
            made.bridge.discard()
            self._fail(made.job, error)
        for line in made.bridge.troubles:
            self._tell(made.job, line)

    def _fail(self, job: Job, error: Failure) -> None:
        if len(self.jobs) == 1:
            raise error
        self.progress.give_up(job)
        self.failed[job] = error
        named = str(error).startswith(str(job.sound))
        self.progress.tell(str(error) if named else f"{job.sound}: {error}")

    def _tell(self, job: Job, line: str) -> None:
        self.progress.tell(line if len(self.jobs) == 1 else f"{job.sound}: {line}")

    def _link(self, event: Link) -> None:
        if not self.progress.bar.disable:
            self.progress.note("" if isinstance(event, Resumed) else link_line(event))
        elif isinstance(event, Resumed) or event.attempt == 1:
            self.progress.tell(link_line(event))

    def discard(self) -> None:
        """Leaves no file that did not become whole."""
        if self.film is not None:
            self.film.close()
        for made in self.made:
            made.bridge.discard()

    def code(self) -> int:
        """The exit code; says which files are not there."""
        if not self.failed:
            return 0
        lacking = [job for job in self.jobs if job in self.failed or job in self.untried]
        names = ", ".join(str(job.sound) for job in lacking)
        tried = "failed" if not self.untried else "failed or were not tried"
        print(
            f"kfusion-client: {len(lacking)} of {len(self.jobs)} sounds {tried}: {names}",
            file=sys.stderr,
        )
        errors = self.failed.values()
        return (
            1
            if any(
                getattr(e, "fault", "") == "server" or isinstance(e, Unauthorized) for e in errors
            )
            else 2
        )
