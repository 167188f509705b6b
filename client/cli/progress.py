"""One progress bar for all files: frames that were streamed, and drawn where there is a video."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from client.cli.output_paths import FileJob
from kfusion.config import FPS
from kfusion.errors import MissingExtra
from kfusion.stream import frame_count

MIN_FRAMES: Final = 10 * FPS  # shorter work shows no bar


def frames_by_header(sound: Path) -> int:
    """The length of a sound file in frames, by its header; 0 if the header does not tell."""
    import soundfile

    try:
        info = soundfile.info(sound)
    except (soundfile.LibsndfileError, OSError):
        return 0
    return frame_count(info.frames, info.samplerate)


class Progress:
    """A tqdm bar on standard error if that is a terminal, else nothing.

    Raises :class:`~kfusion.errors.MissingExtra` without tqdm.
    """

    def __init__(self, jobs: Sequence[FileJob]) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            raise MissingExtra("tqdm is not installed; pip install 'kfusion[client]'") from None

        self._jobs = jobs
        self._left = {job.sound: frames_by_header(job.sound) * _steps(job) for job in jobs}
        total = sum(self._left.values())
        shown = total > MIN_FRAMES and sys.stderr.isatty() and not any(job.prints for job in jobs)
        self.bar: Any = tqdm(
            total=total, unit="frame", file=sys.stderr, disable=not shown, leave=False
        )

    def begin(self, job: FileJob, frames: int) -> None:
        """A sound of so many frames was read."""
        self._set_left(job, frames * _steps(job))
        place = f"{self._jobs.index(job) + 1}/{len(self._jobs)} " if len(self._jobs) > 1 else ""
        self.bar.set_description_str(f"{place}{job.sound.name}")

    def _set_left(self, job: FileJob, left: int) -> None:
        if self.bar.total is not None:
            self.bar.total += left - self._left[job.sound]
        self._left[job.sound] = left

    def step(self, job: FileJob) -> None:
        """A frame was streamed or drawn."""
        self._left[job.sound] -= 1
        self.bar.update(1)

    def abandon(self, job: FileJob) -> None:
        """The rest of the job is not done."""
        self._set_left(job, 0)

    def set_status(self, text: str) -> None:
        """Text beside the bar, if there is one."""
        if not self.bar.disable:
            self.bar.set_postfix_str(text)

    def print_note(self, text: str) -> None:
        """A line above the bar, that stays."""
        self.bar.write(f"kfusion-client: {text}", file=sys.stderr)

    def close(self) -> None:
        self.bar.close()


def _steps(job: FileJob) -> int:
    return 1 if job.video is None else 2
