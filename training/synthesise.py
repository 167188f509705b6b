"""Sentences spoken by flite's voices: fluent speech whose words are known.

    python -m training.synthesise --words words.tsv --out SPEECH --count 1000

Every sentence is spoken once, by a voice and at a pace drawn from its number; the words' table that
training.phones asks for is written beside the sounds.
"""

import argparse
import csv
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from tqdm import tqdm

from kfusion.errors import DataError, run_command
from training.phones import read_words

VOICES: Final = ("awb", "rms", "slt")
PACES: Final = (0.75, 1.1)
"""Durations against the voice's own."""


def run_flite(words: str, voice: str, stretch: float, out: Path) -> None:
    """Writes a sound file. Raises DataError where flite does not."""
    command = ["flite", "-voice", voice, "--setf", f"duration_stretch={stretch:.3f}"]
    done = subprocess.run(
        [*command, "-t", words, "-o", str(out)], capture_output=True, text=True, check=False
    )
    if done.returncode or not out.exists():
        raise DataError(f"flite said nothing of {words!r}: {done.stderr.strip() or 'no file'}")


def synthesise(sentences: Sequence[str], out: Path, processes: int, seed: int = 0) -> Path:
    """Sounds ``VOICE-NUMBER.wav`` and words.tsv in a folder; the table's path."""
    if shutil.which("flite") is None:
        raise DataError("flite is not installed; wanted Debian's package of that name")
    out.mkdir(parents=True, exist_ok=True)

    def one(job: tuple[int, str]) -> tuple[str, str]:
        rng = np.random.default_rng([seed, job[0]])
        voice = VOICES[rng.integers(len(VOICES))]
        name = f"{voice}-{job[0]:05d}"
        if not (out / f"{name}.wav").exists():
            run_flite(job[1], voice, rng.uniform(*PACES), out / f"{name}.wav")
        return name, job[1]

    table = out / "words.tsv"
    with (
        table.open("w", newline="", encoding="utf-8") as file,
        ThreadPoolExecutor(processes) as pool,
    ):
        rows = csv.writer(file, delimiter="\t", lineterminator="\n")
        rows.writerow(["clip", "words"])
        jobs = pool.map(one, enumerate(sentences))
        rows.writerows(tqdm(jobs, total=len(sentences), unit="sentence", mininterval=5))
    return table


def run(options: argparse.Namespace) -> None:
    sentences = {words for path in options.words for words in read_words(path).values()}
    longest = sorted(sentences, key=lambda s: (-len(s), s))[: options.count]
    print(synthesise(longest, options.out, options.processes))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--words", type=Path, nargs="+", required=True, help="tables of clip, words"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000, help="sentences, the longest first")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    return run_command("training.synthesise", lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
