"""Finds the clips of a corpus and their labels by path alone; no file is opened.

    mead      M003/video/front/happy/level_3/001.mp4, sound in M003/audio/happy/level_3/001.m4a
    crema-d   VideoFlash/1001_DFA_ANG_XX.flv, sound also in AudioWAV/1001_DFA_ANG_XX.wav
    ravdess   Actor_01/01-01-03-02-01-01-01.mp4 (speech with video; not songs)
    grid      s1/bbaf2n.mpg, s1/video/mpg_6000/bbaf2n.mpg
    tracks    NAME.npz beside NAME.flac, .ogg or .wav (see training/corpus/clips.py)
    plain     any video; sound beside it under the same name where it has none

The source may be the corpus, or a folder in it: ``MEAD/M003``, ``CREMA-D/VideoFlash``, ``GRID/s1``.
Links are followed, and a file that several paths lead to is one clip.
In ``plain`` and ``tracks`` the speaker is the folder directly under the source, or the source's
own name where the clips lie flat; a pattern over the clips' names can say otherwise.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from kfusion.emotion import CREMA_D, EMOTIONS, RAVDESS
from kfusion.errors import DataError
from training.corpus.clips import SOUNDS
from training.corpus.files import files_under

VIDEOS: Final = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts",
)  # fmt: skip
TRACK: Final = ".npz"
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
    """The clips of a folder. ``unmatched``: (name, reason) of files that do not fit the layout,
    and of what cannot be opened. ``unused``: how many fit it and are not used (side views, songs,
    videos without sound)."""

    layout: str
    clips: list[ClipSource]
    unmatched: list[tuple[str, str]]
    unused: int


Parsed = ClipSource | str | None
"""A file as a layout reads its path: a clip, why it is none, or None for one that is not used."""


def _beside(video: Path) -> Path | None:
    return next((p for s in APART if (p := video.with_suffix(s)).exists()), None)


def _mead(path: Path) -> ClipSource | bool:
    """Of an absolute path. ``False``: not of this layout; ``True``: of it, but not used."""
    if len(path.parts) < 6 or path.parts[-5] != "video":
        return False
    *above, speaker, _, view, emotion, level, file = path.parts
    match = re.fullmatch(r"level_(\d)", level)
    if not re.fullmatch(r"[MW]\d{3}", speaker) or not match or emotion not in EMOTIONS:
        return False
    if view != "front":
        return True
    apart = Path(*above, speaker, "audio", emotion, level, file)
    name = "/".join((speaker, view, emotion, level, path.stem))
    return ClipSource(name, path, _beside(apart), speaker, emotion, int(match[1]))


def _crema_d(path: Path) -> ClipSource | bool:
    match = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX|X)", path.stem)
    if not match or match[2] not in CREMA_D:
        return False
    audio = _beside(path.parent.parent / "AudioWAV" / path.name)
    return ClipSource(path.stem, path, audio, match[1], CREMA_D[match[2]], LEVELS.get(match[3]))


def _ravdess(path: Path) -> ClipSource | bool:
    match = re.fullmatch(r"(0[123])-(0[12])-(0[1-8])-(0[12])-\d\d-\d\d-(\d\d)", path.stem)
    if not match:
        return False
    if match[1] != "01" or match[2] != "01":  # pictures alone, or song
        return True
    speaker = f"Actor_{match[5]}"
    name = f"{speaker}/{path.stem}"
    return ClipSource(name, path, None, speaker, RAVDESS[int(match[3])], int(match[4]))


def _grid(path: Path) -> ClipSource | bool:
    """The speaker is the nearest folder of such a name, at most three up: s1/video/mpg_6000."""
    folders = [p for p in path.parts[-4:-1] if re.fullmatch(r"s\d{1,2}", p)]
    if not folders or not re.fullmatch(r"[blps][bgrw][abiw][a-z][0-9z][anps]", path.stem):
        return False
    return ClipSource(f"{folders[-1]}/{path.stem}", path, _beside(path), folders[-1])


_PARSERS: Final[dict[str, Callable[[Path], ClipSource | bool]]] = {
    "mead": _mead,
    "crema-d": _crema_d,
    "ravdess": _ravdess,
    "grid": _grid,
}
LAYOUTS: Final = (*_PARSERS, "plain", "tracks")


def named(source: Path) -> Path:
    """The folder's absolute path, by which the speaker of a folder within a corpus is named."""
    return source.resolve() if ".." in source.parts else source.absolute()


