"""The format of a prepared corpus, whose files are mapped into memory, never read whole.

    corpus.json     what it was made from and how it was split; written last
    clips.jsonl     one line a clip, in the order of the data (:class:`Entry`)
    audio.i16       16 kHz mono, int16 little-endian, clip after clip
    points.i16      [frames, 68, 2] at 30 fps, int16 little-endian, 1/64 pixel of a 256 x 256 crop;
                    before the frames of a clip its face at rest
    phones.u8       of the clips whose phones are known: one for every 10 ms (training/phones.py)
    skipped.jsonl   clips that could not be used, each with the reason
    offsets.csv     clips whose sound is far from their lips, where there are any

An hour takes 115 MB of sound and 29 MB of points; forty hours fit in 6 GB of disk. A clip exists
once its line does: data after the last line, from a killed writer, is cut off when writing resumes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from kfusion.emotion import EMOTIONS
from kfusion.errors import DataError
from kfusion.landmarks import to_canonical
from kfusion.system import write_whole
from training.corpus.clips import Clip
from training.corpus.files import printable
from training.corpus.lines import Skipped, counted_reasons, read_lines, size_of
from training.corpus.offset import AudioOffset
from training.corpus.splits import LeakError, Split, check_no_leak

FORMAT: Final = "kfusion-corpus-2"
OLDER: Final = ("kfusion-corpus-1",)
"""Their faces at rest are medians over frames that were not aligned."""
FRAME_BYTES: Final = 68 * 2 * 2
Subset = Literal["train", "validation", "all"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A clip's line. ``audio``, ``points`` and ``phones`` are (first, count) in samples, frames and
    steps of their files; the frame before the first is the face at rest. ``fps`` is the source's
    frame rate, ``tracked`` the share of its frames with a face (the others are interpolated).
    ``offset`` says how late the sound is, where that was looked for; nothing is shifted by it.
    """

    name: str
    speaker: str
    emotion: str | None
    level: int | None
    split: Split
    audio: tuple[int, int]
    points: tuple[int, int]
    sha256: str
    fps: float
    tracked: float
    phones: tuple[int, int] | None = None
    offset: AudioOffset | None = None


class CorpusHeader(msgspec.Struct, frozen=True):
    """corpus.json. ``split_by`` is "speaker", or "clip" where there is one speaker. ``files``: the
    sha256 of the table of phones and of the teacher, and how much brisker the lips were made.
    ``dubbed``: the voices are not those of the faces.
    """

    source: str
    layout: str
    split_by: Literal["speaker", "clip"]
    seed: int
    share: float
    held_out: list[str]
    format: str = FORMAT
    files: dict[str, str] = {}
    dubbed: bool = False


