"""The command ``file``: sound files to JSON Lines and preview videos, one or many."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from client.cli.options import connect_with_options
from client.cli.output_paths import FileJob
from client.cli.progress import Progress
from client.cli.status import connection_line, exit_code, print_note
from client.face_files import read_photo, read_portrait
from client.sdk import Face
from client.sinks.bridge import Bridge
from client.stream.events import Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.audio import Samples, read_audio
from kfusion.errors import AudioFileError, Busy, ConnectionFailed, KFusionError, Unauthorized
from kfusion.landmarks import COUNT
from kfusion.stream import frame_count

if TYPE_CHECKING:
    from client.video.mp4 import Drawer

BUSY_RETRIES: Final = 20  # of each file, where there are several


def run(a: argparse.Namespace) -> int:
    """Runs the command and returns its exit code. Raises KFusionError for a single file."""
    drawer = None if all(job.video is None for job in a.jobs) else open_drawer(a)
    with closing(Progress(a.jobs)) as progress:
        batch = FileBatch(a, a.jobs, progress, drawer)
        batch.run()
    return batch.exit_code()


def open_drawer(a: argparse.Namespace) -> Drawer:
    """What draws the video. Of a photo or portrait, ``a.face`` becomes the face to animate."""
    from client.video import mp4

    mp4.require_packages()
    if a.photo is None and a.portrait is None:
        from client.video.drawn_face import DrawnFace

        return DrawnFace(a.face)
    from client.video.photo_face import PhotoFace

    picture = read_photo(a.photo, a.identity) if a.photo else read_portrait(a.portrait)
    drawer = PhotoFace(*picture)
    a.face = drawer.identity
    return drawer


@dataclass
class FileBatch:
    """Streams all files in order, and draws the video of each before the next."""

    a: argparse.Namespace
    jobs: Sequence[FileJob]
    progress: Progress
    drawer: Drawer | None
    failures: dict[FileJob, KFusionError | OSError] = field(default_factory=dict)
    untried: Sequence[FileJob] = ()

    def run(self) -> None:
        for k, job in enumerate(self.jobs):
            try:
                self._retry_while_busy(job)
            except (KFusionError, OSError) as error:
                self._fail(job, error)
                if isinstance(error, ConnectionFailed | Unauthorized | Busy):
                    self.untried = self.jobs[k + 1 :]  # they would fail in the same way
                    return

    def _retry_while_busy(self, job: FileJob) -> None:
        for _ in range(BUSY_RETRIES if len(self.jobs) > 1 else 0):
            try:
                return self._animate(job)
            except Busy as error:
                self.progress.set_status(f"the server is busy: again in {error.retry_after_s} s")
                time.sleep(error.retry_after_s)
        return self._animate(job)

    def _animate(self, job: FileJob) -> None:
        """Streams a file and draws its video; leaves all of its files, or none."""
        samples, rate = read_audio(job.sound)
        total = frame_count(len(samples), rate)
        if not total and job.video is not None:
            raise AudioFileError(f"{job.sound}: holds no sound; wanted some for a video")
        self.progress.begin(job, total)
        frames: list[Frame] = []
        bridge = Bridge.open(job.out, job.to, self.a.face, hop=self.a.hop, skips=False)
        with ExitStack() as undo:
            undo.callback(bridge.discard)

            async def take(frame: Frame) -> None:
                await bridge.put(frame)
                if job.video is not None:
                    frames.append(frame)
                self.progress.step(job)

            end = asyncio.run(self._stream(job, samples, rate, bridge, take))
            if end is not None and end.dropped:
                self._note(job, f"{end.dropped} frames were dropped")
            if self.drawer is not None and job.video is not None:
                from client.video.mp4 import write_video

                faces = faces_at(frames, total)
                step = self.progress.step
                write_video(job.video, faces, samples, rate, self.drawer, lambda: step(job))
            bridge.close()
            undo.pop_all()
        for line in bridge.troubles:
            self._note(job, line)

    async def _stream(
        self,
        job: FileJob,
        samples: Samples,
        rate: int,
        bridge: Bridge,
        on_frame: Callable[[Frame], Awaitable[object]],
    ) -> wire.End | None:
        stream = connect_with_options(
            self.a, bridge, rate=rate, format="f32le", mode="file", record=job.record
        )
        async with bridge, stream as face:
            return await animate(face, samples, on_frame, self._on_connection)

    def _on_connection(self, event: Reconnecting | Resumed) -> None:
        if not self.progress.bar.disable:
            text = "" if isinstance(event, Resumed) else connection_line(event)
            self.progress.set_status(text)
        elif isinstance(event, Resumed) or event.attempt == 1:
            self.progress.print_note(connection_line(event))

    def _fail(self, job: FileJob, error: KFusionError | OSError) -> None:
        if len(self.jobs) == 1:
            raise error
        self.progress.abandon(job)
        self.failures[job] = error
        named = str(error).startswith(str(job.sound))
        self.progress.print_note(str(error) if named else f"{job.sound}: {error}")

    def _note(self, job: FileJob, text: str) -> None:
        self.progress.print_note(text if len(self.jobs) == 1 else f"{job.sound}: {text}")

    def exit_code(self) -> int:
        """The exit code; names the files that are missing."""
        if not self.failures:
            return 0
        missing = [job for job in self.jobs if job in self.failures or job in self.untried]
        names = ", ".join(str(job.sound) for job in missing)
        verb = "failed" if not self.untried else "failed or were not tried"
        print_note(f"{len(missing)} of {len(self.jobs)} sounds {verb}: {names}")
        return min(exit_code(error) for error in self.failures.values())


async def animate(
    face: Face,
    samples: Samples,
    on_frame: Callable[[Frame], Awaitable[object]],
    on_connection: Callable[[Reconnecting | Resumed], object],
) -> wire.End | None:
    """Sends all of ``samples`` while it reads; returns the server's ``end``."""

    async def send() -> None:
        await face.send(samples)
        await face.end()

    sending = asyncio.create_task(send())
    end: wire.End | None = None
    try:
        async for event in face.events():
            if isinstance(event, Frame):
                await on_frame(event)
            elif isinstance(event, wire.End):
                end = event
            elif isinstance(event, (Reconnecting, Resumed)):
                on_connection(event)
            elif isinstance(event, wire.Error):
                raise KFusionError(f"the server refused: {event.message} ({event.code})")
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return end


def faces_at(frames: Iterable[Frame], count: int) -> NDArray[np.float32]:
    """(count, 68, 2): the face at every frame; a dropped frame repeats the one before it."""
    faces = np.zeros((count, COUNT, 2), np.float32)
    received = np.full(count, -1)
    for frame in frames:
        if frame.n < count:
            faces[frame.n], received[frame.n] = frame.points, frame.n
    if not (received >= 0).any():
        return faces[:0]
    last = np.maximum.accumulate(received)
    last[last < 0] = received[received >= 0][0]
    return faces[last]
