"""Sources made into clips, in order, by one process or several that each own a tracker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import Any, Final

import numpy as np

from kfusion.config import FPS, SAMPLE_RATE
from kfusion.errors import DataError
from kfusion.faces import FaceFinderError
from kfusion.system import interrupts_blocked
from training.corpus.clips import Clip, Samples, read_track
from training.corpus.layouts import Source
from training.corpus.track import Tracker, track_video
from training.corpus.video import first_time, has_sound, sound

LEAST_SOUND: Final = 0.5  # of a clip's pictures
MakeTracker = Callable[[], Tracker]
Pipe = Any  # multiprocessing's Connection, which has another class on Windows


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


class _Worker:
    """A process that owns one tracker and makes one clip at a time.

    Its pipe is its own: where it is killed half-way through a clip's samples, the parent reads an
    end. In a queue that processes share, as an executor's is, the parent would wait for the rest.
    """

    def __init__(self, make_tracker: MakeTracker | None) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        self.pipe, its = context.Pipe()
        self.process = context.Process(target=_serve, args=(its, make_tracker), daemon=True)
        with interrupts_blocked():
            self.process.start()
        its.close()

    def give(self, source: Source) -> None:
        with suppress(OSError):  # it has ended, as take() will tell
            self.pipe.send(source)

    def take(self) -> Made | str | None:
        """What it made; None from one whose tracker is loaded. Raises what failed there."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            raise FaceFinderError(
                "a process was killed or crashed, perhaps for want of memory; what is written is "
                "whole, and the same command goes on from it; wanted fewer --processes"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self) -> None:
        self.process.terminate()  # stopped half-way: nobody wants its clip
        self.process.join()
        self.process.close()
        self.pipe.close()


def _serve(pipe: Pipe, make_tracker: MakeTracker | None) -> None:
    """A worker's life: Ctrl-C is its parent's to tell of, and with its parent it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be held
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        tracker = make_tracker() if make_tracker else None
        pipe.send(None)
        while True:
            pipe.send(make(pipe.recv(), tracker))
    except (EOFError, ConnectionError):
        pass
    except Exception as error:
        error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
        pipe.send(error)


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
    workers: list[_Worker] = []
    try:
        workers.append(_Worker(make_tracker))
        # One alone first, so that weights are fetched once and what fails is told once.
        workers[0].take()
        while len(workers) < processes:
            workers.append(_Worker(make_tracker))  # each is known once it runs, and is ended
        idle = workers[:1]
        busy: dict[Pipe, tuple[_Worker, int]] = {w.pipe: (w, -1) for w in workers[1:]}
        made: dict[int, Made | str] = {}
        given = 0
        for wanted in range(len(sources)):
            while wanted not in made:
                while idle and given < min(len(sources), wanted + 2 * processes):
                    worker = idle.pop()
                    worker.give(sources[given])
                    busy[worker.pipe] = worker, given
                    given += 1
                for pipe in connection.wait(list(busy)):
                    worker, which = busy.pop(pipe)
                    result = worker.take()
                    if result is not None:
                        made[which] = result
                    idle.append(worker)
            yield made.pop(wanted)
    finally:
        for worker in workers:
            worker.end()
