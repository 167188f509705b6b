"""Pseudo-labels sound without a picture with landmarks: those that a teacher predicts from its
phones, or those that a model predicts from the sound itself (self-training; arXiv 1911.04252).

    python -m training.label --teacher teacher.safetensors --phones phones.tsv --source SPEECH \\
        --speaker '^(\\d+)-' --out CORPUS
    python -m training.label --model model.safetensors --source SPEECH \\
        --speaker '^(\\d+)-' --out CORPUS

A corpus that a teacher made holds the phones too. Speakers are split by the first byte of their
name's sha256: validation below 26.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

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
from training.corpus.format import Corpus, CorpusHeader, CorpusWriter
from training.corpus.splits import LeakError, split_of_clip
from training.data.augment import brisker
from training.phones import STEP_SAMPLES, PhoneTrack, read_phones
from training.trial.model import open_engine

LOOKAHEAD: Final = 15
"""Frames: half a window, for a label need not be in time."""
Labels = tuple[NDArray[np.floating], PhoneTrack | None]
"""Landmarks (T, 68, 2), and the phones where they are known."""


class PhoneLabeller:
    """A teacher, for the sounds that a table has phones for; its lips
    :func:`~training.data.augment.brisker` by a share. The landmarks are of the face ``rest``;
    ``files`` says what they were made with ({what: sha256, or share}).

    Raises :class:`~kfusion.errors.DataError`.
    """

    def __init__(self, phones: Path, weights: Path, share: float = 0.0) -> None:
        self._tracks, self._model = read_phones(phones), teacher.load(weights)
        self._face = Identity.from_points(self._model.rest.numpy())
        self.rest = self._face.points
        self.files = {"phones": file_sha256(phones), "teacher": file_sha256(weights)}
        self._share = share
        if share:
            self.files["brisker"] = str(share)

    def can_label(self, name: str) -> bool:
        return name in self._tracks

    def labels(self, name: str, samples: NDArray[np.float32]) -> Labels:
        """The labels of a clip's samples at 16 kHz."""
        phones = self._tracks[name][: len(samples) // STEP_SAMPLES]
        displacements = teacher.predict(self._model, phones).astype(np.float64)
        if self._share:
            displacements = brisker(displacements, self._share)
        return self._face.place(displacements), phones


class ModelLabeller:
    """As :class:`PhoneLabeller`: a model on the neutral face, for any sound, with half a second of
    look-ahead.

    Raises :class:`~kfusion.errors.ModelError`.
    """

    def __init__(self, model: Path) -> None:
        self._animator = Animator(open_engine(model, 1))
        self.rest = NEUTRAL_IDENTITY.points
        self.files = {"model": file_sha256(model)}

    def can_label(self, name: str) -> bool:
        return True

    def labels(self, name: str, samples: NDArray[np.float32]) -> Labels:
        return self._animator.animate(samples, SAMPLE_RATE, lookahead=LOOKAHEAD), None


def label(source: Path, speaker: str, labeller: PhoneLabeller | ModelLabeller, out: Path) -> Corpus:
    """A corpus of every sound of a folder that the labeller can label; ``speaker`` is a regular
    expression whose first group is the speaker in a clip's name. A corpus that was begun with the
    same settings is resumed.

    Raises :class:`~kfusion.errors.DataError`.
    """
    try:
        pattern = re.compile(speaker)
    except re.error as error:
        raise DataError(f"--speaker {speaker!r}: {error}") from None
    if not pattern.groups:
        raise DataError(f"--speaker {speaker!r}: wanted a group, as in '^(\\d+)-'")
    sounds = sorted(
        f for f in source.iterdir() if f.suffix in SOUNDS and labeller.can_label(f.stem)
    )
    if not sounds:
        raise DataError(f"{source}: no sound, or none that the table has phones for")
    header = CorpusHeader(
        source.resolve().name, "labelled", "speaker", 0, 0.1, [], files=labeller.files, dubbed=True
    )
    with CorpusWriter(out, header) as corpus:
        done = corpus.done
        for sound in tqdm(sounds, unit="clip", mininterval=5):
            name = sound.stem
            if name in done:
                continue
            match = pattern.search(name)
            if match is None or match[1] is None:
                raise DataError(f"{name}: --speaker {speaker!r} does not match")
            samples = read_sound(sound)
            points, phones = labeller.labels(name, samples)
            if not len(points):
                corpus.skip(name, "is shorter than a frame")
                continue
            clip = Clip(
                name, samples, points.astype(float), match[1], rest=labeller.rest, phones=phones
            )
            try:
                corpus.add(clip, split_of_clip(match[1]))
            except LeakError as error:
                corpus.skip(name, str(error))
        corpus.finish()
    return Corpus(out)


def run(options: argparse.Namespace) -> None:
    if (options.phones is None) != (options.teacher is None):
        raise DataError("--teacher and --phones go together")
    if options.teacher is None:
        labeller = ModelLabeller(options.model)
    else:
        labeller = PhoneLabeller(options.phones, options.teacher, options.brisker)
    corpus = label(options.source, options.speaker, labeller, options.out)
    print(f"{options.out}: {len(corpus.entries)} clips")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--teacher", type=Path, help="from python -m training.teacher")
    who.add_argument("--model", type=Path, help="from python -m training.train")
    parser.add_argument("--source", type=Path, required=True, help="folder of sound files")
    parser.add_argument("--phones", type=Path, help="table of training.phones; for --teacher")
    parser.add_argument("--speaker", required=True,
                        help="regular expression with a group, for a clip's name")  # fmt: skip
    parser.add_argument("--brisker", type=float, default=0.0, metavar="SHARE",
                        help="open and shut a teacher's lips so much more")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    return run_command("training.label", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
