"""Sources made into clips, in order, by one process or several that each own a tracker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.errors import DataError
from training.clips import Clip, Samples, read_track
from training.layouts import Source
from training.track import Tracker, TrackerError, track_video
from training.video import first_time, has_sound, sound

LEAST_SOUND: Final = 0.5  # of a clip's pictures
MakeTracker = Callable[[], Tracker]


@dataclass(frozen=True)
class Made:
    """A clip that can be written, with what its source had."""

    clip: Clip
    fps: float
    tracked: float


def make(source: Source, tracker: Tracker | None) -> Made | str:
    """Reads and tracks one clip; the reason where it cannot be used."""
    try:
        return _from_track(source) if tracker is None else _from_video(source, tracker)
    except DataError as error:
        return str(error).removeprefix(f"{source.video}: ")


def _from_track(source: Source) -> Made:
    clip = read_track(source.video)
    if not len(clip.audio):
        raise DataError("its sound is empty")
    with np.load(source.video, allow_pickle=False) as file:
        fps = float(file["fps"])
        tracked = float(file["tracked"]) if "tracked" in file else 1.0
    return Made(_labelled(clip, source), fps, tracked)


def _from_video(source: Source, tracker: Tracker) -> Made:
    audio = _sound(source)  # first: it is quick to read, and some clips have none
    track = track_video(source.video, tracker)
    seconds = len(track.points) / FPS
    audio = audio[: round(seconds * SAMPLE_RATE)]
    if len(audio) < LEAST_SOUND * seconds * SAMPLE_RATE:
        raise DataError(f"its sound ends at {len(audio) / SAMPLE_RATE:.1f} s of {seconds:.1f} s")
    return Made(
        _labelled(Clip("", audio, track.points, rest=track.rest), source), track.fps, track.tracked
    )


def _sound(source: Source) -> Samples:
    """The video's own sound, at the time of its first picture; else that apart, which starts with
    the video."""
    if has_sound(source.video):
        audio = sound(source.video, first_time(source.video))
    elif source.audio is not None:
        audio = sound(source.audio)
    else:
        raise DataError("it has no sound, and there is none apart")
    if not np.any(audio):
        raise DataError("its sound is all silence")
    return audio


def _labelled(clip: Clip, source: Source) -> Clip:
    return replace(
        clip,
        name=source.name,
        speaker=source.speaker,
        emotion=source.emotion,
        level=source.level,
    )


# A worker process owns one tracker, made once.
_tracker: Tracker | None = None


def _start_worker() -> None:
    """Ctrl-C is the parent's to tell of; and a worker whose parent was killed ends too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _load_worker(make_tracker: MakeTracker) -> None:
    global _tracker  # noqa: PLW0603 - the process is the tracker's owner
    if _tracker is None:
        _tracker = make_tracker()


def _work(source: Source, make_tracker: MakeTracker | None) -> Made | str:
    if make_tracker is not None:
        _load_worker(make_tracker)
    return make(source, _tracker)


def results(
    sources: Sequence[Source], make_tracker: MakeTracker | None, processes: int
) -> Generator[Made | str, None, None]:
    """Each clip's result, in the order of the list whatever the number of processes.

    At most two clips a process are under way or waiting to be taken. ``make_tracker`` is a
    function that can be pickled; None for ready-made tracks.
    """
    if not sources:
        return
    if processes == 1:
        tracker = make_tracker() if make_tracker else None
        yield from (make(source, tracker) for source in sources)
        return
    others = set(multiprocessing.active_children())
    # Spawned, because a forked process cannot use CUDA.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        if make_tracker is not None:
            # One alone first, so that weights are fetched once and what fails is told once.
            pool.submit(_load_worker, make_tracker).result()
        waiting: deque[Future[Made | str]] = deque()
        for source in sources:
            waiting.append(pool.submit(_work, source, make_tracker))
            if len(waiting) == 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    except BrokenProcessPool:
        raise TrackerError(
            "a process was killed or crashed, perhaps for want of memory; what is written is "
            "whole, and the same command goes on from it; wanted fewer --processes"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()  # stopped half-way: nobody wants its clip
