"""Where a corpus keeps its clips and what its file names say; nothing is opened here.

    mead      M003/video/front/happy/level_3/001.mp4, sound in M003/audio/happy/level_3/001.m4a
    crema-d   VideoFlash/1001_DFA_ANG_XX.flv, sound also in AudioWAV/1001_DFA_ANG_XX.wav
    ravdess   Actor_01/01-01-03-02-01-01-01.mp4 (speech with video; not songs)
    grid      s1/bbaf2n.mpg, s1/video/mpg_6000/bbaf2n.mpg
    tracks    NAME.npz beside NAME.flac, .ogg or .wav (see training/corpus/clips.py)
    plain     any video; sound beside it under the same name where it has none

In ``plain`` and ``tracks`` the speaker is the folder directly under the source, or the source's
own name where the clips lie flat; a pattern over the clips' names can say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from kfusion.emotion import CREMA_D, EMOTIONS, RAVDESS
from kfusion.errors import DataError
from training.corpus.clips import SOUNDS

VIDEOS: Final = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts",
)  # fmt: skip
APART: Final = (*SOUNDS, ".m4a", ".aac", ".mp3")
LEVELS: Final = {"LO": 1, "MD": 2, "HI": 3}  # CREMA-D; XX and X: not said
GROUPS: Final = ("speaker", "emotion", "level")


@dataclass(frozen=True)
class Source:
    """A clip to be prepared. ``video`` is the .npz of a ready-made track; ``audio`` is a sound
    file apart, for a video without its own."""

    name: str
    video: Path
    audio: Path | None
    speaker: str
    emotion: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Found:
    """``foreign``: (name, reason) of files that the layout has no place for. ``unused``: how many
    it has a place for but no use (views from the side, songs, videos without sound)."""

    layout: str
    clips: list[Source]
    foreign: list[tuple[str, str]]
    unused: int


def _name(path: PurePosixPath) -> str:
    return str(path.with_suffix(""))


def _beside(video: Path) -> Path | None:
    return next((p for s in APART if (p := video.with_suffix(s)).exists()), None)


def _mead(root: Path, path: PurePosixPath) -> Source | bool:
    """``False``: not of this layout; ``True``: of it, but not used."""
    if len(path.parts) < 6 or path.parts[-5] != "video":
        return False
    *above, speaker, _, view, emotion, level, file = path.parts
    found = re.fullmatch(r"level_(\d)", level)
    if not re.fullmatch(r"[MW]\d{3}", speaker) or not found or emotion not in EMOTIONS:
        return False
    if view != "front":
        return True
    apart = root.joinpath(*above, speaker, "audio", emotion, level, file)
    name = "/".join((speaker, view, emotion, level, path.stem))
    return Source(name, root / path, _beside(apart), speaker, emotion, int(found[1]))


def _crema_d(root: Path, path: PurePosixPath) -> Source | bool:
    found = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX|X)", path.stem)
    if not found or found[2] not in CREMA_D:
        return False
    video = root / path
    audio = _beside(video.parent.parent / "AudioWAV" / video.name)
    return Source(path.stem, video, audio, found[1], CREMA_D[found[2]], LEVELS.get(found[3]))


def _ravdess(root: Path, path: PurePosixPath) -> Source | bool:
    found = re.fullmatch(r"(0[123])-(0[12])-(0[1-8])-(0[12])-\d\d-\d\d-(\d\d)", path.stem)
    if not found:
        return False
    if found[1] != "01" or found[2] != "01":  # pictures alone, or song
        return True
    speaker = f"Actor_{found[5]}"
    name = f"{speaker}/{path.stem}"
    return Source(name, root / path, None, speaker, RAVDESS[int(found[3])], int(found[4]))


def _grid(root: Path, path: PurePosixPath) -> Source | bool:
    folders = [p for p in (root.resolve().name, *path.parts[:-1]) if re.fullmatch(r"s\d{1,2}", p)]
    if not folders or not re.fullmatch(r"[blps][bgrw][abiw][a-z][0-9z][anps]", path.stem):
        return False
    return Source(f"{folders[-1]}/{path.stem}", root / path, _beside(root / path), folders[-1])


_PARSERS: Final[dict[str, Callable[[Path, PurePosixPath], Source | bool]]] = {
    "mead": _mead,
    "crema-d": _crema_d,
    "ravdess": _ravdess,
    "grid": _grid,
}
LAYOUTS: Final = (*_PARSERS, "plain", "tracks")


def _files(source: Path) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """Videos and tracks under a folder, relative to it and sorted; hidden files are left out."""
    if not source.is_dir():
        raise DataError(f"{source}: is no folder; wanted one with videos or ready-made tracks")
    videos: list[PurePosixPath] = []
    tracks: list[PurePosixPath] = []
    for path in source.rglob("*"):
        relative = PurePosixPath(path.relative_to(source).as_posix())
        if any(part.startswith(".") for part in relative.parts):
            continue
        if path.suffix.lower() in VIDEOS:
            videos.append(relative)
        elif path.suffix == ".npz":
            tracks.append(relative)
    return sorted(videos), sorted(tracks)


def _recognised(source: Path, videos: list[PurePosixPath], tracks: list[PurePosixPath]) -> str:
    """The one layout that a tree's names fit, or DataError."""
    fits = [n for n, parse in _PARSERS.items() if any(parse(source, v) for v in videos)]
    kinds = (fits or (["plain"] if videos else [])) + (["tracks"] if tracks else [])
    if not kinds:
        raise DataError(
            f"{source}: has no clips; looked for videos ({', '.join(VIDEOS)}), in the layouts of "
            f"{', '.join(_PARSERS)} or any other, and for ready-made tracks (.npz)"
        )
    if len(kinds) > 1:
        raise DataError(
            f"{source}: could be {' or '.join(kinds)}; wanted --layout to say which is meant"
        )
    return kinds[0]


