"""Small corpora that tests make: voices, and mouths that open with their loudness."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kfusion.landmarks import NEUTRAL
from tests.conftest import voice
from training.corpus.clips import Clip
from training.corpus.format import Corpus, CorpusHeader, CorpusWriter
from training.corpus.splits import Split, split_of_clip, split_of_speakers
from training.data.augment import PLAIN
from training.data.source_clip import SourceClip
from training.data.windows import Windows


def talking(
    name: str,
    seed: int,
    seconds: float = 2.0,
    *,
    speaker: str = "someone",
    emotion: str | None = None,
    level: int | None = None,
) -> Clip:
    """A voice, and a symmetric face whose mouth opens with its loudness, at 30 fps."""
    sound = voice(seconds, seed=seed)
    count = int(seconds * 30)
    at = (np.arange(count) / 30 * 16_000).astype(int)
    loud = np.sqrt(np.convolve(sound**2, np.ones(800) / 800, "same"))[at]
    points = np.repeat(NEUTRAL[None], count, axis=0)
    points[:, [65, 66, 67], 1] += 60 * loud[:, None]
    return Clip(name, sound, points, speaker, emotion, level)


def write_corpus(
    folder: Path, clips: Iterable[Clip], sides: Mapping[str, Split] | None = None
) -> Path:
    """A corpus split by ``sides`` (by clip name), else by speaker or by clip."""
    clips = list(clips)
    speakers = {c.speaker for c in clips}
    by_speaker = split_of_speakers(speakers) if len(speakers) > 1 else {}
    how = "speaker" if by_speaker and sides is None else "clip"
    header = CorpusHeader(
        source=folder.name, layout="made", split_by=how, seed=0, share=0.1, held_out=[]
    )
    with CorpusWriter(folder, header) as corpus:
        for clip in clips:
            side = by_speaker.get(clip.speaker, split_of_clip(clip.name))
            corpus.add(clip, sides[clip.name] if sides else side)
        corpus.finish()
    return folder


def one_speaker(folder: Path, training: int = 3, seconds: float = 2.0) -> Path:
    """A corpus of one speaker with so many clips to train on and one held out."""
    names = [f"clip{k:03d}" for k in range(training + 1)]
    sides: dict[str, Split] = dict.fromkeys(names, "train")
    sides[names[-1]] = "validation"
    return write_corpus(folder, [talking(n, k, seconds) for k, n in enumerate(names)], sides)


OPTIONS = ("by_level", "wider", "start_every")


def windows_of(corpus: Corpus, seed: int = 1, **settings: Any) -> Windows:
    """Windows of a corpus's train clips with these augmentations and options."""
    options = {name: settings.pop(name) for name in OPTIONS if name in settings}
    return Windows([corpus], "train", replace(PLAIN, **settings), seed, **options)


def source_clip(windows: Windows, index: int) -> SourceClip:
    name = windows.describe(index).split(" ")[0]
    return next(clip for clip in windows.clips if clip.entry.name == name)
