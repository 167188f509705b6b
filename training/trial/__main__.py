"""Tries one checkpoint on everything that a bundled model must do::

    python -m training.trial kfusion/weights/compact.safetensors --data DATA --out trial/

DATA holds the sets grid_s1, grid_others, mead_speech, speakers, mead_expressions, voices,
speechocean, librispeech and the table grid_s1_phones.tsv. It measures: each figure stands beside
its bound and whether it holds, and the exit status says nothing of that. --out gets trial.md and
trial.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch

from kfusion.errors import DataError, run_command
from kfusion.runtime import Animator
from training.bench.timing import in_turns
from training.export import inputs
from training.scores.video import write_side_by_side
from training.trial.accuracy import accuracy
from training.trial.emotion import dial
from training.trial.model import Subject, open_engine
from training.trial.report import Lines, Section
from training.trial.robustness import changed
from training.trial.silence import silence
from training.trial.unseen_voices import voices

SPEED_SECONDS: Final = 5.0


def speed(subject: Subject) -> Section:
    """Milliseconds per window at batch 1."""
    engine = subject.animator.engine
    window = [part.astype(np.float32) for part in inputs(1, 1)]
    (times,) = in_turns([lambda: engine.step(*window)], SPEED_SECONDS)
    row = [engine.name, len(times), float(np.median(times)), float(np.percentile(times, 95))]
    head = ["engine", "windows", "median, ms", "95 % within, ms"]
    return Section(
        "speed",
        "One window at a time, on as many threads as --threads says. No bound: it is the "
        "machine's as much as the model's.",
        tables=[Lines("", head, [row])],
    )


SECTIONS: Final[dict[str, Callable[[Subject], Section]]] = {
    "accuracy": accuracy,
    "silence": silence,
    "changed": changed,
    "voices": voices,
    "dial": dial,
    "speed": speed,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(
        prog="kfusion-trial",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("model", type=Path, help="a .safetensors checkpoint, or its .onnx")
    p.add_argument("--data", type=Path, required=True, help="folder of the sets")
    p.add_argument("--out", type=Path, metavar="FOLDER")
    p.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION",
                   help=f"of {', '.join(SECTIONS)}")  # fmt: skip
    p.add_argument("--videos", type=Path, metavar="FOLDER", help="truth beside prediction, MP4")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args(argv)
    if a.threads < 1:
        p.error(f"--threads is {a.threads}; wanted 1 or more")
    given = sys.argv[1:] if argv is None else argv
    a.command = shlex.join(["python", "-m", "training.trial", *given])
    return a


def run(a: argparse.Namespace) -> None:
    torch.set_num_threads(a.threads)
    engine = open_engine(a.model, a.threads)
    if not a.data.is_dir():
        raise DataError(f"{a.data}: is no folder; wanted one with the sets of tracked speech")
    subject = Subject(Animator(engine), a.data)
    about = {"command": a.command, "model": a.model.name, "engine": engine.name,
             "sha256": engine.sha256}  # fmt: skip
    head = f"# Trial of {a.model.name}\n\n`{a.command}`\n\n{engine.name}, sha256 {engine.sha256}"
    print(head)
    sections: list[Section] = []
    for name in a.only or SECTIONS:
        start = perf_counter()
        section = SECTIONS[name](subject)
        section.seconds = perf_counter() - start
        sections.append(section)
        print(f"\n{section.markdown}", flush=True)
    total = f"\n{summary(sections)}"
    print(total)
    if a.videos:
        write_videos(subject, a.videos)
    if a.out:
        told = "\n\n".join([head, *(s.markdown for s in sections)])
        write(a.out, f"{told}\n{total}\n", {**about, "sections": [s.json for s in sections]})


def write_videos(subject: Subject, folder: Path) -> None:
    """Five validation clips of grid_s1, every one of grid_others and three of speakers, with
    sound, at hop 3, look-ahead 3.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = subject.animator.engine.name
    clips = [*subject.some(5), *subject.clips("grid_others"), *subject.clips("speakers")[:3]]
    for clip in clips:
        said = subject.said(clip.audio, clip.identity)
        write_side_by_side(folder / f"{clip.name}.mp4", clip, said, name)


def summary(sections: Sequence[Section]) -> str:
    """What holds and what does not, in a few lines."""
    held, all_of = sum(s.held for s in sections), sum(len(s.checks) for s in sections)
    took = sum(s.seconds for s in sections)
    lines = ["## In short", "", f"{held} of {all_of} bounds hold; measured in {took:.0f} s."]
    lines += [
        f"- {s.name}: {c.what}: {c.cells[1]}, wanted {c.bound}"
        for s in sections
        for c in s.checks
        if not c.holds
    ]
    return "\n".join(lines)


def write(out: Path, told: str, whole: dict[str, Any]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "trial.md").write_text(told, encoding="utf-8")
        (out / "trial.json").write_text(json.dumps(whole, indent=1, allow_nan=False))
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error})") from None


def main(argv: Sequence[str] | None = None) -> int:
    a = arguments(argv)
    return run_command("kfusion-trial", lambda: run(a))


if __name__ == "__main__":
    raise SystemExit(main())