def find(
    source: Path, layout: str = "auto", name: str | None = None, speaker: str | None = None
) -> Found:
    """The clips under a folder, sorted by name.

    ``name`` is a regular expression with groups speaker, emotion, level, for plain folders and
    tracks; it has to match the whole of a clip's relative path without suffix. ``speaker`` is who
    speaks where the pattern does not say.

    Raises :class:`~kfusion.errors.DataError` for a tree that is empty or fits several layouts, an
    emotion that is none of the eight, and two files for one clip.
    """
    videos, tracks = _files(source)
    chosen = _recognised(source, videos, tracks) if layout == "auto" else layout
    if chosen in _PARSERS:
        if name is not None or speaker is not None:
            raise DataError(f"layout {chosen} says who speaks itself; wanted no --name, --speaker")
        found = _parsed(source, chosen, videos)
    else:
        files = tracks if chosen == "tracks" else videos
        found = _labelled(_plain(source, chosen, files, speaker), name)
    if not found.clips:
        some = f", among them {found.foreign[0][0]}: {found.foreign[0][1]}" if found.foreign else ""
        raise DataError(
            f"{source}: has no clips in the layout {chosen} (looked at {len(videos)} videos and "
            f"{len(tracks)} tracks{some})"
        )
    return replace(found, clips=_unique(found.clips))


def _parsed(source: Path, layout: str, videos: Iterable[PurePosixPath]) -> Found:
    clips: list[Source] = []
    foreign: list[tuple[str, str]] = []
    unused = 0
    for path in videos:
        parsed = _PARSERS[layout](source, path)
        if isinstance(parsed, Source):
            clips.append(parsed)
        elif parsed:
            unused += 1
        else:
            foreign.append((str(path), f"its path is not named as in {layout}"))
    return Found(layout, clips, foreign, unused)


def _plain(source: Path, layout: str, files: Iterable[PurePosixPath], speaker: str | None) -> Found:
    own = source.resolve().name or "speaker"
    clips: list[Source] = []
    for path in files:
        audio = None if layout == "tracks" else _beside(source / path)
        who = speaker or (path.parts[0] if len(path.parts) > 1 else own)
        clips.append(Source(_name(path), source / path, audio, who))
    return Found(layout, clips, [], 0)


def _labelled(found: Found, pattern: str | None) -> Found:
    """The same clips with the labels that a pattern finds in their names."""
    if pattern is None:
        return found
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--name {pattern!r} is no regular expression ({error})") from None
    if unknown := sorted(set(compiled.groupindex) - set(GROUPS)):
        raise DataError(
            f"--name {pattern!r}: group {unknown[0]!r} is unknown; wanted some of "
            f"{', '.join(GROUPS)}"
        )
    clips: list[Source] = []
    foreign: list[tuple[str, str]] = []
    for clip in found.clips:
        if match := compiled.fullmatch(clip.name):
            clips.append(_with_labels(clip, match.groupdict()))
        else:
            foreign.append((clip.name, f"its name does not match {pattern}"))
    return replace(found, clips=clips, foreign=foreign)


def _with_labels(clip: Source, labels: dict[str, str | None]) -> Source:
    emotion, level = labels.get("emotion"), labels.get("level")
    if emotion is not None and emotion not in EMOTIONS:
        raise DataError(
            f"{clip.video}: emotion {emotion!r} by its name; wanted one of {', '.join(EMOTIONS)}"
        )
    if level is not None and not level.isdecimal():
        raise DataError(f"{clip.video}: level {level!r} by its name; wanted a number")
    who = labels.get("speaker") or clip.speaker
    return replace(clip, speaker=who, emotion=emotion, level=None if level is None else int(level))


def _unique(clips: list[Source]) -> list[Source]:
    """Sorted by name; DataError where two files claim one name."""
    ordered = sorted(clips, key=lambda c: (c.name, c.video))
    for one, other in pairwise(ordered):
        if one.name == other.name:
            raise DataError(
                f"{one.video} and {other.video} are both the clip {one.name}; wanted one of them"
            )
    return ordered
