"""Reads and tracks clips in order, in this process or in several that each own a tracker."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.faces import FaceFinderError
from kfusion.system import interrupts_blocked
from training.corpus.clips import Clip, Samples, read_track, sound_beside
from training.corpus.files import check_fetched
from training.corpus.layouts import ClipSource
from training.corpus.offset import AudioOffset, audio_offset
from training.corpus.track import Tracker, track_video
from training.corpus.video import first_time, has_sound, sound

LEAST_SOUND: Final = 0.5  # of a clip's pictures
MakeTracker = Callable[[], Tracker]
Pipe = Any  # multiprocessing's Connection, which has another class on Windows


@dataclass(frozen=True)
class PreparedClip:
    """A clip that can be written; ``fps`` and ``tracked`` as of its source; ``offset`` is None
    where it cannot be found."""

    clip: Clip
    fps: float
    tracked: float
    offset: AudioOffset | None = None


def prepare_clip(source: ClipSource, tracker: Tracker | None) -> PreparedClip | str:
    """Reads and tracks one clip; the reason where it cannot be used."""
    try:
        check_fetched(source.video)
        prepared = _from_track(source) if tracker is None else _from_video(source, tracker)
    except DataError as error:
        return str(error).removeprefix(f"{source.video}: ")
    clip = replace(
        prepared.clip,
        name=source.name,
        speaker=source.speaker,
        emotion=source.emotion,
        level=source.level,
    )
    return replace(prepared, clip=clip, offset=audio_offset(clip.audio, clip.points))


def _from_track(source: ClipSource) -> PreparedClip:
    check_fetched(sound_beside(source.video))
    clip = read_track(source.video)
    if not len(clip.audio):
        raise DataError("its sound is empty")
    with np.load(source.video, allow_pickle=False) as file:
        fps = float(file["fps"])
        tracked = float(file["tracked"]) if "tracked" in file else 1.0
    return PreparedClip(clip, fps, tracked)


def _from_video(source: ClipSource, tracker: Tracker) -> PreparedClip:
    audio = _sound(source)  # first: it is quick to read, and some clips have none
    track = track_video(source.video, tracker)
    seconds = len(track.points) / FPS
    audio = audio[: round(seconds * SAMPLE_RATE)]
    if len(audio) < LEAST_SOUND * seconds * SAMPLE_RATE:
        raise DataError(f"its sound ends at {len(audio) / SAMPLE_RATE:.1f} s of {seconds:.1f} s")
    return PreparedClip(Clip("", audio, track.points, rest=track.rest), track.fps, track.tracked)


def _sound(source: ClipSource) -> Samples:
    """The video's own sound from its first picture on, else that of its sound file."""
    if has_sound(source.video):
        audio = sound(source.video, first_time(source.video))
    elif source.audio is not None:
        check_fetched(source.audio)
        audio = sound(source.audio)
    else:
        raise DataError("it has no sound, and there is none apart")
    if not np.any(audio):
        raise DataError("its sound is all silence")
    return audio


class WorkerProcess:
    """A process that owns one tracker and prepares one clip at a time.

    Each has a pipe of its own: where the process is killed while it sends a clip, the parent reads
    the end of the pipe. ``ProcessPoolExecutor`` and loky share one queue between processes, in
    which the parent would wait for the rest for ever.
    """

    def __init__(self, make_tracker: MakeTracker | None) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        self.pipe, child_pipe = context.Pipe()
        self.process = context.Process(target=_run, args=(child_pipe, make_tracker), daemon=True)
        with interrupts_blocked():
            self.process.start()
        child_pipe.close()

    def prepare(self, source: ClipSource) -> PreparedClip | str:
        """:func:`prepare_clip` in the process. Raises what failed there."""
        with suppress(OSError):  # it has ended, as receive() reports
            self.pipe.send(source)
        while (result := self.receive()) is None:
            pass
        return result

    def receive(self) -> PreparedClip | str | None:
        """A clip's result; None once the tracker is loaded. Raises what failed there."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            raise FaceFinderError(
                "a process was killed or crashed, perhaps for want of memory; what is written is "
                "whole, and the same command goes on from it; wanted fewer --processes"
            ) from None
        if isinstance(message, Exception):
            raise message
        return message

    def close(self) -> None:
        self.process.terminate()
        self.process.join()
        self.process.close()
        self.pipe.close()


def _run(pipe: Pipe, make_tracker: MakeTracker | None) -> None:
    """The process: ignores Ctrl-C, which its parent handles, and ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        tracker = make_tracker() if make_tracker else None
        pipe.send(None)
        while True:
            pipe.send(prepare_clip(pipe.recv(), tracker))
    except (EOFError, ConnectionError):
        pass
    except Exception as error:
        error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
        pipe.send(error)


def prepared_clips(
    sources: Sequence[ClipSource], make_tracker: MakeTracker | None, processes: int
) -> Generator[PreparedClip | str, None, None]:
    """Each clip's result, in the order of the list whatever the number of processes.

    At most two clips a process are under way or waiting to be taken. ``make_tracker`` is a
    function that can be pickled; None for ready-made tracks.
    """
    if not sources:
        return
    if processes == 1:
        tracker = make_tracker() if make_tracker else None
        yield from (prepare_clip(source, tracker) for source in sources)
        return
    workers: list[WorkerProcess] = []
    idle: SimpleQueue[WorkerProcess] = SimpleQueue()

    def prepare(source: ClipSource) -> PreparedClip | str:
        worker = idle.get()
        try:
            return worker.prepare(source)
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(processes)  # each waits for one process
    try:
        workers.append(WorkerProcess(make_tracker))
        workers[0].receive()  # alone, so that weights are fetched once and an error is raised once
        while len(workers) < processes:
            workers.append(WorkerProcess(make_tracker))
        for worker in workers:
            idle.put(worker)
        pending: deque[Future[PreparedClip | str]] = deque()
        for source in sources:
            pending.append(threads.submit(prepare, source))
            if len(pending) == 2 * processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for worker in workers:
            worker.process.terminate()  # its thread reads the end of the pipe
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()