class CorpusWriter:
    """Writes a corpus clip by clip, and resumes after the last whole one::

        with CorpusWriter(folder, header) as corpus:
            if name not in corpus.done:
                corpus.add(clip, split, fps=25.0, tracked=1.0)
            corpus.finish()

    Raises :class:`~kfusion.errors.DataError` for a folder begun from another source or split,
    and for a full disk, after removing all of the clip that did not fit.
    """

    def __init__(self, folder: Path, header: CorpusHeader) -> None:
        self.folder, self.header = folder, header
        try:
            folder.mkdir(parents=True, exist_ok=True)
            begun, settings = folder / "begun.json", msgspec.json.encode(header)
            if not begun.exists():
                write_whole(begun, settings)
            elif begun.read_bytes() != settings:
                raise DataError(
                    f"{folder}: was begun with other settings, {begun.read_text()}; "
                    "wanted the same, or a new --out"
                )
            self.entries = read_lines(folder / "clips.jsonl", Entry)
            self.skipped = read_lines(folder / "skipped.jsonl", Skipped)
            self._recordings = {e.sha256: e for e in self.entries}
            self._samples, self._frames, self._steps = _totals(self.entries)
            self._audio = self._open("audio.i16", self._samples * 2)
            self._points = self._open("points.i16", self._frames * FRAME_BYTES)
            self._phones = self._open("phones.u8", self._steps)
            self._index = self._open("clips.jsonl", size_of(self.entries))
            self._skips = self._open("skipped.jsonl", size_of(self.skipped))
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error})") from None

    def _open(self, name: str, size: int) -> FileIO:
        path = self.folder / name
        path.touch()
        if path.stat().st_size < size:
            raise DataError(f"{path}: is shorter than its index says; wanted a new --out")
        os.truncate(path, size)
        return FileIO(path, "ab")  # unbuffered: what did not fit on a disk is not kept for later

    @property
    def done(self) -> set[str]:
        """Names of the clips written or skipped."""
        return {e.name for e in self.entries} | {s.name for s in self.skipped}

    def add(
        self,
        clip: Clip,
        split: Split,
        *,
        fps: float = 30.0,
        tracked: float = 1.0,
        offset: AudioOffset | None = None,
    ) -> Entry:
        """Writes a clip, its line last.

        Raises :class:`~training.corpus.splits.LeakError`, and writes nothing, where the same
        recording is on the other side of the split already.
        """
        if clip.emotion is not None and clip.emotion not in EMOTIONS:
            raise DataError(f"{clip.name}: emotion {clip.emotion!r}; wanted one of {EMOTIONS}")
        if not (len(clip.audio) and len(clip.points) and np.isfinite(clip.points).all()):
            raise DataError(f"{clip.name}: no sound, no frames, or points that are not finite")
        sound = np.clip(np.round(clip.audio * 32768.0), -32768, 32767).astype("<i2").tobytes()
        frames = np.concatenate([clip.identity[None], clip.points])
        track = np.clip(np.round(frames * 64), -32768, 32767).astype("<i2").tobytes()
        phones = b"" if clip.phones is None else clip.phones.astype(np.uint8).tobytes()
        digest = hashlib.sha256(sound + track).hexdigest()
        same = self._recordings.get(digest)
        if same is not None and same.split != split:
            raise LeakError(
                f"is the same recording as {same.name}, which is on the other side of the split"
            )
        entry = Entry(
            name=clip.name,
            speaker=clip.speaker,
            emotion=clip.emotion,
            level=clip.level,
            split=split,
            audio=(self._samples, len(clip.audio)),
            points=(self._frames + 1, len(clip.points)),
            sha256=digest,
            fps=fps,
            tracked=round(tracked, 4),
            phones=(self._steps, len(phones)) if phones else None,
            offset=offset,
        )
        line = msgspec.json.encode(entry) + b"\n"
        self._write(
            (self._audio, sound), (self._points, track), (self._phones, phones), (self._index, line)
        )
        self.entries.append(entry)
        self._recordings[digest] = entry
        self._samples += len(clip.audio)
        self._frames += len(frames)
        self._steps += len(phones)
        return entry

    def skip(self, name: str, reason: str) -> None:
        """Lists a clip that cannot be used."""
        skipped = Skipped(printable(name), printable(reason))
        self._write((self._skips, msgspec.json.encode(skipped) + b"\n"))
        self.skipped.append(skipped)

    def _write(self, *parts: tuple[FileIO, bytes]) -> None:
        ends = [os.fstat(file.fileno()).st_size for file, _ in parts]
        try:
            for file, data in parts:
                rest = memoryview(data)
                while rest:  # a disk that fills up takes a part first
                    rest = rest[file.write(rest) :]
        except OSError as error:
            for (file, _), end in zip(parts, ends, strict=True):
                file.truncate(end)
            raise DataError(
                f"{self.folder}: cannot be written ({error}); what is there is whole, "
                "and the same command goes on from it"
            ) from None

    def finish(self) -> None:
        """Writes corpus.json, which marks the corpus whole. Raises DataError without a clip."""
        if not self.entries:
            reasons = "; ".join(counted_reasons(self.skipped)) or "nothing was found"
            raise DataError(f"{self.folder}: no usable clip ({reasons})")
        path = self.folder / "corpus.json"
        try:
            write_whole(path, msgspec.json.format(msgspec.json.encode(self.header)) + b"\n")
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error})") from None

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._audio, self._points, self._phones, self._index, self._skips):
            file.close()


def _totals(entries: Sequence[Entry]) -> tuple[int, int, int]:
    """Samples, frames (a face at rest before those of each clip) and steps of phones."""
    steps = sum(e.phones[1] for e in entries if e.phones)
    return sum(e.audio[1] for e in entries), sum(e.points[1] + 1 for e in entries), steps


