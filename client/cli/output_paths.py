"""The files that the commands write: of several sounds at once, each has its own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kfusion.errors import BadOptions

NAME: Final = "{name}"
"""Stands in an output path for a sound's name without its suffix."""
JSONL: Final = "jsonl:"
"""The prefix of a file among the URLs of ``--to``."""


@dataclass(frozen=True)
class FileJob:
    """A sound file, the files to make of it, and the URLs that its frames go to as well."""

    sound: Path
    out: str | None
    video: Path | None
    record: Path | None
    to: tuple[str, ...] = ()

    @property
    def prints(self) -> bool:
        """Whether frames go to standard output."""
        return self.out == "-" or f"{JSONL}-" in self.to


def plan_jobs(
    sounds: Sequence[Path],
    out: str | None,
    video: Path | None,
    record: Path | None,
    to: Sequence[str] = (),
) -> list[FileJob]:
    """A job for each of ``sounds``. Raises BadOptions where one file would be written twice."""
    for option, pattern in output_files(out, video, record, to):
        if len(sounds) > 1 and NAME not in pattern:
            start, joined, _ = option.partition(JSONL)
            raise BadOptions(
                f"{option}{pattern}: one place for {len(sounds)} sounds; wanted {NAME} in it, "
                f"e.g. {start}'{joined}{_with_name(pattern)}'"
            )
    jobs = [
        FileJob(
            sound,
            None if out is None else _named(out, sound),
            None if video is None else Path(_named(video, sound)),
            None if record is None else Path(_named(record, sound)),
            tuple(_named(url, sound) if url.startswith(JSONL) else url for url in to),
        )
        for sound in sounds
    ]
    writers: dict[Path, Path] = {}
    for job in jobs:
        paths = [path for _, path in output_files(job.out, job.video, job.record, job.to)]
        for resolved, path in check_paths(paths, sounds).items():
            if resolved in writers:
                raise BadOptions(
                    f"{writers[resolved]} and {job.sound} would both be written to {path}; wanted "
                    "sounds of different names, or one after the other"
                )
            writers[resolved] = job.sound
    return jobs


def output_files(
    out: str | None, video: Path | None, record: Path | None, to: Iterable[str]
) -> list[tuple[str, str]]:
    """The files that are written: how each one's option begins, and its path."""
    options = [("--out ", out), ("--video ", video), ("--record ", record)]
    files = [url.removeprefix(JSONL) for url in to if url.startswith(JSONL)]
    return [(option, str(path)) for option, path in options if path is not None] + [
        (f"--to {JSONL}", path) for path in files if path
    ]


def check_paths(outputs: Iterable[str], inputs: Iterable[Path]) -> dict[Path, str]:
    """The output paths by what they resolve to. Raises BadOptions where two are one, or inputs."""
    read = {path.resolve() for path in inputs}
    paths: dict[Path, str] = {}
    for path in outputs:
        resolved = Path(path) if path == "-" else Path(path).resolve()
        if resolved in paths:
            raise BadOptions(f"{path}: would be written by two options; wanted it in one of them")
        if resolved in read:
            raise BadOptions(f"{path}: is what is read; wanted another name to write to")
        paths[resolved] = path
    return paths


def _named(pattern: str | Path, sound: Path) -> str:
    return str(pattern).replace(NAME, sound.stem)


def _with_name(pattern: str) -> str:
    """The same place with ``{name}`` in it."""
    path = Path("frames.jsonl" if pattern == "-" else pattern)
    return str(path.with_name(NAME + path.suffix))