Roots = Collection[Path]
"""The source's own path and, where it is a link, where it really is: one of them may be named as
the layout wants."""


def _parse(layout: str, roots: Roots, path: PurePosixPath) -> ClipSource | bool:
    return next((p for root in roots if (p := _PARSERS[layout](root / path))), False)


def _guess_layout(
    source: Path, roots: Roots, videos: list[PurePosixPath], tracks: list[PurePosixPath]
) -> str:
    """The one layout that a tree's names fit, or DataError."""
    fits = [n for n in _PARSERS if any(_parse(n, roots, v) for v in videos)]
    kinds = (fits or (["plain"] if videos else [])) + (["tracks"] if tracks else [])
    if not kinds:
        raise DataError(
            f"{source}: has no clips; looked for videos ({', '.join(VIDEOS)}), in the "
            f"layouts of {', '.join(_PARSERS)} or any other, and for ready-made tracks (.npz)"
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
    tree = files_under(source, (*VIDEOS, TRACK))
    if tree.passed_over and not tree.files:
        first, reason = tree.passed_over[0]
        raise DataError(
            f"{source}: has no clips that can be read; passed over {len(tree.passed_over)}, among "
            f"them {first}: {reason}"
        )
    tracks = [p for paths in tree.files.values() for p in paths if p.suffix.lower() == TRACK]
    videos = [p for paths in tree.files.values() for p in paths if p.suffix.lower() != TRACK]
    roots = dict.fromkeys((named(source), source.resolve()))
    chosen = _guess_layout(source, roots, videos, tracks) if layout == "auto" else layout
    read: Callable[[PurePosixPath], Parsed]
    if chosen in _PARSERS:
        if name is not None or speaker is not None:
            raise DataError(f"layout {chosen} says who speaks itself; wanted no --name, --speaker")
        read = partial(_read, chosen, roots)
    else:
        read = partial(_read_plain, source, _compiled(name), speaker)
    clips: list[ClipSource] = []
    unmatched = list(tree.passed_over)
    unused = 0
    for paths in tree.files.values():
        if (paths[0].suffix.lower() == TRACK) != (chosen == "tracks"):
            continue
        parsed = min((read(p) for p in paths), key=_usefulness)
        if isinstance(parsed, ClipSource):
            clips.append(parsed)
        elif parsed is None:
            unused += 1
        else:
            unmatched.append((str(paths[0]), parsed))
    if not clips:
        example = "".join(f", among them {n}: {reason}" for n, reason in unmatched[:1])
        raise DataError(
            f"{source}: has no clips in the layout {chosen} (looked at {len(videos)} "
            f"videos and {len(tracks)} tracks{example})"
        )
    return Listing(chosen, _unique(clips), sorted(unmatched), unused)


def _usefulness(parsed: Parsed) -> int:
    return 0 if isinstance(parsed, ClipSource) else 1 if parsed is None else 2


def _read(layout: str, roots: Roots, path: PurePosixPath) -> Parsed:
    parsed = _parse(layout, roots, path)
    if isinstance(parsed, ClipSource):
        return parsed
    return None if parsed else f"its path is not named as in {layout}"


def _read_plain(
    source: Path, pattern: re.Pattern[str] | None, speaker: str | None, path: PurePosixPath
) -> Parsed:
    whole = source / path
    name = str(path.with_suffix(""))
    by_folder = path.parts[0] if len(path.parts) > 1 else named(source).name or "speaker"
    audio = None if path.suffix.lower() == TRACK else _beside(whole)
    clip = ClipSource(name, whole, audio, speaker or by_folder)
    if pattern is None:
        return clip
    match = pattern.fullmatch(name)
    if match is None:
        return f"its name does not match {pattern.pattern}"
    return _with_labels(clip, match.groupdict())


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    """Of --name, or DataError."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--name {pattern!r} is no regular expression ({error})") from None
    if unknown := sorted(set(compiled.groupindex) - set(GROUPS)):
        raise DataError(
            f"--name {pattern!r}: group {unknown[0]!r} is unknown; wanted some of "
            f"{', '.join(GROUPS)}"
        )
    return compiled


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
