"""Which files the commands write: of several sounds at once, each its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kfusion.errors import BadOptions

NAME: Final = "{name}"
"""Stands in an output's path for a sound's name without its ending."""
JSONL: Final = "jsonl:"
"""What a file among the URLs of ``--to`` begins with."""


@dataclass(frozen=True)
class Job:
    """A sound file, the files to make of it, and the URLs that its frames go to as well."""

    sound: Path
    out: str | None
    video: Path | None
    record: Path | None
    to: tuple[str, ...] = ()

    @property
    def prints(self) -> bool:
        """Whether frames go to the standard output."""
        return self.out == "-" or f"{JSONL}-" in self.to


def jobs_of(
    sounds: Sequence[Path],
    out: str | None,
    video: Path | None,
    record: Path | None,
    to: Sequence[str] = (),
) -> list[Job]:
    """One for each of ``sounds``.

    Raises :class:`~kfusion.errors.BadOptions` where two would write to one file, or one over a
    sound.
    """
    for option, pattern in written(out, video, record, to):
        if len(sounds) > 1 and NAME not in pattern:
            start, joined, _ = option.partition(JSONL)
            raise BadOptions(
                f"{option}{pattern}: one place for {len(sounds)} sounds; wanted {NAME} in it, "
                f"e.g. {start}'{joined}{_example(pattern)}'"
            )
    jobs = [
        Job(
            sound,
            None if out is None else _named(out, sound),
            None if video is None else Path(_named(video, sound)),
            None if record is None else Path(_named(record, sound)),
            tuple(_named(url, sound) if url.startswith(JSONL) else url for url in to),
        )
        for sound in sounds
    ]
    taken: dict[Path, Path] = {}
    for job in jobs:
        paths = [path for _, path in written(job.out, job.video, job.record, job.to)]
        for place, path in check_places(paths, sounds).items():
            if place in taken:
                raise BadOptions(
                    f"{taken[place]} and {job.sound} would both be written to {path}; wanted "
                    "sounds of different names, or one after the other"
                )
            taken[place] = job.sound
    return jobs


def written(
    out: str | None, video: Path | None, record: Path | None, to: Iterable[str]
) -> list[tuple[str, str]]:
    """The files that are written: how each one's option begins, and its path."""
    given = [("--out ", out), ("--video ", video), ("--record ", record)]
    files = [url.removeprefix(JSONL) for url in to if url.startswith(JSONL)]
    return [(option, str(path)) for option, path in given if path is not None] + [
        (f"--to {JSONL}", path) for path in files if path
    ]


def check_places(paths: Iterable[str], read: Iterable[Path]) -> dict[Path, str]:
    """Where files of ``paths`` are, each once, ``-`` being a place too.

    Raises :class:`~kfusion.errors.BadOptions` where two are one file, or one of those ``read``.
    """
    kept = {path.resolve() for path in read}
    places: dict[Path, str] = {}
    for path in paths:
        place = Path(path) if path == "-" else Path(path).resolve()
        if place in places:
            raise BadOptions(f"{path}: would be written by two options; wanted it in one of them")
        if place in kept:
            raise BadOptions(f"{path}: is what is read; wanted another name to write to")
        places[place] = path
    return places


def _named(pattern: str | Path, sound: Path) -> str:
    return str(pattern).replace(NAME, sound.stem)


def _example(pattern: str) -> str:
    """The same place with the name in it."""
    path = Path("frames.jsonl" if pattern == "-" else pattern)
    return str(path.with_name(NAME + path.suffix))
