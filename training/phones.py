"""ARPAbet phones in time: read from a table, or found in sound whose words are known.

    python -m training.phones --source SPEECH --words words.tsv --out phones.tsv

A track of phones is uint8 [steps], an index of :data:`PHONES` for every 10 ms. Alignment is
pocketsphinx's, with the English models and dictionary of its package. The words' table has the
columns clip and words; with --recognise, clips that it lacks, or whose words are not in the
dictionary, are recognised first, which is rough: of seven clips of read speech 46 to 93 % of the
steps got the phone that the true words give.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from kfusion.config import SAMPLE_RATE
from kfusion.errors import DataError, run_command
from training.corpus.clips import SOUNDS, Samples, read_sound

PhoneTrack = NDArray[np.uint8]

SILENCE: Final = "SIL"
# fmt: off
PHONES: Final = (
    SILENCE,
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH",
    "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH",
    "UW", "V", "W", "Y", "Z", "ZH",
)
# fmt: on
PHONE_INDEX: Final = {name: k for k, name in enumerate(PHONES)}
STEP_S: Final = 0.01
STEP_SAMPLES: Final = SAMPLE_RATE // 100
"""Samples of a step."""
UNKNOWN: Final = 255
MAX_STEPS: Final = 24 * 3600 * 100
"""Steps of a day: no clip is longer."""


class Unaligned(DataError):
    """These words were not found in this sound."""


class Aligner:
    """Finds when each phone of known words is spoken; with ``recognise``, the words too."""

    def __init__(self, *, recognise: bool = False) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise DataError("alignment needs pocketsphinx: pip install kfusion[training]") from None
        quiet: dict[str, Any] = {"samprate": SAMPLE_RATE, "loglevel": "FATAL"}
        # The best path through the lattice may begin with a word of no length, which the second
        # pass cannot align.
        self._aligner: Any = Decoder(lm=None, bestpath=False, **quiet)
        self._recogniser: Any = Decoder(**quiet) if recognise else None

    def align(self, samples: Samples, words: str) -> PhoneTrack:
        """16 kHz samples of -1..1 and their words -> phones, [len // 160]; about 30 ms a second.

        Raises :class:`Unaligned` where a word is not in the dictionary or the words do not fit.
        """
        spoken = words.lower().split()
        absent = [w for w in spoken if self._aligner.lookup_word(w) is None]
        if not spoken:
            raise Unaligned("no words are known of this sound")
        if absent:
            raise Unaligned(f"words {', '.join(absent)} are not in the dictionary")
        if len(samples) < STEP_SAMPLES:
            raise Unaligned(f"{len(samples)} samples of sound hold no phone")
        pcm = _pcm(samples)
        try:
            self._aligner.set_align_text(" ".join(spoken))
            _decode(self._aligner, pcm)
            self._aligner.set_alignment()  # what the first pass found, now phone by phone
            _decode(self._aligner, pcm)
        except RuntimeError as error:
            raise Unaligned(f"{words!r} does not fit the sound ({error})") from None
        track = np.zeros(len(samples) // STEP_SAMPLES, np.uint8)
        for word in self._aligner.get_alignment() or ():
            for phone in word:
                track[phone.start : phone.start + phone.duration] = PHONE_INDEX.get(phone.name, 0)
        return track

    def recognise(self, samples: Samples) -> str:
        """The words of 16 kHz samples, as understood; of an aligner made with ``recognise``."""
        if len(samples) < STEP_SAMPLES:
            return ""
        _decode(self._recogniser, _pcm(samples))
        hypothesis = self._recogniser.hyp()
        return hypothesis.hypstr if hypothesis else ""


def _pcm(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def _decode(decoder: Any, pcm: bytes) -> None:
    decoder.reinit_feat()  # else what is heard depends a little on the sound before it
    decoder.start_utt()
    try:
        decoder.process_raw(pcm, full_utt=True)
    finally:
        decoder.end_utt()


@lru_cache(1)
def _aligner(recognise: bool) -> Aligner:
    return Aligner(recognise=recognise)


def _align_file(job: tuple[Path, str | None, bool]) -> PhoneTrack | str:
    """A clip's track, or why there is none."""
    path, words, recognise = job
    try:
        samples = read_sound(path)
        aligner = _aligner(recognise)
        try:
            return aligner.align(samples, words or "")
        except Unaligned:
            if not recognise:
                raise
            return aligner.align(samples, aligner.recognise(samples))
    except DataError as error:
        return str(error)


def align_files(
    sounds: Iterable[Path], words: Mapping[str, str], *, recognise: bool, processes: int
) -> Iterator[tuple[str, PhoneTrack | str]]:
    """(name, track or the reason for none) of each sound file, in order."""
    jobs = [(path, words.get(path.stem), recognise) for path in sounds]
    with ProcessPoolExecutor(processes) as pool:
        names = (path.stem for path, _, _ in jobs)
        yield from zip(names, pool.map(_align_file, jobs, chunksize=4), strict=True)


def read_phones(path: Path) -> dict[str, PhoneTrack]:
    """A table of clip, start_s, end_s, phone (tab-separated) -> each clip's track, up to the end
    of its last phone. What no line names is silence.

    Raises :class:`~kfusion.errors.DataError`.
    """
    spans: dict[str, list[tuple[int, int, int]]] = {}
    number = 1
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file, delimiter="\t"):
                number += 1
                start, end = (round(float(line[name]) / STEP_S) for name in ("start_s", "end_s"))
                if not 0 <= start <= end <= MAX_STEPS:
                    raise ValueError(f"from {line['start_s']} to {line['end_s']} s")
                spans.setdefault(line["clip"], []).append((start, end, PHONE_INDEX[line["phone"]]))
    except (OSError, KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        wanted = "clip, start_s, end_s and an ARPAbet phone without stress, separated by tabs"
        raise DataError(
            f"{path}, line {number}: no table of phones ({error!r}); wanted lines of {wanted}"
        ) from None
    tracks: dict[str, PhoneTrack] = {}
    for clip, each in spans.items():
        track = np.zeros(max(end for _, end, _ in each), np.uint8)
        for start, end, phone in each:
            track[start:end] = phone
        tracks[clip] = track
    return tracks


def phone_spans(track: PhoneTrack) -> Iterator[tuple[int, int, str]]:
    """(first step, step after the last, phone) of a track without :data:`UNKNOWN`, in order."""
    if not len(track):
        return
    edges = np.flatnonzero(np.diff(track)) + 1
    for start, end in zip([0, *edges], [*edges, len(track)], strict=True):
        yield int(start), int(end), PHONES[track[start]]


def phones_at(track: PhoneTrack, seconds: NDArray[Any]) -> PhoneTrack:
    """The phone at times (s), of the same shape; :data:`UNKNOWN` outside the track."""
    if not len(track):
        return np.full(seconds.shape, UNKNOWN, np.uint8)
    step = np.floor(seconds / STEP_S + 1e-6).astype(np.int64)
    inside = (step >= 0) & (step < len(track))
    return np.where(inside, track[np.clip(step, 0, len(track) - 1)], UNKNOWN).astype(np.uint8)


def read_words(path: Path) -> dict[str, str]:
    """A table with the columns clip and words (tab-separated) -> words by clip."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file, delimiter="\t")
            return {line["clip"]: line["words"] or "" for line in lines}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: {error!r}; wanted columns clip and words, by tabs") from None


def run(options: argparse.Namespace) -> None:
    words = read_words(options.words)
    sounds = sorted(f for f in options.source.iterdir() if f.suffix in SOUNDS)
    sounds = [f for f in sounds if options.recognise or f.stem in words]
    if not sounds:
        raise DataError(f"{options.source}: no sound that {options.words} has words for")
    Aligner()  # says at once where pocketsphinx is not there
    without = 0
    with options.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(["clip", "start_s", "end_s", "phone"])
        tracks = align_files(
            sounds, words, recognise=options.recognise, processes=options.processes
        )
        for name, track in tqdm(tracks, total=len(sounds), unit="clip", mininterval=5):
            if isinstance(track, str):
                without += 1
                print(f"{name}: {track}", file=sys.stderr)
                continue
            for start, end, phone in phone_spans(track):
                table.writerow([name, f"{start * STEP_S:.2f}", f"{end * STEP_S:.2f}", phone])
    print(f"{options.out}: {len(sounds) - without} clips, without phones: {without}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of sound files")
    parser.add_argument("--words", type=Path, required=True, help="table of clip, words")
    parser.add_argument(
        "--out", type=Path, required=True, help="table of clip, start_s, end_s, phone"
    )
    parser.add_argument(
        "--recognise", action="store_true", help="clips whose words are not known too"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args(argv)
    return run_command("training.phones", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