class Corpus:
    """A finished corpus, opened for reading.

    Raises :class:`~kfusion.errors.DataError` for a folder that is no finished corpus and
    :class:`~training.corpus.splits.LeakError` where a speaker or a recording is on both sides.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.header = msgspec.json.decode(
                (folder / "corpus.json").read_bytes(), type=CorpusHeader
            )
        except FileNotFoundError:
            hint = "it was begun and not finished; " if (folder / "begun.json").exists() else ""
            raise DataError(
                f"{folder}: no prepared corpus; {hint}wanted what python -m training.prepare writes"
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"{folder}/corpus.json: cannot be read ({error})") from None
        if self.header.format in OLDER:
            raise DataError(
                f"{folder}: format is {self.header.format!r}, whose faces at rest are medians over "
                f"frames that were not aligned; wanted {FORMAT!r}: prepare it again"
            )
        if self.header.format != FORMAT:
            raise DataError(f"{folder}: format is {self.header.format!r}; wanted {FORMAT!r}")
        self.entries = read_lines(folder / "clips.jsonl", Entry)
        samples, frames, steps = _totals(self.entries)
        self.audio = self._mapped("audio.i16", (-1,), samples * 2)
        self.points = self._mapped("points.i16", (-1, 68, 2), frames * FRAME_BYTES)
        if steps:
            self._phones = self._mapped("phones.u8", (-1,), steps, "u1")
        check_splits([self])

    def _mapped(
        self, name: str, shape: tuple[int, ...], size: int, kind: str = "<i2"
    ) -> NDArray[Any]:
        path = self.folder / name
        try:
            actual = path.stat().st_size
            if not size or actual < size:
                raise DataError(f"{path}: has {actual} bytes; by its index wanted {size} bytes")
            mapped = np.memmap(path, kind, "r", shape=(size // np.dtype(kind).itemsize,))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error}); wanted {size} bytes") from None
        return mapped.reshape(shape)

    def select(self, split: Subset) -> list[Entry]:
        """The entries of one side; DataError where there is none."""
        return [entry for _, entry in select_entries([self], split)]

    def sound(self, entry: Entry, first: int, count: int) -> NDArray[np.float32]:
        """``count`` samples from ``first`` of the clip on, zeros before it and after it."""
        start, length = entry.audio
        low, high = min(max(first, 0), length), min(max(first + count, 0), length)
        out = np.zeros(count, np.float32)
        out[low - first : high - first] = self.audio[start + low : start + high]
        return out / np.float32(32768)

    def track(self, entry: Entry) -> NDArray[np.float64]:
        """The clip's frames, (T, 68, 2) in pixels."""
        start, count = entry.points
        return self.points[start : start + count] / 64.0

    def phones(self, entry: Entry) -> NDArray[np.uint8] | None:
        """The clip's phones of every 10 ms, where they are known."""
        if entry.phones is None:
            return None
        start, count = entry.phones
        return self._phones[start : start + count]

    def clip(self, entry: Entry) -> Clip:
        return Clip(
            entry.name,
            self.sound(entry, 0, entry.audio[1]),
            self.track(entry),
            entry.speaker,
            entry.emotion,
            entry.level,
            self.clip_identity(entry),
            self.phones(entry),
            self.clip_neutral(entry),
        )

    def clip_neutral(self, entry: Entry) -> NDArray[np.float64] | None:
        """The speaker's neutral face in this clip's pixels; None where it is not needed."""
        if entry.emotion in (None, "neutral") or entry.speaker not in self.neutral:
            return None
        from_canonical = to_canonical(self.clip_identity(entry)).inverse
        return from_canonical.apply(self.neutral[entry.speaker])

    def clip_identity(self, entry: Entry) -> NDArray[np.float64]:
        """The clip's own face at rest, (68, 2) in its pixels (:attr:`Clip.identity`)."""
        return self.points[entry.points[0] - 1] / 64.0

    def clips(self, split: Subset = "all") -> Iterator[Clip]:
        """The clips of one side, one at a time."""
        for entry in self.select(split):
            yield self.clip(entry)

    @cached_property
    def skipped(self) -> list[Skipped]:
        """Clips of the source that could not be used."""
        return read_lines(self.folder / "skipped.jsonl", Skipped)

    @cached_property
    def neutral(self) -> dict[str, NDArray[np.float64]]:
        """Each speaker's face at rest, canonical (68, 2), where neutral clips are labelled."""
        rests: dict[str, list[NDArray[np.float64]]] = {}
        for entry in self.entries:
            if entry.emotion == "neutral":
                identity = self.clip_identity(entry)
                rests.setdefault(entry.speaker, []).append(to_canonical(identity).apply(identity))
        return {speaker: np.median(faces, axis=0) for speaker, faces in rests.items()}


def check_splits(corpora: Sequence[Corpus]) -> None:
    """Raises :class:`~training.corpus.splits.LeakError` where corpora, alone or together, leak.

    The one speaker of a corpus split by clip may be on both sides of it, as its header says. Where
    it trains on them, no other corpus may hold them out.
    """
    speakers: dict[Split, set[str]] = {"train": set(), "validation": set()}
    recordings: dict[Split, set[str]] = {"train": set(), "validation": set()}
    for corpus in corpora:
        for entry in corpus.entries:
            recordings[entry.split].add(entry.sha256)
            if corpus.header.split_by == "speaker" or entry.split == "train":
                speakers[entry.split].add(entry.speaker)
    check_no_leak(speakers, recordings)


def select_entries(corpora: Sequence[Corpus], split: Subset) -> list[tuple[Corpus, Entry]]:
    """The entries of one side of several corpora. DataError where none of them has one."""
    selected = [(c, e) for c in corpora for e in c.entries if split in ("all", e.split)]
    if not selected:
        raise DataError(
            f"{', '.join(str(c.folder) for c in corpora)}: no {split} clips among "
            f"{sum(len(c.entries) for c in corpora)}"
        )
    return selected


def fingerprint(entries: Iterable[Entry]) -> str:
    """sha256 over the clips' names, labels and contents, in order."""
    digest = hashlib.sha256()
    for e in entries:
        digest.update(repr((e.name, e.speaker, e.emotion, e.level, e.sha256)).encode())
    return digest.hexdigest()


def open_corpora(folders: Sequence[Path]) -> list[Corpus]:
    """Several corpora that are used together, checked for leaks between them."""
    corpora = [Corpus(folder) for folder in folders]
    check_splits(corpora)
    return corpora
