"""Small corpora that tests make: voices, and mouths that open with their loudness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from kfusion.landmarks import NEUTRAL
from tests.conftest import voice
from training.corpus.clips import Clip
from training.corpus.format import CorpusWriter, Header
from training.corpus.splits import Split, split_of_clip, split_of_speakers


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
    """A corpus of them: split by speaker where there are several, else by clip, or as told by
    ``sides`` (by clip name).
    """
    clips = list(clips)
    speakers = {c.speaker for c in clips}
    by_speaker = split_of_speakers(speakers) if len(speakers) > 1 else {}
    how = "speaker" if by_speaker and sides is None else "clip"
    header = Header(source=folder.name, layout="made", split_by=how, seed=0, share=0.1, held_out=[])
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
