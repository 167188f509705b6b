"""Gives sound that nobody filmed the landmarks that it would have had: those that a teacher says of
its phones, or those that a model says of the sound itself (self-training; arXiv 1911.04252).

    python -m training.label --teacher teacher.safetensors --phones phones.tsv --source SPEECH \\
        --speaker '^(\\d+)-' --out CORPUS
    python -m training.label --model model.safetensors --source SPEECH \\
        --speaker '^(\\d+)-' --out CORPUS

A corpus that a teacher made holds the phones too. Speakers are split by the first byte of their
name's sha256: validation below 26.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kfusion.audio import SAMPLE_RATE
from kfusion.errors import DataError, run_command
from kfusion.landmarks import NEUTRAL_IDENTITY, Identity
from kfusion.runtime import Animator
from kfusion.system import file_sha256
from training import teacher
from training.corpus.clips import SOUNDS, Clip, read_sound
from training.corpus.format import Corpus, CorpusWriter, Header
from training.corpus.splits import LeakError, split_of_clip
from training.data.augment import brisker
from training.phones import STEP, Track, read_phones
from training.trial.model import open_engine

LOOKAHEAD: Final = 15
"""Frames: half a window, for a label need not be in time."""


class Labeller(Protocol):
    """Who says the landmarks: on the face ``rest``, made with ``files`` ({what: sha256}, or by how
    much).
    """

    rest: NDArray[np.float64]
    files: dict[str, str]

    def knows(self, name: str) -> bool: ...

    def frames(
        self, name: str, samples: NDArray[np.float32]
    ) -> tuple[NDArray[np.floating], Track | None]:
        """Landmarks (T, 68, 2) of samples at 16 kHz, and the phones where they are known."""
        ...


class ByPhones:
    """The teacher of a file, for the sounds that a table has phones for; its lips
    :func:`~training.data.augment.brisker` by a share.

    Raises :class:`~kfusion.errors.DataError`.
    """

    def __init__(self, phones: Path, taught_by: Path, share: float = 0.0) -> None:
        self._tracks, self._model = read_phones(phones), teacher.load(taught_by)
        self._face = Identity.from_points(self._model.rest.numpy())
        self.rest = self._face.points
        self.files = {"phones": file_sha256(phones), "teacher": file_sha256(taught_by)}
        self._share = share
        if share:
            self.files["brisker"] = str(share)

    def knows(self, name: str) -> bool:
        return name in self._tracks

    def frames(
        self, name: str, samples: NDArray[np.float32]
    ) -> tuple[NDArray[np.floating], Track | None]:
        spoken = self._tracks[name][: len(samples) // STEP]
        moved = teacher.speak(self._model, spoken).astype(np.float64)
        if self._share:
            moved = brisker(moved, self._share)
        return self._face.place(moved), spoken


class ByModel:
    """The model of a file, on the neutral face, hearing half a second ahead; for any sound.

    Raises :class:`~kfusion.errors.ModelError`.
    """

    def __init__(self, model: Path) -> None:
        self._animator = Animator(open_engine(model, 1))
        self.rest = NEUTRAL_IDENTITY.points
        self.files = {"model": file_sha256(model)}

    def knows(self, name: str) -> bool:
        return True

    def frames(
        self, name: str, samples: NDArray[np.float32]
    ) -> tuple[NDArray[np.floating], Track | None]:
        return self._animator.animate(samples, SAMPLE_RATE, lookahead=LOOKAHEAD), None


def label(source: Path, speaker: str, by: Labeller, out: Path) -> Corpus:
    """Every sound of a folder that the labeller knows; ``speaker`` is a regular expression whose
    first group is the speaker in a clip's name. What was written with the same is gone on from.

    Raises :class:`~kfusion.errors.DataError`.
    """
    try:
        pattern = re.compile(speaker)
    except re.error as error:
        raise DataError(f"--speaker {speaker!r}: {error}") from None
    if not pattern.groups:
        raise DataError(f"--speaker {speaker!r}: wanted a group, as in '^(\\d+)-'")
    sounds = sorted(f for f in source.iterdir() if f.suffix in SOUNDS and by.knows(f.stem))
    if not sounds:
        raise DataError(f"{source}: no sound, or none that the table has phones for")
    header = Header(
        source.resolve().name, "labelled", "speaker", 0, 0.1, [], files=by.files, dubbed=True
    )
    with CorpusWriter(out, header) as corpus:
        done = corpus.done
        for sound in tqdm(sounds, unit="clip", mininterval=5):
            if sound.stem in done:
                continue
            who = pattern.search(sound.stem)
            if who is None or who[1] is None:
                raise DataError(f"{sound.stem}: --speaker {speaker!r} does not match")
            samples = read_sound(sound)
            frames, spoken = by.frames(sound.stem, samples)
            if not len(frames):
                corpus.skip(sound.stem, "is shorter than a frame")
                continue
            clip = Clip(
                sound.stem, samples, frames.astype(float), who[1], rest=by.rest, phones=spoken
            )
            try:
                corpus.add(clip, split_of_clip(who[1]))
            except LeakError as error:
                corpus.skip(sound.stem, str(error))
        corpus.finish()
    return Corpus(out)


def run(a: argparse.Namespace) -> None:
    if (a.phones is None) != (a.teacher is None):
        raise DataError("--teacher and --phones go together")
    by = ByModel(a.model) if a.teacher is None else ByPhones(a.phones, a.teacher, a.brisker)
    corpus = label(a.source, a.speaker, by, a.out)
    print(f"{a.out}: {len(corpus.entries)} clips")


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    who = p.add_mutually_exclusive_group(required=True)
    who.add_argument("--teacher", type=Path, help="from python -m training.teacher")
    who.add_argument("--model", type=Path, help="from python -m training.train")
    p.add_argument("--source", type=Path, required=True, help="folder of sound files")
    p.add_argument("--phones", type=Path, help="from python -m training.phones; for --teacher")
    p.add_argument(
        "--speaker", required=True, help="regular expression with a group, for a clip's name"
    )
    p.add_argument(
        "--brisker",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="open and shut a teacher's lips so much more",
    )
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    return run_command("training.label", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
