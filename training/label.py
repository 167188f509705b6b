"""Gives sound that nobody filmed the landmarks that a teacher says its phones would have had.

    python -m training.label --teacher teacher.safetensors --source SPEECH --phones phones.tsv \\
        --speaker '^(\\d+)-' --out CORPUS

The corpus that it writes holds the phones too. Speakers are split by the first byte of their name's
sha256: validation below 26.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tqdm import tqdm

from kfusion.errors import DataError
from kfusion.landmarks import Identity
from kfusion.runtime import file_sha256
from training import teacher
from training.clips import SOUNDS, Clip, read_sound
from training.corpus import Corpus, CorpusWriter, Header
from training.phones import STEP, read_phones
from training.program import ended
from training.splits import LeakError, split_of_clip


def label(source: Path, phones: Path, speaker: str, taught_by: Path, out: Path) -> Corpus:
    """Every sound of a folder that the table has phones for; ``speaker`` is a regular expression
    whose first group is the speaker in a clip's name, ``taught_by`` a teacher's file. What was
    written with the same is gone on from.

    Raises :class:`~kfusion.errors.DataError`.
    """
    try:
        pattern = re.compile(speaker)
    except re.error as error:
        raise DataError(f"--speaker {speaker!r}: {error}") from None
    if not pattern.groups:
        raise DataError(f"--speaker {speaker!r}: wanted a group, as in '^(\\d+)-'")
    tracks, model = read_phones(phones), teacher.load(taught_by)
    sounds = sorted(f for f in source.iterdir() if f.suffix in SOUNDS and f.stem in tracks)
    if not sounds:
        raise DataError(f"{source}: no sound that {phones} has phones for")
    face = Identity.from_points(model.rest.numpy())
    files = {"phones": file_sha256(phones), "teacher": file_sha256(taught_by)}
    header = Header(source.resolve().name, "labelled", "speaker", 0, 0.1, [], files=files)
    with CorpusWriter(out, header) as corpus:
        done = corpus.done
        for sound in tqdm(sounds, unit="clip", mininterval=5):
            if sound.stem in done:
                continue
            who = pattern.search(sound.stem)
            if who is None or who[1] is None:
                raise DataError(f"{sound.stem}: --speaker {speaker!r} does not match")
            samples, spoken = read_sound(sound), tracks[sound.stem]
            spoken = spoken[: len(samples) // STEP]
            frames = face.place(teacher.speak(model, spoken))
            if not len(frames):
                corpus.skip(sound.stem, "is shorter than a frame")
                continue
            clip = Clip(
                sound.stem, samples, frames.astype(float), who[1], rest=face.points, phones=spoken
            )
            try:
                corpus.add(clip, split_of_clip(who[1]))
            except LeakError as error:
                corpus.skip(sound.stem, str(error))
        corpus.finish()
    return Corpus(out)


def run(a: argparse.Namespace) -> None:
    corpus = label(a.source, a.phones, a.speaker, a.teacher, a.out)
    print(f"{a.out}: {len(corpus.entries)} clips")


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--teacher", type=Path, required=True)
    p.add_argument("--source", type=Path, required=True, help="folder of sound files")
    p.add_argument("--phones", type=Path, required=True, help="from python -m training.phones")
    p.add_argument(
        "--speaker", required=True, help="regular expression with a group, for a clip's name"
    )
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    return ended("training.label", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
