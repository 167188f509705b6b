"""One bar for all files: frames that are streamed, and drawn where there is a video."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from client.cli.output_paths import Job
from kfusion.config import FPS
from kfusion.stream import frame_count

LONG: Final = 10 * FPS
"""Frames: what is longer shows its progress."""


def frames_told(sound: Path) -> int:
    """How many frames a sound file says that it is long; 0 where only reading it would tell."""
    import soundfile

    try:
        told = soundfile.info(sound)
    except (soundfile.LibsndfileError, OSError):
        return 0
    return frame_count(told.frames, told.samplerate)


class Progress:
    """A tqdm bar on a terminal's standard error, elsewhere nothing. Any thread may step it."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        from tqdm import tqdm

        self._jobs = jobs
        self._left = {job.sound: frames_told(job.sound) * _steps(job) for job in jobs}
        total = sum(self._left.values())
        shown = total > LONG and sys.stderr.isatty() and not any(job.prints for job in jobs)
        self._turn = threading.Lock()
        self.bar: Any = tqdm(
            total=total, unit="frame", file=sys.stderr, disable=not shown, leave=False
        )

    def begin(self, job: Job, frames: int) -> None:
        """A sound was read, of so many frames."""
        with self._turn:
            self._count(job, frames * _steps(job))
            place = f"{self._jobs.index(job) + 1}/{len(self._jobs)} " if len(self._jobs) > 1 else ""
            self.bar.set_description_str(f"{place}{job.sound.name}")

    def _count(self, job: Job, left: int) -> None:
        if self.bar.total is not None:
            self.bar.total += left - self._left[job.sound]
        self._left[job.sound] = left

    def step(self, job: Job) -> None:
        with self._turn:
            self._left[job.sound] -= 1
            self.bar.update(1)

    def give_up(self, job: Job) -> None:
        """Nothing more will come of it."""
        with self._turn:
            self._count(job, 0)

    def note(self, line: str) -> None:
        """What happens meanwhile: beside the bar, or where there is none, nothing."""
        if not self.bar.disable:
            self.bar.set_postfix_str(line)

    def tell(self, line: str) -> None:
        """A line for the user, that stays."""
        with self._turn:
            self.bar.write(f"kfusion-client: {line}", file=sys.stderr)

    def close(self) -> None:
        self.bar.close()


def _steps(job: Job) -> int:
    return 1 if job.video is None else 2
