"""Finds the clips of a corpus and their labels by path alone; no file is opened.

    mead      M003/video/front/happy/level_3/001.mp4, sound in M003/audio/happy/level_3/001.m4a
    crema-d   VideoFlash/1001_DFA_ANG_XX.flv, sound also in AudioWAV/1001_DFA_ANG_XX.wav
    ravdess   Actor_01/01-01-03-02-01-01-01.mp4 (speech with video; not songs)
    grid      s1/bbaf2n.mpg, s1/video/mpg_6000/bbaf2n.mpg
    tracks    NAME.npz beside NAME.flac, .ogg or .wav (see training/corpus/clips.py)
    plain     any video; sound beside it under the same name where it has none

In ``plain`` and ``tracks`` the speaker is the folder directly under the source, or the source's
own name where the clips lie flat; a pattern over the clips' names can say otherwise.
"""

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
class ClipSource:
    """A clip to be prepared. ``video`` is the .npz for a ready-made track. ``audio`` is a separate
    sound file for a video without sound."""

    name: str
    video: Path
    audio: Path | None
    speaker: str
    emotion: str | None = None
    level: int | None = None


@dataclass(frozen=True)
class Listing:
    """The clips of a folder. ``unmatched``: (name, reason) of files that do not fit the layout.
    ``unused``: how many fit it and are not used (side views, songs, videos without sound)."""

    layout: str
    clips: list[ClipSource]
    unmatched: list[tuple[str, str]]
    unused: int


def _beside(video: Path) -> Path | None:
    return next((p for s in APART if (p := video.with_suffix(s)).exists()), None)


def _mead(root: Path, path: PurePosixPath) -> ClipSource | bool:
    """``False``: not of this layout; ``True``: of it, but not used."""
    if len(path.parts) < 6 or path.parts[-5] != "video":
        return False
    *above, speaker, _, view, emotion, level, file = path.parts
    match = re.fullmatch(r"level_(\d)", level)
    if not re.fullmatch(r"[MW]\d{3}", speaker) or not match or emotion not in EMOTIONS:
        return False
    if view != "front":
        return True
    apart = root.joinpath(*above, speaker, "audio", emotion, level, file)
    name = "/".join((speaker, view, emotion, level, path.stem))
    return ClipSource(name, root / path, _beside(apart), speaker, emotion, int(match[1]))


def _crema_d(root: Path, path: PurePosixPath) -> ClipSource | bool:
    match = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX|X)", path.stem)
    if not match or match[2] not in CREMA_D:
        return False
    video = root / path
    audio = _beside(video.parent.parent / "AudioWAV" / video.name)
    return ClipSource(path.stem, video, audio, match[1], CREMA_D[match[2]], LEVELS.get(match[3]))


def _ravdess(root: Path, path: PurePosixPath) -> ClipSource | bool:
    match = re.fullmatch(r"(0[123])-(0[12])-(0[1-8])-(0[12])-\d\d-\d\d-(\d\d)", path.stem)
    if not match:
        return False
    if match[1] != "01" or match[2] != "01":  # pictures alone, or song
        return True
    speaker = f"Actor_{match[5]}"
    name = f"{speaker}/{path.stem}"
    return ClipSource(name, root / path, None, speaker, RAVDESS[int(match[3])], int(match[4]))


def _grid(root: Path, path: PurePosixPath) -> ClipSource | bool:
    folders = [p for p in (root.resolve().name, *path.parts[:-1]) if re.fullmatch(r"s\d{1,2}", p)]
    if not folders or not re.fullmatch(r"[blps][bgrw][abiw][a-z][0-9z][anps]", path.stem):
        return False
    return ClipSource(f"{folders[-1]}/{path.stem}", root / path, _beside(root / path), folders[-1])


_PARSERS: Final[dict[str, Callable[[Path, PurePosixPath], ClipSource | bool]]] = {
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


def _guess_layout(source: Path, videos: list[PurePosixPath], tracks: list[PurePosixPath]) -> str:
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


def find_clips(
    source: Path, layout: str = "auto", name: str | None = None, speaker: str | None = None
) -> Listing:
    """The clips under a folder, sorted by name.

    ``name`` is a regular expression with groups speaker, emotion, level, for plain folders and
    tracks; it has to match the whole of a clip's relative path without suffix. ``speaker`` is who
    speaks where the pattern does not say.

    Raises :class:`~kfusion.errors.DataError` for a tree that is empty or fits several layouts, an
    emotion that is none of the eight, and two files for one clip.
    """
    videos, tracks = _files(source)
    chosen = _guess_layout(source, videos, tracks) if layout == "auto" else layout
    if chosen in _PARSERS:
        if name is not None or speaker is not None:
            raise DataError(f"layout {chosen} says who speaks itself; wanted no --name, --speaker")
        listing = _parsed(source, chosen, videos)
    else:
        files = tracks if chosen == "tracks" else videos
        listing = _labelled(_plain(source, chosen, files, speaker), name)
    if not listing.clips:
        example = "".join(f", among them {n}: {reason}" for n, reason in listing.unmatched[:1])
        raise DataError(
            f"{source}: has no clips in the layout {chosen} (looked at {len(videos)} videos and "
            f"{len(tracks)} tracks{example})"
        )
    return replace(listing, clips=_unique(listing.clips))


def _parsed(source: Path, layout: str, videos: Iterable[PurePosixPath]) -> Listing:
    clips: list[ClipSource] = []
    unmatched: list[tuple[str, str]] = []
    unused = 0
    for path in videos:
        parsed = _PARSERS[layout](source, path)
        if isinstance(parsed, ClipSource):
            clips.append(parsed)
        elif parsed:
            unused += 1
        else:
            unmatched.append((str(path), f"its path is not named as in {layout}"))
    return Listing(layout, clips, unmatched, unused)


def _plain(
    source: Path, layout: str, files: Iterable[PurePosixPath], speaker: str | None
) -> Listing:
    own = source.resolve().name or "speaker"
    clips: list[ClipSource] = []
    for path in files:
        audio = None if layout == "tracks" else _beside(source / path)
        by_folder = path.parts[0] if len(path.parts) > 1 else own
        name = str(path.with_suffix(""))
        clips.append(ClipSource(name, source / path, audio, speaker or by_folder))
    return Listing(layout, clips, [], 0)


def _labelled(listing: Listing, pattern: str | None) -> Listing:
    """The same clips with the labels that a pattern finds in their names."""
    if pattern is None:
        return listing
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--name {pattern!r} is no regular expression ({error})") from None
    if unknown := sorted(set(compiled.groupindex) - set(GROUPS)):
        raise DataError(
            f"--name {pattern!r}: group {unknown[0]!r} is unknown; wanted some of "
            f"{', '.join(GROUPS)}"
        )
    clips: list[ClipSource] = []
    unmatched: list[tuple[str, str]] = []
    for clip in listing.clips:
        if match := compiled.fullmatch(clip.name):
            clips.append(_with_labels(clip, match.groupdict()))
        else:
            unmatched.append((clip.name, f"its name does not match {pattern}"))
    return replace(listing, clips=clips, unmatched=unmatched)


def _with_labels(clip: ClipSource, labels: dict[str, str | None]) -> ClipSource:
    emotion, level = labels.get("emotion"), labels.get("level")
    if emotion is not None and emotion not in EMOTIONS:
        raise DataError(
            f"{clip.video}: emotion {emotion!r} by its name; wanted one of {', '.join(EMOTIONS)}"
        )
    if level is not None and not level.isdecimal():
        raise DataError(f"{clip.video}: level {level!r} by its name; wanted a number")
    speaker = labels.get("speaker") or clip.speaker
    return replace(
        clip, speaker=speaker, emotion=emotion, level=None if level is None else int(level)
    )


def _unique(clips: list[ClipSource]) -> list[ClipSource]:
    """Sorted by name; DataError where two files claim one name."""
    ordered = sorted(clips, key=lambda c: (c.name, c.video))
    for one, other in pairwise(ordered):
        if one.name == other.name:
            raise DataError(
                f"{one.video} and {other.video} are both the clip {one.name}; wanted one of them"
            )
    return ordered
